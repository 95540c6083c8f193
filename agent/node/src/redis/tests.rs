//! What a group of three promises, with real Redis and Sentinel: each node a loopback address, its own disk and its own agent.

mod bad_input;
mod switchover;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use ballast_bundle::{Contents, Identity};
use ballast_contract::Availability;

use super::*;
use crate::fixture::{self, real_consul::eventually};
use crate::plan::redis::{Kept, Wanted, files};
use crate::role::{PRIMARY, REPLICA};
use crate::root::Root;
use crate::state::{Answer, Health};

/// One node: its disk, its two programs while they run, and its agent.
struct Node {
    contents: Contents,
    directory: tempfile::TempDir,
    programs: Vec<Child>,
    agent: Option<Started>,
}

impl Node {
    fn new(site: &fixture::Site, name: &str) -> Self {
        let mut contents = site.redis_contents(name);
        // Patient enough for a machine that is busy with other tests.
        contents.node.timings = Availability::Normal.timings();
        if let Some(redis) = &mut contents.node.redis {
            redis.max_memory_bytes = Some(64 << 20);
        }
        let directory = tempfile::tempdir().unwrap();
        Self { contents, directory, programs: Vec::new(), agent: None }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn layout(&self) -> Layout {
        let place = |name: &str| self.at(name).display().to_string();
        Layout {
            bind: self.contents.node.network.address.addr().to_string(),
            run: place("run"),
            home: place("home"),
            redis_socket: place("redis.sock"),
            sentinel_socket: place("sentinel.sock"),
        }
    }

    /// What the boot step does, then systemd, then `ballast-agent run`.
    fn boot(&mut self) {
        self.write_files();
        self.start_program("redis.conf", &[]);
        self.start_program("sentinel.conf", &["--sentinel"]);
        self.agent = Some(start_group(self.group()).unwrap());
    }

    fn group(&self) -> Group {
        let Contents { node, secrets, ca_pem, .. } = &self.contents;
        Group {
            name: "redis".into(),
            me: Member { name: node.node.name.clone(), address: node.network.address.addr() },
            members: node.redis.as_ref().unwrap().members.clone(),
            timings: node.timings,
            secrets: secrets.redis.clone().unwrap(),
            ca_pem: ca_pem.clone(),
            layout: self.layout(),
            tidy_round: Duration::from_secs(3),
        }
    }

    fn write_files(&self) {
        let layout = self.layout();
        let root = Root::new("/");
        let kept = Kept::load(&root, &layout).unwrap();
        let Contents { node, secrets, ca_pem, cert_pem, key_pem, .. } = &self.contents;
        let wanted = Wanted {
            node,
            redis: node.redis.as_ref().unwrap(),
            secrets: secrets.redis.as_ref().unwrap(),
            memory_bytes: 1 << 30,
            layout: &layout,
        };
        let certificates = [ca_pem, cert_pem, key_pem].map(|pem| pem.clone().into_bytes());
        for file in files(&wanted, &kept, &certificates) {
            crate::root::save(Path::new(&file.path), &file.bytes, file.mode, None).unwrap();
        }
        std::fs::create_dir_all(self.at("home/data")).unwrap();
    }

    fn start_program(&mut self, configuration: &str, arguments: &[&str]) {
        let redis = std::env::var("BALLAST_REDIS").unwrap();
        let log = self.at(&format!("{configuration}.log"));
        let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
        let child = Command::new(&redis)
            .arg(self.at("home").join(configuration))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.programs.push(child);
    }

    fn signal(&self, signal: nix::sys::signal::Signal) {
        for program in &self.programs {
            let pid = nix::unistd::Pid::from_raw(i32::try_from(program.id()).unwrap());
            nix::sys::signal::kill(pid, signal).unwrap();
        }
    }

    fn signal_program(&self, number: usize, signal: nix::sys::signal::Signal) {
        let pid = i32::try_from(self.programs[number].id()).unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
    }

    /// The power goes: everything stops in the middle of what it does.
    fn kill(&mut self) {
        if let Some((.., agent)) = self.agent.take() {
            agent.abort();
        }
        for mut program in self.programs.drain(..) {
            program.kill().unwrap();
            program.wait().unwrap();
        }
    }

    fn lose_the_disk(&self) {
        std::fs::remove_dir_all(self.at("home")).unwrap();
    }

    fn role(&self) -> String {
        self.agent.as_ref().map_or("off".to_owned(), |(watches, ..)| {
            let view = watches.roles.borrow().clone();
            let tag = view.tags.first().cloned();
            let unsure = format!("unsure: {}", view.answer.output);
            tag.filter(|_| view.answer.health == Health::Passing).unwrap_or(unsure)
        })
    }

    fn checks(&self) -> [Answer; 5] {
        let (watches, ..) = self.agent.as_ref().unwrap();
        let snapshot = watches.snapshots.borrow();
        [
            check::ask(&snapshot, check::role),
            check::ask(&snapshot, check::replication),
            check::ask(&snapshot, check::sentinel),
            check::ask(&snapshot, check::persistence),
            check::ask(&snapshot, |s| check::memory(s, 85, 98)),
        ]
    }

    fn plan(
        &self,
        to: Option<&str>,
    ) -> Result<super::switchover::Plan, super::switchover::Refusal> {
        let (watches, ..) = self.agent.as_ref().unwrap();
        let name = &self.contents.node.node.name;
        super::switchover::plan("redis", name, &watches.snapshots.borrow(), to)
    }

    /// What the agent does when an operator asks for another primary.
    async fn hand_over(&self, to: &Node) -> Result<(), String> {
        let (_, tell, _) = self.agent.as_ref().unwrap();
        let Identity { name, .. } = &to.contents.node.node;
        let to = Member { name: name.clone(), address: to.contents.node.network.address.addr() };
        super::switchover::hand_over(&self.group(), &to, tell).await
    }

    /// A session of the application, which stays.
    fn session(&self) -> Server {
        let address = self.contents.node.network.address.addr();
        let secrets = self.contents.secrets.redis.as_ref().unwrap();
        let (place, ca) = ((address, REDIS_PORT), &self.contents.ca_pem);
        Server::remote_as("app", "Redis", place, ca, &secrets.app, DEADLINE).unwrap()
    }

    /// A command as the application sends it.
    async fn ask(&self, command: &[&str]) -> Result<String, String> {
        client::or_text(self.session().ask::<String>(command).await)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for log in ["redis.conf.log", "sentinel.conf.log"] {
                let text = std::fs::read_to_string(self.at(log)).unwrap_or_default();
                let last: Vec<&str> = text.lines().rev().take(25).collect();
                eprintln!("--- {} {log}", self.contents.node.node.name);
                last.iter().rev().for_each(|line| eprintln!("{line}"));
            }
        }
        for program in &mut self.programs {
            let _ = program.kill();
            let _ = program.wait();
        }
    }
}

