//! `ballast-agent gate`: a boot is good only once every check that gates it is passing.
//!
//! It asks this machine's agent alone: a network fault must not roll back a fleet. `boot-complete.target` requires this
//! unit, and systemd-bless-boot.service comes after that target.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::boot;
use crate::bootloader;
use crate::error::{Error, chain};
use crate::log;
use crate::root::Root;
use crate::run::View;
use crate::status;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(500);
/// How long the agent may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Waits until every gate is passing; gives the boot up where one is not.
///
/// # Errors
/// The gates that are not, when the role's time is over; at once where this boot took no bundle.
pub(crate) async fn gate(root: &Root, agent: SocketAddr) -> Result<(), Error> {
    let result = wait(root, agent).await;
    if result.is_err() {
        bootloader::give_up_or_say_why(root);
    }
    result
}

async fn wait(root: &Root, agent: SocketAddr) -> Result<(), Error> {
    // Without an identity there is nothing to wait for.
    boot::load_taken(root)?;
    let spec = root.load_spec()?;
    let limit = Duration::from_secs(spec.role.healthy_within_secs);
    let start = Instant::now();
    loop {
        let closed = match timeout(ANSWER, status::load(agent)).await {
            Ok(Ok(view)) => describe(&view),
            Ok(Err(error)) => Some(chain(&error)),
            Err(_) => Some("the agent does not answer".to_owned()),
        };
        let waited_secs = start.elapsed().as_secs();
        let Some(closed) = closed else {
            log::info(&format!("every gate is passing after {waited_secs} s: this boot is good"));
            return Ok(());
        };
        if start.elapsed() >= limit {
            return Err(Error::Unhealthy { waited_secs, closed });
        }
        sleep(PAUSE).await;
    }
}

/// What keeps the boot from being good, if anything does.
fn describe(view: &View) -> Option<String> {
    let closed: Vec<String> = view
        .closed_gates()
        .map(|check| match &check.answer {
            Some(answer) => {
                format!("check {} is {} ({})", check.name, answer.health, answer.output)
            }
            None => format!("check {} has not answered yet", check.name),
        })
        .collect();
    // A view from before the checks were started has none of them.
    if view.state == crate::state::State::Starting && view.checks.is_empty() {
        return Some("the checks have not started yet".to_owned());
    }
    (!closed.is_empty()).then(|| closed.join(", "))
}

#[cfg(test)]
mod tests {
    use ballast_contract::CheckKind;

    use super::*;
    use crate::fixture;
    use crate::run::CheckView;
    use crate::state::{Answer, State};

    fn view(gate: Option<Answer>) -> View {
        let spec = fixture::spec("consul-server", vec![]);
        let contents = fixture::Site::new().contents("n1", "consul-server");
        let mut view = View::new(&spec, &contents.node, "digest");
        view.checks = vec![
            CheckView { name: "gate".into(), gate: true, answer: gate },
            CheckView { name: "other".into(), gate: false, answer: Some(Answer::critical("no")) },
        ];
        view.state = State::Starting;
        view
    }

    #[test]
    fn a_gate_that_is_not_passing_is_named_and_other_checks_are_not_asked() {
        let closed = describe(&view(Some(Answer::critical("nobody answers")))).unwrap();
        assert_eq!(closed, "check gate is critical (nobody answers)");
        assert_eq!(describe(&view(None)).unwrap(), "check gate has not answered yet");
        assert_eq!(describe(&view(Some(Answer::passing("fine")))), None);
    }

    #[tokio::test]
    async fn a_boot_without_a_bundle_is_not_good_and_nothing_is_waited_for() {
        let kind = CheckKind::Tcp { address: "127.0.0.1:1".into() };
        let spec = fixture::spec("consul-server", vec![fixture::check("c", true, kind)]);
        let directory = fixture::root_with(&spec);
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        let error = gate(&Root::new(directory.path()), nowhere).await.unwrap_err();
        assert!(matches!(error, Error::NotTaken), "{error}");
    }
}
