//! What a container's first process promises: the real program, with real children.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is a test's failure report")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A shell: a sandbox has none at `/bin/sh`.
fn shell() -> String {
    let path = std::env::var("PATH").unwrap();
    let mut places = path.split(':').map(|directory| format!("{directory}/sh"));
    places.find(|place| std::path::Path::new(place).exists()).expect("a shell on the path")
}

fn agent(arguments: &[&str]) -> Child {
    // Beside the directory that this test is in. Cargo's variable for it has a hyphen in its name, which the shells that
    // some compilers are wrapped in do not pass on.
    let program =
        std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("ballast-agent");
    Command::new(program)
        .arg("app")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The agent around a shell's script, to its end.
fn run(script: &str) -> Output {
    agent(&["--", &shell(), "-c", script]).wait_with_output().unwrap()
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn tell(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A configuration whose one endpoint leads to this node, with more lines for the application.
struct Config {
    path: PathBuf,
    status: SocketAddr,
    _directory: tempfile::TempDir,
}

impl Config {
    fn new(node: u16, app: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let status = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let text = format!(
            "availability = \"fast\"\nstatus = \"{status}\"\n[service.db]\nkind = \"tcp\"\nnodes = [\"127.0.0.1:{node}\"]\n\
             [[endpoint]]\nname = \"db\"\nservice = \"db\"\nto = \"any\"\nlisten = \"127.0.0.1:{}\"\n[app]\n{app}\n",
            free_port()
        );
        let path = directory.path().join("app.toml");
        std::fs::write(&path, text).unwrap();
        Self { path, status, _directory: directory }
    }

    fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// What is answered to a probe: the status, and the text.
    fn get(&self, path: &str) -> (u16, String) {
        let asked = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(self.status)?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        let answer = asked().unwrap_or_default();
        let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        (status, answer.split("\r\n\r\n").nth(1).unwrap_or_default().trim().to_owned())
    }
}

fn eventually<T: std::fmt::Debug>(what: &str, ask: impl Fn() -> T, wanted: impl Fn(&T) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let seen = ask();
        if wanted(&seen) {
            return;
        }
        assert!(Instant::now() < deadline, "{what} did not come true; last seen: {seen:?}");
        std::thread::sleep(Duration::from_millis(30));
    }
}

#[test]
fn the_status_of_the_application_is_the_containers() {
    assert_eq!(run("exit 0").status.code(), Some(0));
    let failed = run("exit 7");
    assert_eq!(failed.status.code(), Some(7));
    assert!(
        words(&failed).contains("the application ended with status 7 after 0."),
        "{}",
        words(&failed)
    );
    assert_eq!(run("kill -9 $$").status.code(), Some(137));
}

#[test]
fn an_application_that_is_not_there_is_said_as_a_shell_says_it() {
    let output = agent(&["--", "/nowhere/app"]).wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(127));
    assert!(
        words(&output).contains("starting the application /nowhere/app: No such file"),
        "{}",
        words(&output)
    );
    let directory = tempfile::tempdir().unwrap();
    let output = agent(&["--", directory.path().to_str().unwrap()]).wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(126));
    let output = agent(&[]).wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(words(&output).contains("hint: "), "{}", words(&output));
}

#[test]
fn an_application_that_ends_at_once_is_started_again_after_a_pause_and_not_in_a_loop() {
    let config = Config::new(1, "restart = \"on_failure\"");
    let child = agent(&["--config", config.path(), "--", &shell(), "-c", "exit 3"]);
    std::thread::sleep(Duration::from_millis(2_500));
    tell(&child, Signal::SIGTERM);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let ends = words(&output).matches("the application ended with status 3").count();
    assert!((1..=3).contains(&ends), "{}", words(&output));
}

#[test]
fn traffic_goes_elsewhere_before_the_application_hears_of_the_end() {
    let config = Config::new(1, "drain_secs = 2\nstop_secs = 10");
    let script = "trap 'echo told; exit 5' TERM; echo begun; while :; do sleep 0.1; done";
    let child = agent(&["--config", config.path(), "--", &shell(), "-c", script]);
    eventually("it is ready", || config.get("/readyz"), |(status, _)| *status == 200);
    let told = Instant::now();
    tell(&child, Signal::SIGTERM);
    eventually("it drains", || config.get("/readyz"), |seen| *seen == (503, "draining".to_owned()));
    assert_eq!(config.get("/livez").0, 200);
    let output = child.wait_with_output().unwrap();
    assert!(told.elapsed() >= Duration::from_secs(2), "after {:?}", told.elapsed());
    assert_eq!(output.status.code(), Some(5));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "begun\ntold\n");
}