fn three() -> [Node; 3] {
    let site = fixture::Site::on_loopback();
    ["n4", "n5", "n6"].map(|name| Node::new(&site, name))
}

fn roles(nodes: &[Node; 3]) -> [String; 3] {
    nodes.each_ref().map(Node::role)
}

fn whole(roles: &[String; 3]) -> bool {
    let count = |tag: &str| roles.iter().filter(|role| *role == tag).count();
    (count(PRIMARY), count(REPLICA)) == (1, 2)
}

async fn become_whole(nodes: &[Node; 3]) -> usize {
    let roles = eventually("one primary and two replicas", async || roles(nodes), whole).await;
    roles.iter().position(|role| role == PRIMARY).unwrap()
}

/// Writes until a write is taken: a primary refuses them until a replica hears it.
async fn write(node: &Node, key: &str, value: &str) {
    let set = async || node.ask(&["SET", key, value]).await;
    eventually("a write is taken", set, |result| result.is_ok()).await.unwrap();
    // Shorter than the client waits for any answer.
    let waited = async || node.ask(&["WAIT", "2", "100"]).await;
    eventually("both replicas have it", waited, |count| count.as_deref() == Ok("2")).await.unwrap();
}

async fn reads(nodes: &[Node; 3], key: &str, value: &str) {
    reads_from(nodes, key, value).await;
}

async fn reads_from(nodes: &[Node], key: &str, value: &str) {
    for node in nodes {
        let get = async || node.ask(&["GET", key]).await;
        eventually("the value is there", get, |got| got.as_deref() == Ok(value)).await.unwrap();
    }
}

