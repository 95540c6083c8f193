//! This machine's fences: whom its PostgreSQL and Patroni may not talk to, and whether it takes sessions itself. Both are
//! elements of nftables sets, which the ruleset has room for and which time out by themselves.

use std::net::IpAddr;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::watch::FENCE_BOUND;
use crate::error::Error;
use crate::plan::{GIVEN_UP, SHUT_PORTS, TABLE};
use crate::postgres::PORT;

const NFT: &str = "/usr/sbin/nft";
/// How long the packet filter may take.
const DEADLINE: Duration = Duration::from_secs(2);

/// Refuses to talk to a member's PostgreSQL and Patroni, anew where it does already.
pub(super) async fn set(member: IpAddr) -> Result<(), Error> {
    renew(set_of(member), &member.to_string()).await
}

/// Talks to it again.
pub(super) async fn lift(member: IpAddr) -> Result<(), Error> {
    drop_element(set_of(member), &member.to_string()).await
}

/// Takes no new session.
pub(super) async fn shut() -> Result<(), Error> {
    renew(SHUT_PORTS, &PORT.to_string()).await
}

/// Takes sessions again.
pub(super) async fn open() -> Result<(), Error> {
    drop_element(SHUT_PORTS, &PORT.to_string()).await
}

/// Which of these members stand fenced.
pub(super) async fn found(members: &[IpAddr]) -> Result<Vec<IpAddr>, Error> {
    let mut texts = String::new();
    for name in GIVEN_UP {
        texts += &nft(&format!("list set {TABLE} {name}")).await?;
    }
    Ok(read_members(&texts, members))
}

fn read_members(text: &str, members: &[IpAddr]) -> Vec<IpAddr> {
    let words = text.split(|c: char| c.is_whitespace() || "{},=".contains(c));
    let stand: Vec<IpAddr> = words.filter_map(|word| word.parse().ok()).collect();
    members.iter().filter(|member| stand.contains(member)).copied().collect()
}

fn set_of(member: IpAddr) -> &'static str {
    let [four, six] = GIVEN_UP;
    if member.is_ipv4() { four } else { six }
}

/// An element's time begins anew only when it is added anew; one that is not there can't be deleted. One transaction.
async fn renew(set: &str, element: &str) -> Result<(), Error> {
    let bound = FENCE_BOUND.as_secs();
    let add = format!("add element {TABLE} {set} {{ {element} timeout {bound}s }}");
    let delete = format!("delete element {TABLE} {set} {{ {element} }}");
    nft(&format!("{add}; {delete}; {add}")).await.map(|_| ())
}

async fn drop_element(set: &str, element: &str) -> Result<(), Error> {
    let add = format!("add element {TABLE} {set} {{ {element} }}");
    nft(&format!("{add}; delete element {TABLE} {set} {{ {element} }}")).await.map(|_| ())
}

async fn nft(script: &str) -> Result<String, Error> {
    let start = |source| Error::Start { program: NFT.to_owned(), source };
    let running = Command::new(NFT).arg(script).stdin(Stdio::null()).kill_on_drop(true).output();
    let ended = |status: String, stderr: String| Error::Ended {
        program: format!("{NFT} {script}"),
        status,
        stderr,
    };
    let Ok(output) = tokio::time::timeout(DEADLINE, running).await else {
        return Err(ended(format!("no answer within {} s", DEADLINE.as_secs()), String::new()));
    };
    let output = output.map_err(start)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    Err(ended(output.status.to_string(), stderr))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fences_that_stand_are_found() {
        let text = "table inet ballast {\n\tset given_up4 {\n\t\ttype ipv4_addr\n\t\tflags timeout\n\t\telements = { 10.0.0.21 timeout 1m expires 59s, 10.0.0.9 timeout 1m expires 1s }\n\t}\n}\n";
        let members: [IpAddr; 2] = [[10, 0, 0, 21].into(), [10, 0, 0, 22].into()];
        assert_eq!(read_members(text, &members), [members[0]]);
        assert_eq!(read_members("table inet ballast {}", &members), [] as [IpAddr; 0]);
    }
}
