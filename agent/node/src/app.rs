//! The first process of an application's container: the router, and the application as its child.
//!
//! The application starts once what it needs can be reached, hears of the container's end only after traffic had time to
//! go elsewhere, and its exit status is the container's. Whatever it leaves behind is reaped.

mod life;
mod reaper;
mod table;

use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::StatusCode;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use life::{Life, Next};
use reaper::{End, Reaper};
pub(crate) use table::{App, Health, Table};

use crate::error::Error;
use crate::log;
use crate::probe;
use crate::router::{Router, Settings};
use crate::serve::{self, Page};
use crate::state::{self, Answer};

/// What there is to know of the application.
#[derive(Debug, Clone, Serialize)]
struct View {
    phase: Phase,
    /// What it waits for, or how it ended last.
    #[serde(skip_serializing_if = "Option::is_none")]
    because: Option<String>,
    starts: u64,
    /// What its health check said last.
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<Answer>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Phase {
    /// What it needs can't be reached yet.
    Waiting,
    Running,
    /// It ended, and is started again after a pause.
    Pausing,
    /// Told to stop: new traffic is to go elsewhere.
    Draining,
}

/// The application's state, shared with those who ask for it.
#[derive(Clone)]
struct Known(Arc<Mutex<View>>);

impl Known {
    fn lock(&self) -> MutexGuard<'_, View> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is(&self, phase: Phase, because: Option<String>) {
        let mut view = self.lock();
        (view.phase, view.because) = (phase, because);
    }

    /// Whether it should get traffic; else why not.
    fn ready(&self, checked: bool) -> Result<(), String> {
        let view = self.lock();
        let because = view.because.as_ref().map_or(String::new(), |why| format!(": {why}"));
        match (view.phase, &view.health) {
            (Phase::Running, None) if checked => Err("not checked yet".to_owned()),
            (Phase::Running, Some(a)) if a.health == state::Health::Critical => {
                Err(a.output.clone())
            }
            (Phase::Running, _) => Ok(()),
            (Phase::Waiting, _) => Err(format!("waiting{because}")),
            (Phase::Pausing, _) => Err(format!("pausing{because}")),
            (Phase::Draining, _) => Err("draining".to_owned()),
        }
    }
}

/// Runs the application until it has ended for good; its status, as a shell gives it.
///
/// # Errors
/// The router can't listen, or what the application needs could not be reached in time.
pub(crate) async fn run(settings: Settings, app: App) -> Result<u8, Error> {
    // What the application leaves behind comes here also where this is not the first process.
    set_child_subreaper(true).map_err(|e| Error::Runtime(e.into()))?;
    let mut signals = listen().map_err(Error::Runtime)?;
    let reaper = Arc::new(Reaper::default());
    let mut duties = JoinSet::new();
    let children = signal(SignalKind::child()).map_err(Error::Runtime)?;
    duties.spawn(reaper.clone().reap(children));

    let view = View { phase: Phase::Waiting, because: None, starts: 0, health: None };
    let known = Known(Arc::new(Mutex::new(view)));
    let router = Router::start(&settings).await?;
    if let Some(address) = settings.status() {
        let listener = serve::bind(address).await?;
        let (shown, app_known, checked) = (router.clone(), known.clone(), app.health.is_some());
        let answer =
            move |path: &str| answer(&app_known, checked, path).or_else(|| shown.show(path));
        duties.spawn(serve::serve_with(listener, 16, answer));
    }
    if let Some(health) = app.health.clone() {
        duties.spawn(check(health, reaper.clone(), known.clone()));
    }
    if let Some(signal) = wait(&app, &router, &known, &mut signals).await? {
        log::info(&format!("told to stop by {signal} before the application was started"));
        return Ok(128_u8.saturating_add(u8::try_from(signal as i32).unwrap_or(0)));
    }
    Ok(live(&app, &reaper, &known, &mut signals).await)
}

fn answer(known: &Known, checked: bool, path: &str) -> Option<Page> {
    match path {
        "/app" => Some(serve::json(&known.lock().clone())),
        "/readyz" => Some(match known.ready(checked) {
            Ok(()) => (StatusCode::OK, "text/plain", "ok\n".to_owned()),
            Err(why) => (StatusCode::SERVICE_UNAVAILABLE, "text/plain", format!("{why}\n")),
        }),
        _ => None,
    }
}

/// Every signal that may be meant for the application, as it comes.
fn listen() -> std::io::Result<mpsc::Receiver<Signal>> {
    let (tell, told) = mpsc::channel(16);
    let all = [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGWINCH,
    ];
    for one in all {
        let mut stream = signal(SignalKind::from_raw(one as i32))?;
        let tell = tell.clone();
        tokio::spawn(async move {
            while stream.recv().await.is_some() && tell.send(one).await.is_ok() {}
        });
    }
    Ok(told)
}

fn ends(signal: Signal) -> bool {
    matches!(signal, Signal::SIGTERM | Signal::SIGINT)
}

/// Waits until what the application needs can be reached, or until told to stop.
async fn wait(
    app: &App,
    router: &Router,
    known: &Known,
    signals: &mut mpsc::Receiver<Signal>,
) -> Result<Option<Signal>, Error> {
    /// Between two looks.
    const ROUND: Duration = Duration::from_millis(100);
    let deadline = Instant::now() + app.wait;
    let mut said = String::new();
    while let Some(why) = router.missing(&app.wait_for).await {
        if Instant::now() >= deadline {
            return Err(Error::Unreached { waited_secs: app.wait.as_secs(), why });
        }
        if said.is_empty() {
            log::info(&format!("the application waits: {why}"));
        }
        known.is(Phase::Waiting, Some(why.clone()));
        said = why;
        tokio::select! {
            () = sleep(ROUND) => {}
            Some(signal) = signals.recv() => if ends(signal) { return Ok(Some(signal)) },
        }
    }
    Ok(None)
}