#[test]
fn one_that_does_not_end_is_killed() {
    let config = Config::new(1, "drain_secs = 0\nstop_secs = 1");
    // What it started in its turn must not hold the agent up.
    let script = "trap '' TERM; echo begun; while :; do sleep 0.1; done";
    let child = agent(&["--config", config.path(), "--", &shell(), "-c", script]);
    eventually("it runs", || config.get("/readyz"), |(status, _)| *status == 200);
    std::thread::sleep(Duration::from_millis(300));
    tell(&child, Signal::SIGTERM);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(137));
    assert!(words(&output).contains("it is killed"), "{}", words(&output));
}

#[test]
fn other_signals_reach_the_application() {
    let config = Config::new(1, "");
    let script = "trap 'exit 9' USR1; : > \"$0\"; while :; do sleep 0.1; done";
    let begun = config.path.with_extension("begun");
    let place = begun.to_str().unwrap();
    let child = agent(&["--config", config.path(), "--", &shell(), "-c", script, place]);
    eventually("it begins", || begun.exists(), |there| *there);
    tell(&child, Signal::SIGUSR1);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(9));
}

#[test]
fn what_the_application_leaves_behind_is_reaped() {
    let config = Config::new(1, "drain_secs = 0");
    let script = "(sleep 0.2 &); (sleep 0.3 &); exec sleep 30";
    let child = agent(&["--config", config.path(), "--", &shell(), "-c", script]);
    let children = || {
        let path = format!("/proc/{0}/task/{0}/children", child.id());
        std::fs::read_to_string(path).unwrap_or_default().split_whitespace().count()
    };
    eventually("the orphans are the agent's", children, |count| *count == 3);
    eventually("they are gone", children, |count| *count == 1);
    tell(&child, Signal::SIGTERM);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(143));
}

#[test]
fn the_application_starts_once_what_it_needs_can_be_reached() {
    let port = free_port();
    let config = Config::new(port, "wait_for = [\"db\"]\nwait_secs = 20");
    let child = agent(&["--config", config.path(), "--", &shell(), "-c", "echo begun"]);
    let waits = |(status, why): &(u16, String)| {
        *status == 503 && why.starts_with("waiting: db leads nowhere")
    };
    eventually("it waits", || config.get("/readyz"), waits);
    let _node = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "begun\n");
}

#[test]
fn an_application_is_not_started_without_what_it_needs() {
    let config = Config::new(free_port(), "wait_for = [\"db\"]\nwait_secs = 1");
    let child = agent(&["--config", config.path(), "--", &shell(), "-c", "echo begun"]);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    let said = words(&output);
    assert!(
        said.contains("the application was not started within 1 s: db leads nowhere"),
        "{said}"
    );
    let config = Config::new(1, "wait_for = [\"bd\"]");
    let output = agent(&["--config", config.path(), "--", "x"]).wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        words(&output).contains("app.toml:12: wait_for: there is no endpoint \"bd\""),
        "{}",
        words(&output)
    );
}

#[test]
fn a_health_check_that_fails_takes_the_application_out_of_traffic() {
    let directory = tempfile::tempdir().unwrap();
    let well = directory.path().join("well");
    let (sh, place) = (shell(), well.display());
    let app = format!(
        "drain_secs = 0\nhealth = {{ command = [\"{sh}\", \"-c\", \"test -e {place}\"], interval_secs = 1 }}"
    );
    let config = Config::new(1, &app);
    let child = agent(&["--config", config.path(), "--", &sh, "-c", "exec sleep 60"]);
    let ill = |seen: &(u16, String)| *seen == (503, format!("{sh} ended with status 1"));
    eventually("it is ill", || config.get("/readyz"), ill);
    std::fs::write(&well, "").unwrap();
    eventually("it is well", || config.get("/readyz"), |(status, _)| *status == 200);
    tell(&child, Signal::SIGTERM);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(143));
}

#[test]
fn a_health_check_that_never_answers_is_ill_and_holds_nothing_up() {
    // A listener that takes connections, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let app = format!(
        "drain_secs = 0\nhealth = {{ http = \"{url}\", interval_secs = 1, timeout_secs = 1 }}"
    );
    let config = Config::new(1, &app);
    let child = agent(&["--config", config.path(), "--", &shell(), "-c", "exec sleep 60"]);
    let ill = |seen: &(u16, String)| *seen == (503, "no answer within 1 s".to_owned());
    eventually("it is ill", || config.get("/readyz"), ill);
    assert_eq!(config.get("/livez").0, 200);
    tell(&child, Signal::SIGTERM);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(143));
}
