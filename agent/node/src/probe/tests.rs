//! What probes promise, each with its refusing twin.

use std::net::TcpListener;
use std::time::Instant;

use super::*;
use crate::fixture;

async fn ask_once(kind: CheckKind) -> Answer {
    ask_within(kind, 3).await
}

async fn ask_within(kind: CheckKind, timeout_secs: u64) -> Answer {
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
    let asker = Asker {
        root: Root::new("/"),
        consul: Consul::new(nowhere, None),
        role: None,
        redis: None,
        backups: None,
    };
    let mut check = fixture::check("c", false, kind);
    check.timeout_secs = timeout_secs;
    probe(&asker, &check).await
}

fn shell(script: &str) -> CheckKind {
    CheckKind::Command { argv: vec![fixture::shell(), "-c".to_owned(), script.to_owned()] }
}

#[tokio::test]
async fn a_commands_exit_status_is_consuls() {
    for (script, health) in [
        ("echo fine", Health::Passing),
        ("echo so so; exit 1", Health::Warning),
        ("exit 2", Health::Critical),
        ("kill -9 $$", Health::Critical),
    ] {
        assert_eq!(ask_once(shell(script)).await.health, health, "{script}");
    }
    assert_eq!(ask_once(shell("echo fine")).await.output, "fine");
    let missing = CheckKind::Command { argv: vec!["/no/such/program".into()] };
    assert!(ask_once(missing).await.output.contains("/no/such/program"));
}

#[tokio::test]
async fn a_command_that_hangs_is_critical_and_leaves_no_process() {
    let directory = tempfile::tempdir().unwrap();
    let pid = directory.path().join("pid");
    let script = format!("sleep 600 & echo $! > {}; wait", pid.display());
    let start = Instant::now();
    let answer = ask_within(shell(&script), 1).await;
    assert!(start.elapsed() < Duration::from_secs(20));
    assert_eq!(answer, Answer::critical("no answer within 1 s"));
    let child = std::fs::read_to_string(pid).unwrap();
    let proc = format!("/proc/{}/stat", child.trim());
    let gone = async || std::fs::read_to_string(&proc).map_or(true, |stat| stat.contains(") Z "));
    fixture::real_consul::eventually("the grandchild is gone", gone, |gone| *gone).await;
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_is_critical() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let kind = || CheckKind::Tcp { address: address.clone() };
    assert_eq!(ask_once(kind()).await.health, Health::Passing);
    drop(listener);
    assert_eq!(ask_once(kind()).await.health, Health::Critical);
}

/// Answers one connection with these bytes, and returns where.
fn answer_once(reply: &'static str) -> String {
    use std::io::{Read, Write};
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/health", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 1024];
        let _ = stream.read(&mut request).unwrap();
        stream.write_all(reply.as_bytes()).unwrap();
    });
    url
}

#[tokio::test]
async fn only_a_2xx_answer_is_passing_and_no_redirect_is_followed() {
    for (reply, health) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Health::Passing),
        ("HTTP/1.1 204 No Content\r\n\r\n", Health::Passing),
        (
            "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
            Health::Critical,
        ),
        ("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", Health::Critical),
        ("not HTTP at all\r\n\r\n", Health::Critical),
    ] {
        let answer = ask_once(CheckKind::Http { url: answer_once(reply) }).await;
        assert_eq!(answer.health, health, "{reply:?}: {}", answer.output);
    }
    let wrong = CheckKind::Http { url: "https://127.0.0.1/".into() };
    assert_eq!(ask_once(wrong).await.health, Health::Critical);
}

#[tokio::test]
async fn a_full_disk_is_critical_and_one_with_room_is_not() {
    let disk = |warning_percent, critical_percent| CheckKind::Disk {
        path: "/".into(),
        warning_percent,
        critical_percent,
    };
    assert_eq!(ask_once(disk(0, 0)).await.health, Health::Critical);
    assert_eq!(ask_once(disk(0, 101)).await.health, Health::Warning);
    assert_eq!(ask_once(disk(101, 101)).await.health, Health::Passing);
    let gone =
        CheckKind::Disk { path: "/no/such/path".into(), warning_percent: 1, critical_percent: 2 };
    assert_eq!(ask_once(gone).await.health, Health::Critical);
}

#[test]
fn full_is_a_hundred_percent_and_never_less() {
    assert_eq!(percent(999, 1000), 100);
    assert_eq!(percent(0, 0), 0);
    assert_eq!(percent(u64::MAX, u64::MAX), 100);
}

#[tokio::test]
async fn no_consul_is_critical_for_both_questions_about_it() {
    assert_eq!(ask_once(CheckKind::ConsulAgent {}).await.health, Health::Critical);
    assert_eq!(ask_once(CheckKind::ConsulLeader {}).await.health, Health::Critical);
}

#[test]
fn a_clock_that_nobody_keeps_is_a_warning_and_a_containers_is_its_hosts() {
    let directory = tempfile::tempdir().unwrap();
    let root = Root::new(directory.path());
    assert_eq!(clock_is_kept(&root).health, Health::Warning);
    for file in ["run/systemd/timesync/synchronized", "run/systemd/container"] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "").unwrap();
        assert_eq!(clock_is_kept(&Root::new(directory.path())).health, Health::Passing);
    }
}