async fn all_is_well(nodes: &[Node; 3]) {
    for node in nodes {
        let passing = |answers: &[Answer; 5]| answers.iter().all(|a| a.health == Health::Passing);
        eventually("all checks are passing", async || node.checks(), passing).await;
    }
}

#[tokio::test]
#[ignore = "needs BALLAST_REDIS, the path of redis-server 8"]
async fn three_empty_nodes_form_one_group_and_replace_a_primary_that_is_killed() {
    let mut nodes = three();
    nodes.iter_mut().for_each(Node::boot);
    assert_eq!(become_whole(&nodes).await, 0, "the first member is the first primary");
    write(&nodes[0], "before", "1").await;
    all_is_well(&nodes).await;

    nodes[0].kill();
    let start = Instant::now();
    let promoted = async || nodes[1..].iter().position(|node| node.role() == PRIMARY);
    let promoted = eventually("another is primary", promoted, Option::is_some).await.unwrap() + 1;
    println!("from the kill to the tag: {} ms", start.elapsed().as_millis());
    let follows = |role: &String| role == REPLICA;
    eventually("the third follows it", async || nodes[3 - promoted].role(), follows).await;
    nodes[0].boot();
    assert_eq!(become_whole(&nodes).await, promoted, "it comes back as a replica");
    write(&nodes[promoted], "after", "2").await;
    reads(&nodes, "before", "1").await;
    reads(&nodes, "after", "2").await;
    all_is_well(&nodes).await;
}

#[tokio::test]
#[ignore = "needs BALLAST_REDIS, the path of redis-server 8"]
async fn a_primary_whose_disk_is_lost_and_that_boots_first_empties_nobody() {
    let mut nodes = three();
    nodes.iter_mut().for_each(Node::boot);
    become_whole(&nodes).await;
    write(&nodes[0], "key", "kept").await;
    all_is_well(&nodes).await;

    nodes.iter_mut().for_each(Node::kill);
    nodes[0].lose_the_disk();
    nodes[0].boot();
    let waits = |role: &String| role.contains("waiting for all members");
    eventually("it waits for the others", async || nodes[0].role(), waits).await;
    nodes[1].boot();
    nodes[2].boot();
    assert_ne!(become_whole(&nodes).await, 0, "it is no primary again");
    reads(&nodes, "key", "kept").await;
    all_is_well(&nodes).await;
}

#[tokio::test]
#[ignore = "needs BALLAST_REDIS, the path of redis-server 8"]
async fn a_group_that_is_switched_off_and_on_at_once_comes_back_as_it_was() {
    let mut nodes = three();
    nodes.iter_mut().for_each(Node::boot);
    become_whole(&nodes).await;
    write(&nodes[0], "key", "kept").await;
    for _ in 0..2 {
        nodes.iter_mut().for_each(Node::kill);
        nodes.iter_mut().rev().for_each(Node::boot);
        become_whole(&nodes).await;
        reads(&nodes, "key", "kept").await;
    }
    all_is_well(&nodes).await;
}

#[tokio::test]
#[ignore = "needs BALLAST_REDIS, the path of redis-server 8"]
async fn a_replica_that_lost_its_disk_comes_back_and_leaves_nobody_to_forget() {
    let mut nodes = three();
    nodes.iter_mut().for_each(Node::boot);
    become_whole(&nodes).await;
    write(&nodes[0], "key", "kept").await;
    all_is_well(&nodes).await;
    nodes[2].kill();
    nodes[2].lose_the_disk();
    nodes[2].boot();
    assert_eq!(become_whole(&nodes).await, 0);
    reads(&nodes, "key", "kept").await;
    all_is_well(&nodes).await;
}

/// The newest file of a node's append-only log.
fn log_of(node: &Node) -> PathBuf {
    let directory = std::fs::read_dir(node.at("home/data/appendonlydir")).unwrap();
    let mut files: Vec<PathBuf> = directory.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.to_string_lossy().ends_with(".incr.aof"));
    files.sort();
    files.pop().unwrap()
}

