//! `ballast-agent fetch`: with the network, the bundle at the URL that the kernel command line names.
//!
//! A node that has no bundle yet takes its address from DHCP until it has one; a node that has one is up already, and
//! takes another when the URL holds another. Nothing waits for the URL's server but a node's very first boot.

use std::fs;
use std::io;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use ballast_bundle::{MAX_BYTES, NodeConfig};
use ureq::Agent;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

use super::find::Found;
use super::{accept, apply, expect, has_taken_one};
use crate::error::{Error, chain};
use crate::log;
use crate::root::{self, Root, word};
use crate::spawn;

/// The word of the kernel command line that holds the URL, `http://` or `https://`.
pub(super) const WORD: &str = "ballast.bundle";
/// The network of a node that does not know its address.
const DHCP: &str = "/run/systemd/network/90-ballast-fetch.network";
/// The authorities that Debian knows.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// How long a node without any bundle goes on trying, and how long one that has one.
const FIRST_BOOT: Duration = Duration::from_secs(240);
const LATER_BOOT: Duration = Duration::from_secs(30);
/// How long one try may take, and the pause after one that failed.
const TRY: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_secs(2);

/// The URL that the kernel command line names, if it does.
pub(super) fn url(root: &Root) -> Result<Option<String>, Error> {
    Ok(word(&root.load_command_line()?, WORD).map(str::to_owned))
}

/// Before the network, without any bundle: an address for the time until there is one.
pub(super) fn prepare(root: &Root, url: &str) -> Result<(), Error> {
    let text = "[Match]\nType=ether\n\n[Network]\nDHCP=yes\n\n[DHCPv4]\nUseHostname=no\n";
    root::save(&root.at(DHCP), text.as_bytes(), 0o644, None)?;
    log::info(&format!("no bundle is here yet: it will be fetched from {url}"));
    Ok(())
}

/// Fetches, and takes what was fetched if it is another than the one in use.
///
/// # Errors
/// There is none to be had in time, or it is refused. The bundle in use stays.
pub(crate) fn fetch(root: &Root, credentials: Option<&Path>) -> Result<(), Error> {
    let Some(url) = url(root)? else { return Ok(()) };
    if url.starts_with("http://") {
        log::warn(&format!(
            "{url} is not encrypted: who listens on the way learns this node's secrets"
        ));
    }
    let spec = root.load_spec()?;
    let expectation = expect(root, &spec, credentials)?;
    let patience = if has_taken_one(root) { LATER_BOOT } else { FIRST_BOOT };
    let bytes = get_within(root, &url, patience)?;

    let before = fs::read_link(root.at(ballast_contract::paths::CURRENT_BUNDLE)).ok();
    let bundle = accept(root, &Found { origin: url, bytes }, &expectation)?;
    if before.as_deref() == Some(Path::new(&bundle.digest)) {
        log::info("it is the bundle that is in use");
        return Ok(());
    }
    apply(root, &spec, &bundle)?;
    remove(root)?;
    if root.is_live() { tell_the_others(&bundle.node) } else { Ok(()) }
}

/// Those who read what the bundle says have started without it.
fn tell_the_others(node: &NodeConfig) -> Result<(), Error> {
    spawn::run(&["nft", "-f", ballast_contract::paths::FIREWALL])?;
    spawn::run(&["networkctl", "reload"])?;
    let mut units = vec!["systemd-resolved.service", "consul.service", "ballast.service"];
    if node.redis.is_some() {
        units.extend(["redis.service", "redis-sentinel.service"]);
    }
    spawn::run(&[&["systemctl", "restart", "--no-block"][..], &units[..]].concat())?;
    if node.postgres.is_some() {
        // Started if it waited for its first bundle; otherwise it reads what is new, and no primary is lost by it.
        spawn::run(&["systemctl", "reload-or-restart", "--no-block", "patroni.service"])?;
    }
    Ok(())
}

fn remove(root: &Root) -> Result<(), Error> {
    let path = root.at(DHCP);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("removing", path)(error))
        }
        _ => Ok(()),
    }
}

/// Tries until it is there or the time is over; the first reason and the last one are told.
fn get_within(root: &Root, url: &str, patience: Duration) -> Result<Vec<u8>, Error> {
    let agent = agent(root)?;
    let start = Instant::now();
    let mut told = false;
    loop {
        match get(&agent, url) {
            Ok(bytes) => return Ok(bytes),
            Err(source) => {
                let error = Error::Fetch { url: url.to_owned(), source: Box::new(source) };
                if start.elapsed() >= patience {
                    return Err(error);
                }
                if !told {
                    log::warn(&format!("{}; trying for {} s", chain(&error), patience.as_secs()));
                    told = true;
                }
            }
        }
        sleep(PAUSE);
    }
}

fn get(agent: &Agent, url: &str) -> Result<Vec<u8>, ureq::Error> {
    let limit = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX);
    let mut answer = agent.get(url).call()?;
    if answer.status() != 200 {
        return Err(ureq::Error::StatusCode(answer.status().as_u16()));
    }
    answer.body_mut().with_config().limit(limit).read_to_vec()
}

/// A client that trusts the authorities of the image. A redirect is not followed: the kernel command line says where.
fn agent(root: &Root) -> Result<Agent, Error> {
    let pem = root.load(AUTHORITIES)?.unwrap_or_default();
    let authorities: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    let tls = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&authorities)).build();
    Ok(Agent::config_builder()
        .tls_config(tls)
        .proxy(None)
        .max_redirects(0)
        .timeout_global(Some(TRY))
        .build()
        .new_agent())
}