/// Starts the application, and starts it again as told, until it has ended for good.
async fn live(
    app: &App,
    reaper: &Reaper,
    known: &Known,
    signals: &mut mpsc::Receiver<Signal>,
) -> u8 {
    let mut life = Life::new(app.restart);
    loop {
        let begun = Instant::now();
        let (pid, ended) = match start(&app.command, reaper) {
            Ok(started) => started,
            Err((status, error)) => {
                log::error(&error);
                return status;
            }
        };
        known.lock().starts += 1;
        known.is(Phase::Running, None);
        let (end, stopped) = attend(app, pid, ended, known, signals).await;
        let lived = begun.elapsed();
        let sentence =
            format!("the application ended with {end} after {:.1} s", lived.as_secs_f64());
        let next = if stopped { Next::Exit } else { life.next(end, lived) };
        let Next::Again(pause) = next else {
            if end == End::Status(0) || stopped {
                log::info(&sentence)
            } else {
                log::error(&sentence)
            }
            return end.status();
        };
        log::warn(&format!("{sentence}; it is started again in {:.1} s", pause.as_secs_f64()));
        known.is(Phase::Pausing, Some(sentence));
        known.lock().health = None;
        let over = Instant::now() + pause;
        loop {
            tokio::select! {
                () = sleep_until(over) => break,
                Some(signal) = signals.recv() => if ends(signal) { return end.status() },
            }
        }
    }
}

fn start(
    command: &[String],
    reaper: &Reaper,
) -> Result<(Pid, oneshot::Receiver<End>), (u8, String)> {
    let [program, arguments @ ..] = command else {
        return Err((2, "no command is given".to_owned()));
    };
    reaper.spawn(Command::new(program).args(arguments)).map_err(|error| {
        // As a shell does it.
        let status = match error.kind() {
            std::io::ErrorKind::NotFound => 127,
            std::io::ErrorKind::PermissionDenied => 126,
            _ => 1,
        };
        (status, format!("starting the application {program}: {error}"))
    })
}

/// Passes signals on while the application runs: a wish to end it only after traffic had time to go elsewhere. How it
/// ended, and whether it was told to.
async fn attend(
    app: &App,
    pid: Pid,
    mut ended: oneshot::Receiver<End>,
    known: &Known,
    signals: &mut mpsc::Receiver<Signal>,
) -> (End, bool) {
    // What is gone already needs no signal.
    let pass = |signal: Signal| {
        let _ = kill(pid, signal);
    };
    let mut stopping: Option<(Signal, Instant)> = None;
    let mut killing: Option<Instant> = None;
    loop {
        tokio::select! {
            end = &mut ended => return (end.unwrap_or(End::Status(1)), stopping.is_some()),
            Some(signal) = signals.recv() => match (ends(signal), stopping) {
                (false, _) => pass(signal),
                (true, None) => {
                    log::info(&format!("{signal}: the application is told in {} s", app.drain.as_secs()));
                    known.is(Phase::Draining, None);
                    stopping = Some((signal, Instant::now() + app.drain));
                }
                // Asked twice: now.
                (true, Some(_)) => stopping = Some((signal, Instant::now())),
            },
            () = until(stopping.map(|(_, at)| at)), if stopping.is_some() && killing.is_none() => {
                pass(stopping.map_or(Signal::SIGTERM, |(signal, _)| signal));
                killing = Some(Instant::now() + app.stop);
            }
            () = until(killing), if killing.is_some() => {
                log::warn(&format!("the application has not ended {} s after it was told to: it is killed", app.stop.as_secs()));
                pass(Signal::SIGKILL);
                killing = Some(Instant::now() + app.stop);
            }
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Asks the application again and again whether it is well, while it runs.
async fn check(health: Health, reaper: Arc<Reaper>, known: Known) {
    loop {
        sleep(health.interval).await;
        if known.lock().phase != Phase::Running {
            continue;
        }
        let asking = async {
            match &health.question {
                table::Question::Http(url) => probe::http_answers(url).await,
                table::Question::Tcp(address) => probe::tcp_accepts(address).await,
                table::Question::Command(command) => ask_command(command, &reaper).await,
            }
        };
        let late = || Answer::critical(format!("no answer within {} s", health.timeout.as_secs()));
        let answer = timeout(health.timeout, asking).await.unwrap_or_else(|_| late());
        let mut view = known.lock();
        if view.health.as_ref().map(|a| a.health) != Some(answer.health) {
            match answer.health {
                state::Health::Critical => {
                    log::warn(&format!("the application is ill: {}", answer.output))
                }
                _ => log::info(&format!("the application is well: {}", answer.output)),
            }
        }
        view.health = Some(answer);
    }
}

/// Runs a command to its end; it is killed when nobody waits for it any more.
async fn ask_command(command: &[String], reaper: &Reaper) -> Answer {
    struct Killed(Pid);
    impl Drop for Killed {
        fn drop(&mut self) {
            let _ = kill(self.0, Signal::SIGKILL);
        }
    }
    match start(command, reaper) {
        Err((_, error)) => Answer::critical(error),
        Ok((pid, ended)) => {
            let killed = Killed(pid);
            let end = ended.await;
            // It has ended, and its number may be another's by now.
            std::mem::forget(killed);
            let name = command.first().map_or("", String::as_str);
            match end {
                Ok(End::Status(0)) => Answer::passing(format!("{name} ended with status 0")),
                Ok(end) => Answer::critical(format!("{name} ended with {end}")),
                Err(_) => Answer::critical(format!("how {name} ended is unknown")),
            }
        }
    }
}