#[tokio::test]
#[ignore = "needs BALLAST_REDIS, the path of redis-server 8"]
async fn a_log_whose_end_is_torn_is_loaded_up_to_there() {
    let mut nodes = three();
    nodes.iter_mut().for_each(Node::boot);
    become_whole(&nodes).await;
    write(&nodes[0], "first", "kept").await;
    write(&nodes[0], "last", "torn").await;
    all_is_well(&nodes).await;
    nodes.iter_mut().for_each(Node::kill);
    let log = std::fs::File::options().write(true).open(log_of(&nodes[0])).unwrap();
    log.set_len(log.metadata().unwrap().len() - 3).unwrap();
    nodes.iter_mut().for_each(Node::boot);
    become_whole(&nodes).await;
    reads(&nodes, "first", "kept").await;
    let said = std::fs::read_to_string(nodes[0].at("redis.conf.log")).unwrap();
    assert!(said.contains("Truncating the AOF"), "the journal says where it was torn");
    all_is_well(&nodes).await;
}

#[tokio::test]
#[ignore = "needs BALLAST_REDIS, the path of redis-server 8"]
async fn a_primary_whose_log_is_damaged_is_replaced_and_touches_nothing() {
    let mut nodes = three();
    nodes.iter_mut().for_each(Node::boot);
    become_whole(&nodes).await;
    for n in 0..20 {
        write(&nodes[0], &format!("key{n}"), "kept").await;
    }
    all_is_well(&nodes).await;
    nodes[0].kill();
    let path = log_of(&nodes[0]);
    let mut damaged = std::fs::read(&path).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle..middle + 8].fill(b'#');
    std::fs::write(&path, &damaged).unwrap();
    nodes[0].boot();
    let others = async || [nodes[1].role(), nodes[2].role()];
    let one_leads = |roles: &[String; 2]| roles.iter().any(|role| role == PRIMARY);
    eventually("another is primary", others, one_leads).await;
    let critical = |answers: &[Answer; 5]| answers[3].health == Health::Critical;
    let answers = eventually("it is critical", async || nodes[0].checks(), critical).await;
    assert!(answers[3].output.contains("journalctl -u redis"), "{}", answers[3].output);
    assert_eq!(std::fs::read(&path).unwrap(), damaged, "no data is touched");
    reads_from(&nodes[1..], "key3", "kept").await;
}

#[tokio::test]
#[ignore = "needs BALLAST_REDIS, the path of redis-server 8"]
async fn a_stranger_that_followed_and_is_gone_is_forgotten_by_all() {
    let site = fixture::Site::on_loopback();
    let mut nodes = ["n4", "n5", "n6"].map(|name| Node::new(&site, name));
    nodes.iter_mut().for_each(Node::boot);
    become_whole(&nodes).await;
    all_is_well(&nodes).await;
    // It follows the first member, as a node does that was a member once.
    let mut stranger = Node::new(&site, "n7");
    stranger.write_files();
    stranger.start_program("redis.conf", &[]);
    let known = |answers: &[Answer; 5]| answers[2].output.contains("knows 3 replicas");
    eventually("it is known", async || nodes[0].checks(), known).await;
    stranger.kill();
    all_is_well(&nodes).await;
}

