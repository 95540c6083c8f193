//! The router before the real thing: Redis, Consul, and PostgreSQL's way of encrypting a connection.

use std::process::{Child, Command, Stdio};

use http_body_util::Full;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;

use super::*;
use crate::fixture::real_consul::{RealConsul, free_ports};
use crate::fixture::{Site, uuid};

/// A Redis of the real kind, alone or as a replica.
struct Redis {
    port: u16,
    child: Child,
    _directory: tempfile::TempDir,
}

impl Redis {
    fn start(of: Option<u16>) -> Self {
        let program = std::env::var("BALLAST_REDIS").unwrap();
        let [port] = free_ports();
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new(program);
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""]);
        command.arg("--dir").arg(directory.path());
        command.args(["--repl-diskless-sync-delay", "0", "--requirepass", "secret"]);
        command.args(["--masterauth", "secret"]);
        if let Some(of) = of {
            command.args(["--replicaof", "127.0.0.1", &of.to_string()]);
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        Self { port, child, _directory: directory }
    }

    /// Tells it something on a connection of its own.
    async fn tell(&self, words: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        say(&mut stream, "AUTH secret\r\n").await?;
        say(&mut stream, &format!("{words}\r\n")).await
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[tokio::test]
#[ignore = "needs BALLAST_REDIS"]
async fn sessions_follow_a_real_redis_from_one_primary_to_the_next() {
    let a = Redis::start(None);
    let b = Redis::start(Some(a.port));
    let following = async || b.tell("ROLE").await.unwrap_or_default();
    eventually("the replica follows", following, |said| said.contains("connected")).await;
    let text = format!(
        "availability = \"fast\"\n[service.cache]\nkind = \"redis\"\nnodes = [\"127.0.0.1:{}\", \"127.0.0.1:{}\"]\n\
         [[endpoint]]\nname = \"redis primary\"\nservice = \"cache\"\nto = \"primary\"\nlisten = \"127.0.0.1:0\"\n\
         [[endpoint]]\nname = \"redis replicas\"\nservice = \"cache\"\nto = \"replicas\"\nlisten = \"127.0.0.1:0\"\n",
        a.port, b.port
    );
    let environment = |name: &str| (name == "BALLAST_CACHE_PASSWORD").then(|| "secret".to_owned());
    let router = Router::with(&text, &environment).await;
    let mut client = router.connect(PRIMARY).await;
    assert_eq!(say(&mut client, "AUTH secret\r\n").await.unwrap(), "+OK\r\n");
    assert_eq!(say(&mut client, "SET key one\r\n").await.unwrap(), "+OK\r\n");
    let mut reader = router.connect(REPLICAS).await;
    assert_eq!(say(&mut reader, "AUTH secret\r\n").await.unwrap(), "+OK\r\n");
    assert!(say(&mut reader, "SET key two\r\n").await.unwrap().starts_with("-READONLY"));

    b.tell("REPLICAOF NO ONE").await.unwrap();
    a.tell(&format!("REPLICAOF 127.0.0.1 {}", b.port)).await.unwrap();
    let ended = timeout(Duration::from_secs(5), client.read_u8()).await.expect("it goes on");
    assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    let mut client = router.connect(PRIMARY).await;
    assert_eq!(say(&mut client, "AUTH secret\r\n").await.unwrap(), "+OK\r\n");
    assert_eq!(say(&mut client, "SET key two\r\n").await.unwrap(), "+OK\r\n");
    assert_eq!(b.tell("GET key").await.unwrap(), "$3\r\ntwo\r\n");
}

/// Tells Consul that this node is one of the service, and whether it has the tag.
async fn register(consul: SocketAddr, node: &Node, tags: &[&str]) -> u16 {
    let body = json!({
        "ID": node.name, "Name": "cache", "Address": "127.0.0.1", "Port": node.address.port(), "Tags": tags,
        "Checks": [{ "CheckID": node.name, "Name": node.name, "TTL": "60s", "Status": "passing" }],
    });
    let request = hyper::Request::put("/v1/agent/service/register")
        .header("X-Consul-Token", uuid(1))
        .body(Full::from(body.to_string()))
        .unwrap();
    let reply = crate::http::send(&consul.to_string(), request).await.unwrap();
    reply.status.as_u16()
}

#[tokio::test]
#[ignore = "needs BALLAST_CONSUL"]
async fn a_tag_that_moves_in_a_real_consul_moves_the_sessions_and_a_wrong_token_is_said() {
    let consul = RealConsul::start(&uuid(1));
    let (a, b) = (Node::start("a", Word::Primary).await, Node::start("b", Word::Replica).await);
    let leads =
        async || crate::fixture::real_consul::ask(consul.http, "/v1/status/leader", None).await;
    eventually("Consul leads", leads, |(_, leader)| leader.as_str().is_some_and(|l| !l.is_empty()))
        .await;
    // The token is there a moment after the leader.
    let registered = async || register(consul.http, &a, &["primary"]).await;
    eventually("Consul takes the service", registered, |status| *status == 200).await;
    assert_eq!(register(consul.http, &b, &["replica"]).await, 200);
    // The first of the servers is not there: the next one is asked.
    let [nobody] = free_ports();
    let text = format!(
        "availability = \"wide\"\nwait_ms = 3000\n[consul]\nservers = [\"http://127.0.0.1:{nobody}\", \"http://{}\"]\n\
         [service.cache]\nkind = \"redis\"\n\
         [[endpoint]]\nname = \"redis primary\"\nservice = \"cache\"\nto = \"primary\"\nlisten = \"127.0.0.1:0\"\n",
        consul.http
    );
    let with_token =
        |token: String| move |name: &str| (name == "BALLAST_CONSUL_TOKEN").then(|| token.clone());
    let router = Router::with(&text, &with_token(uuid(1))).await;
    let mut client = router.connect(PRIMARY).await;
    assert_eq!(who(&mut client).await.unwrap(), "a");

    // Nobody is asked by itself for seconds: it is Consul's word that wakes the router.
    b.is_now(Word::Primary);
    a.is_now(Word::Replica);
    assert_eq!(register(consul.http, &a, &["replica"]).await, 200);
    let moved = Instant::now();
    assert_eq!(register(consul.http, &b, &["primary"]).await, 200);
    let ended = async { while client.read(&mut [0; 64]).await.is_ok_and(|n| n > 0) {} };
    timeout(Duration::from_secs(5), ended).await.expect("the session goes on");
    assert!(moved.elapsed() < Duration::from_secs(1), "after {:?}", moved.elapsed());
    assert_eq!(who(&mut router.connect(PRIMARY).await).await.unwrap(), "b");

    let router = Router::with(&text, &with_token(uuid(9))).await;
    let answer = say(&mut router.connect(PRIMARY).await, "PING\r\n").await.unwrap();
    assert!(answer.starts_with("-LOADING redis primary: "), "{answer}");
    assert!(answer.contains("ACL not found") || answer.contains("no answer"), "{answer}");
}

/// A PostgreSQL as far as a session begins: it encrypts when it is asked to, and answers every word.
async fn encrypting_postgres(site: &Site) -> SocketAddr {
    let contents = site.contents("n1", "postgres");
    let certificate = CertificateDer::from_pem_slice(contents.cert_pem.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(contents.key_pem.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((site.address(1), 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut request = [0; 8];
                stream.read_exact(&mut request).await?;
                assert_eq!(request, reach::SSL_REQUEST);
                stream.write_all(b"S").await?;
                let mut stream = acceptor.accept(stream).await?;
                let mut bytes = [0; 4096];
                loop {
                    let length = stream.read(&mut bytes).await?;
                    if length == 0 {
                        return stream.shutdown().await;
                    }
                    stream.write_all(&bytes[..length]).await?;
                    stream.flush().await?;
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn the_router_encrypts_what_a_postgresql_client_says_in_the_clear() {
    let site = Site::on_loopback();
    let address = encrypting_postgres(&site).await;
    let directory = tempfile::tempdir().unwrap();
    let ca = directory.path().join("ca.pem");
    std::fs::write(&ca, site.contents("n1", "postgres").ca_pem).unwrap();
    let text = |ca: &Path| {
        format!(
            "wait_ms = 500\n[service.main]\nkind = \"postgres\"\nnodes = [\"{address}\"]\nproof = \"none\"\nca = \"{}\"\n\
             [[endpoint]]\nname = \"postgres primary\"\nservice = \"main\"\nto = \"primary\"\nlisten = \"127.0.0.1:0\"\n",
            ca.display()
        )
    };
    let startup = b"\0\0\0\x09\0\x03\0\0\0";
    let router = Router::start(&text(&ca)).await;
    let mut client = router.connect(0).await;
    // It would like to, and is told that it needn't.
    client.write_all(&reach::SSL_REQUEST).await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'N');
    client.write_all(startup).await.unwrap();
    let mut echo = [0; 9];
    client.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, startup);
    let large = vec![5; 300_000];
    let (mut read, mut write) = client.split();
    let mut back = vec![0; large.len()];
    let (written, read) = tokio::join!(write.write_all(&large), read.read_exact(&mut back));
    written.unwrap();
    read.unwrap();
    assert_eq!(back, large);

    // Another site's authority did not sign this.
    let other = directory.path().join("other.pem");
    std::fs::write(&other, Site::with_key(9).contents("n1", "postgres").ca_pem).unwrap();
    let router = Router::start(&text(&other)).await;
    let mut client = router.connect(0).await;
    client.write_all(startup).await.unwrap();
    let answer = hear(&mut client).await.unwrap();
    assert!(answer.contains("encrypting the connection"), "{answer}");
}
