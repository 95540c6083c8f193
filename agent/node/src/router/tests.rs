//! What the router promises over real sockets: nodes are small servers of the test's own that say what they are told to be.

mod foreign;
mod refused;

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::*;
use crate::fixture::real_consul::eventually;

/// What a node says of itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Primary,
    Replica,
    Loading,
    /// It takes connections and says nothing.
    Mute,
}

/// A node: answers `ROLE` as it is told to, and every other word with its name and the word.
struct Node {
    name: &'static str,
    address: SocketAddr,
    word: Mutex<Word>,
    /// When it first said what it is now.
    told: Mutex<Option<Instant>>,
    sessions: AtomicUsize,
    /// Bytes that it could send to a client that asked for a flood.
    sent: AtomicU64,
}

impl Node {
    async fn start(name: &'static str, word: Word) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let node = Arc::new(Self {
            name,
            address: listener.local_addr().unwrap(),
            word: Mutex::new(word),
            told: Mutex::default(),
            sessions: AtomicUsize::new(0),
            sent: AtomicU64::new(0),
        });
        let this = node.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let this = this.clone();
                tokio::spawn(async move { this.serve(stream).await.ok() });
            }
        });
        node
    }

    fn is_now(&self, word: Word) {
        *self.word.lock().unwrap() = word;
        *self.told.lock().unwrap() = None;
    }

    async fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut bytes = [0; 4096];
        let mut is_session = false;
        loop {
            let length = stream.read(&mut bytes).await?;
            let said = &bytes[..length];
            if length == 0 {
                if is_session {
                    stream.write_all(b"the end").await?;
                }
                return Ok(());
            }
            if said == b"*1\r\n$4\r\nROLE\r\n" {
                let word = *self.word.lock().unwrap();
                let answer = match word {
                    Word::Primary => "*3\r\n$6\r\nmaster\r\n:7\r\n*0\r\n",
                    Word::Replica => {
                        "*5\r\n$5\r\nslave\r\n$9\r\n127.0.0.1\r\n:1\r\n$9\r\nconnected\r\n:7\r\n"
                    }
                    Word::Loading => "-LOADING Redis is loading\r\n",
                    Word::Mute => continue,
                };
                self.told.lock().unwrap().get_or_insert_with(Instant::now);
                stream.write_all(answer.as_bytes()).await?;
                continue;
            }
            if !is_session {
                is_session = true;
                self.sessions.fetch_add(1, Ordering::Relaxed);
            }
            if said == b"flood" {
                let block = [7; 64 << 10];
                loop {
                    let sent = stream.write(&block).await?;
                    self.sent.fetch_add(u64::try_from(sent).unwrap(), Ordering::Relaxed);
                }
            }
            stream.write_all(self.name.as_bytes()).await?;
            stream.write_all(b":").await?;
            stream.write_all(said).await?;
        }
    }
}

/// A router in this test's runtime.
struct Router {
    running: super::Router,
}

impl Router {
    async fn start(text: &str) -> Self {
        Self::with(text, &|_| None).await
    }