#[tokio::test]
#[ignore = "needs BALLAST_REDIS, the path of redis-server 8"]
async fn a_frozen_primary_loses_its_tag_and_does_not_get_it_back_when_it_wakes() {
    let mut nodes = three();
    nodes.iter_mut().for_each(Node::boot);
    become_whole(&nodes).await;
    write(&nodes[0], "key", "1").await;
    all_is_well(&nodes).await;

    nodes[0].signal(nix::sys::signal::Signal::SIGSTOP);
    let start = Instant::now();
    let promoted = async || nodes[1..].iter().position(|node| node.role() == PRIMARY);
    let promoted = eventually("another is primary", promoted, Option::is_some).await.unwrap() + 1;
    println!("from the freeze to the tag: {} ms", start.elapsed().as_millis());
    // Its agent hears of it from its own Sentinel, which may be a moment after the other's has.
    let role = async || nodes[0].role();
    eventually("the frozen one is no primary", role, |role| role != PRIMARY).await;
    nodes[0].signal(nix::sys::signal::Signal::SIGCONT);
    let mut seen = Vec::new();
    let start = Instant::now();
    while !whole(&roles(&nodes)) {
        let role = nodes[0].role();
        assert_ne!(role, PRIMARY, "it never calls itself primary again");
        if seen.last() != Some(&role) {
            seen.push(role);
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{seen:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!("after it woke: {seen:?}");
    assert_eq!(become_whole(&nodes).await, promoted);
    write(&nodes[promoted], "key", "2").await;
    reads(&nodes, "key", "2").await;
}

#[tokio::test]
#[ignore = "needs BALLAST_REDIS, the path of redis-server 8"]
async fn a_redis_that_stands_still_alone_loses_its_tag_before_another_has_it() {
    let mut nodes = three();
    for node in &mut nodes {
        // With more patience the Sentinels leave time for any mistake.
        node.contents.node.timings = Availability::Fast.timings();
        node.boot();
    }
    become_whole(&nodes).await;
    write(&nodes[0], "key", "1").await;
    all_is_well(&nodes).await;
    nodes[0].signal_program(0, nix::sys::signal::Signal::SIGSTOP);
    let start = Instant::now();
    let mut lost = None;
    loop {
        if nodes[0].role() != PRIMARY {
            lost.get_or_insert(start.elapsed());
        }
        if nodes[1..].iter().any(|node| node.role() == PRIMARY) {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "nobody is promoted");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("lost after {lost:?}, another has it after {:?}", start.elapsed());
    assert!(lost.is_some(), "two have the tag");
}

#[tokio::test]
#[ignore = "needs BALLAST_REDIS, the path of redis-server 8"]
async fn a_primary_that_the_sentinels_no_longer_know_lets_no_application_in() {
    let mut nodes = three();
    nodes.iter_mut().for_each(Node::boot);
    become_whole(&nodes).await;
    write(&nodes[0], "key", "1").await;
    all_is_well(&nodes).await;
    let mut held = nodes[0].session();
    held.ask::<String>(&["GET", "key"]).await.unwrap();

    // The others are gone to it, with their Sentinels.
    for node in &nodes[1..] {
        node.signal(nix::sys::signal::Signal::SIGSTOP);
    }
    let read = async || nodes[0].ask(&["GET", "key"]).await;
    let refused = |read: &Result<String, String>| {
        read.as_ref().is_err_and(|why| why.contains("AuthenticationFailed"))
    };
    eventually("nobody is let in", read, refused).await.unwrap_err();
    assert!(held.ask::<String>(&["GET", "key"]).await.is_err(), "its session was cut");
    for node in &nodes[1..] {
        node.signal(nix::sys::signal::Signal::SIGCONT);
    }
    let leader = become_whole(&nodes).await;
    write(&nodes[leader], "key", "2").await;
    reads(&nodes, "key", "2").await;
}

#[tokio::test]
#[ignore = "needs BALLAST_REDIS, the path of redis-server 8"]
async fn nobody_comes_in_without_a_password_and_no_application_administers() {
    let mut nodes = three();
    nodes.iter_mut().for_each(Node::boot);
    become_whole(&nodes).await;
    let node = &nodes[0];
    for command in [
        &["CONFIG", "GET", "*"][..],
        &["SHUTDOWN"],
        &["REPLICAOF", "NO", "ONE"],
        &["ACL", "LIST"],
        &["SWAPDB", "0", "1"],
        &["FLUSHALL"],
    ] {
        let refused = node.ask(command).await.unwrap_err();
        assert!(refused.contains("permission"), "{command:?}: {refused}");
    }
    let place = (node.contents.node.network.address.addr(), REDIS_PORT);
    let ca = &node.contents.ca_pem;
    for account in ["default", "app", "ballast", "sentinel", "replica"] {
        let mut server =
            Server::remote_as(account, "Redis", place, ca, "aWrongPasswordOfTwenty", DEADLINE)
                .unwrap();
        let refused = client::or_text(server.ask::<String>(&["PING"]).await).unwrap_err();
        assert!(refused.contains("AuthenticationFailed"), "{account}: {refused}");
    }
    // Without TLS there is nothing that answers.
    let plain = tokio::net::TcpStream::connect(place).await.unwrap();
    plain.writable().await.unwrap();
    plain.try_write(b"PING\r\n").unwrap();
    plain.readable().await.unwrap();
    let mut answer = [0; 64];
    let got = plain.try_read(&mut answer).unwrap_or(0);
    assert!(!answer[..got].starts_with(b"+PONG"), "{answer:?}");
}