    async fn with(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> Self {
        let settings = settings::read("router.toml", text.as_bytes(), environment);
        let settings = settings.unwrap_or_else(|e| panic!("{}", error::chain(&e)));
        Self { running: super::Router::start(&settings).await.unwrap() }
    }

    /// A Redis service with these nodes, and an endpoint for each use.
    async fn of(nodes: &[&Node]) -> Self {
        Self::start(&text(nodes, "")).await
    }

    async fn connect(&self, door: usize) -> TcpStream {
        TcpStream::connect(self.running.doors[door].listen).await.unwrap()
    }
}

const PRIMARY: usize = 0;
const REPLICAS: usize = 1;

fn text(nodes: &[&Node], more: &str) -> String {
    let nodes: Vec<String> = nodes.iter().map(|n| format!("\"{}\"", n.address)).collect();
    format!(
        "availability = \"fast\"\nwait_ms = 1500\n{more}\n[service.cache]\nkind = \"redis\"\nnodes = [{}]\n\
         [[endpoint]]\nname = \"redis primary\"\nservice = \"cache\"\nto = \"primary\"\nlisten = \"127.0.0.1:0\"\n\
         [[endpoint]]\nname = \"redis replicas\"\nservice = \"cache\"\nto = \"replicas\"\nlisten = \"127.0.0.1:0\"\n",
        nodes.join(", ")
    )
}

/// Says a word and hears the answer.
async fn say(stream: &mut TcpStream, word: &str) -> std::io::Result<String> {
    stream.write_all(word.as_bytes()).await?;
    hear(stream).await
}

async fn hear(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut bytes = [0; 1024];
    let reading = timeout(Duration::from_secs(20), stream.read(&mut bytes));
    let length = reading.await.expect("no answer within 20 s")?;
    Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
}

/// An answer may arrive in pieces: its first word says who gave it.
async fn who(stream: &mut TcpStream) -> std::io::Result<String> {
    let answer = say(stream, "hello").await?;
    Ok(answer.split(':').next().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_session_reaches_the_primary_wherever_it_stands_in_the_list() {
    let (a, b) = (Node::start("a", Word::Replica).await, Node::start("b", Word::Primary).await);
    let router = Router::of(&[&a, &b]).await;
    assert_eq!(who(&mut router.connect(PRIMARY).await).await.unwrap(), "b");
    assert_eq!(who(&mut router.connect(REPLICAS).await).await.unwrap(), "a");
}

#[tokio::test]
async fn sessions_are_reset_within_100_ms_of_the_first_word_of_a_change() {
    let (a, b) = (Node::start("a", Word::Primary).await, Node::start("b", Word::Replica).await);
    let router = Router::of(&[&a, &b]).await;
    let mut clients = Vec::new();
    for _ in 0..50 {
        let mut client = router.connect(PRIMARY).await;
        assert_eq!(who(&mut client).await.unwrap(), "a");
        clients.push(client);
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    for client in &mut clients {
        // The rest of an answer that came in pieces.
        let _ = client.try_read(&mut [0; 64]);
    }
    a.is_now(Word::Replica);
    b.is_now(Word::Primary);
    for client in &mut clients {
        let error = client.read(&mut [0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    // Either of the two may have been asked first.
    let told = [&a, &b].into_iter().filter_map(|node| *node.told.lock().unwrap()).min();
    let since = told.expect("one of them said so").elapsed();
    assert!(since <= Duration::from_millis(100), "the last was reset after {since:?}");
    assert_eq!(who(&mut router.connect(PRIMARY).await).await.unwrap(), "b");
    assert_eq!(router.running.doors[PRIMARY].nodes.resets(Use::Primary), 50);
}

#[tokio::test]
async fn a_primary_that_freezes_loses_its_sessions_though_its_sockets_stay_open() {
    let (a, b) = (Node::start("a", Word::Primary).await, Node::start("b", Word::Replica).await);
    let router = Router::of(&[&a, &b]).await;
    let mut client = router.connect(PRIMARY).await;
    assert_eq!(who(&mut client).await.unwrap(), "a");
    a.is_now(Word::Mute);
    b.is_now(Word::Primary);
    let frozen = Instant::now();
    let ended = async { while client.read(&mut [0; 64]).await.is_ok_and(|n| n > 0) {} };
    timeout(Duration::from_secs(10), ended).await.expect("the session goes on");
    // Another promotion is seen within an interval; without one, patience would have ended it.
    assert!(frozen.elapsed() < Duration::from_secs(4), "after {:?}", frozen.elapsed());
    let mut client = router.connect(PRIMARY).await;
    assert_eq!(who(&mut client).await.unwrap(), "b");
    // It wakes up, and still believes to be what it was.
    a.is_now(Word::Primary);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(who(&mut client).await.unwrap(), "b");
    assert_eq!(who(&mut router.connect(PRIMARY).await).await.unwrap(), "b");
}

#[tokio::test]
async fn a_session_that_begins_while_there_is_no_primary_waits_for_one() {
    let a = Node::start("a", Word::Loading).await;
    let router = Router::of(&[&a]).await;
    let mut client = router.connect(PRIMARY).await;
    client.write_all(b"hello").await.unwrap();
    eventually(
        "a session waits",
        async || router.running.doors[PRIMARY].counts.waiting.load(Ordering::Relaxed),
        |n| *n == 1,
    )
    .await;
    a.is_now(Word::Primary);
    assert!(hear(&mut client).await.unwrap().starts_with("a:"));
    assert_eq!(router.running.doors[PRIMARY].counts.waiting.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_client_that_leaves_while_it_waits_is_no_session_any_more() {
    let a = Node::start("a", Word::Loading).await;
    let router = Router::start(&text(&[&a], "").replace("1500", "60000")).await;
    let mut client = router.connect(PRIMARY).await;
    client.write_all(b"hello").await.unwrap();
    let sessions = async || router.running.doors[PRIMARY].counts.sessions.load(Ordering::Relaxed);
    eventually("a session waits", sessions, |n| *n == 1).await;
    drop(client);
    eventually("it is gone", sessions, |n| *n == 0).await;
}

#[tokio::test]
async fn half_of_a_session_may_end_before_the_other() {
    let a = Node::start("a", Word::Primary).await;
    let router = Router::of(&[&a]).await;
    let mut client = router.connect(PRIMARY).await;
    assert_eq!(who(&mut client).await.unwrap(), "a");
    client.write_all(b"goodbye").await.unwrap();
    client.shutdown().await.unwrap();
    let mut all = String::new();
    client.read_to_string(&mut all).await.unwrap();
    assert!(all.ends_with("goodbyethe end"), "{all}");
}

#[tokio::test]
async fn what_a_client_does_not_read_is_not_piled_up() {
    let a = Node::start("a", Word::Primary).await;
    let router = Router::of(&[&a]).await;
    let mut client = router.connect(PRIMARY).await;
    client.write_all(b"flood").await.unwrap();
    // It reads nothing: the node can send what fits into the kernel's buffers, and stops.
    let mut before = 0;
    let still = loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let sent = a.sent.load(Ordering::Relaxed);
        if sent > 0 && sent == before {
            break sent;
        }
        before = sent;
    };
    assert!(still < 32 << 20, "{still} bytes were taken");
    // Others are served, and this one goes on when it reads.
    assert_eq!(who(&mut router.connect(PRIMARY).await).await.unwrap(), "a");
    let mut bytes = vec![0; 1 << 20];
    for _ in 0..64 {
        client.read_exact(&mut bytes).await.unwrap();
    }
    assert!(bytes.iter().all(|b| *b == 7));
}

#[tokio::test]
async fn everything_arrives_as_it_was_sent_both_ways() {
    let a = Node::start("a", Word::Primary).await;
    let router = Router::of(&[&a]).await;
    let (mut read, mut write) = router.connect(PRIMARY).await.into_split();
    let sent: Vec<u8> =
        (0..4_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let body = sent.clone();
    let writing = tokio::spawn(async move {
        write.write_all(&body).await.unwrap();
        write.shutdown().await.unwrap();
    });
    let mut all = Vec::new();
    read.read_to_end(&mut all).await.unwrap();
    writing.await.unwrap();
    let all = all.strip_suffix(b"the end").unwrap();
    // The node puts its name in front of each piece.
    assert!(all.starts_with(b"a:"));
    let mut rest = sent.as_slice();
    let mut taken = 0;
    while taken < all.len() {
        let piece = &all[taken + 2..];
        assert_eq!(&all[taken..taken + 2], b"a:");
        let same = piece.iter().zip(rest).take_while(|(x, y)| x == y).count();
        // A name may look like what was sent: what stands before the next name is a piece.
        let end = (1..=same).rev().find(|n| piece.len() == *n || (piece[*n..].starts_with(b"a:")));
        let end = end.expect("a piece that was never sent");
        rest = &rest[end..];
        taken += 2 + end;
    }
    assert!(rest.is_empty(), "{} bytes are missing", rest.len());
}

#[tokio::test]
async fn a_client_that_says_nothing_keeps_nobody_out() {
    let a = Node::start("a", Word::Primary).await;
    let router = Router::of(&[&a]).await;
    let mut quiet = Vec::new();
    for _ in 0..200 {
        quiet.push(router.connect(PRIMARY).await);
    }
    assert_eq!(who(&mut router.connect(PRIMARY).await).await.unwrap(), "a");
    for client in &mut quiet {
        assert_eq!(who(client).await.unwrap(), "a");
    }
}

#[tokio::test]
async fn more_sessions_than_there_may_be_are_told_so_and_the_others_stay() {
    let a = Node::start("a", Word::Primary).await;
    let router = Router::start(&text(&[&a], "max_sessions = 2")).await;
    let mut kept = [router.connect(PRIMARY).await, router.connect(PRIMARY).await];
    for client in &mut kept {
        assert_eq!(who(client).await.unwrap(), "a");
    }
    let refused = hear(&mut router.connect(PRIMARY).await).await.unwrap();
    assert!(refused.starts_with("-ERR max number of clients reached: redis primary"), "{refused}");
    assert_eq!(who(&mut kept[0]).await.unwrap(), "a");
}
