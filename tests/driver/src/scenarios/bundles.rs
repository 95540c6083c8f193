//! Bundles that a node must refuse, each wrong in one way, and how the refusal is seen.

use std::fs;
use std::io::Read;

use base64::prelude::{BASE64_STANDARD, Engine};
use ed25519_dalek::SigningKey;

use super::{ANSWER, ensure};
use crate::cluster::{Availability, CONSUL_SERVER, Cluster, Layout};
use crate::error::{Error, Result};
use crate::machine::Machine;
use crate::trial::Trial;

/// A bundle that must be refused.
pub struct Refusal {
    /// The promise it keeps.
    pub promise: &'static str,
    /// The part of the sentence that names the fault.
    pub says: &'static str,
    /// Which node's bundle it is made from.
    node: &'static str,
    /// When its certificates were made, if not now.
    made: Option<&'static str>,
    /// What is done to it.
    spoil: fn(&mut Vec<u8>) -> Result<()>,
}

/// All of them, in the order of the promises.
pub const REFUSALS: &[Refusal] = &[
    Refusal {
        promise: "a_bundle_with_a_wrong_digest_is_refused",
        says: "does not have the digest that the manifest says",
        node: "consul-3",
        made: None,
        spoil: |bundle| replace(bundle, b"name = \"consul-3\"", b"name = \"consul-9\""),
    },
    Refusal {
        promise: "a_bundle_with_a_wrong_signature_is_refused",
        says: "manifest.json is not what site key",
        node: "consul-3",
        made: None,
        spoil: |bundle| replace(bundle, b"\"node\": \"consul-3\"", b"\"node\": \"consul-9\""),
    },
    Refusal {
        promise: "a_bundle_with_an_unknown_field_is_refused",
        says: "unknown",
        node: "consul-3",
        made: None,
        spoil: add_unknown_field,
    },
    Refusal {
        promise: "another_nodes_bundle_is_refused",
        says: "bundle is for node \"consul-2\", and this node is \"consul-3\"",
        node: "consul-2",
        made: None,
        spoil: |_| Ok(()),
    },
    Refusal {
        promise: "a_bundle_with_an_expired_certificate_is_refused",
        says: "expired at",
        node: "consul-3",
        made: Some("2021-06-01T00:00:00Z"),
        spoil: |_| Ok(()),
    },
];

/// Gives the bundle to a running machine that has none and is told to be consul-3, and sees it refused in one sentence.
pub fn try_refusal(trial: &Trial, machine: &mut dyn Machine, refusal: &Refusal) -> Result<()> {
    let dir = trial.dir().join(refusal.promise);
    let layout = Layout {
        now: refusal.made.map(str::to_owned),
        ..Layout::new(&[(CONSUL_SERVER, 3)]).with(Availability::Wide)
    };
    let cluster = Cluster::make(trial.given().ballast(), &dir, &layout)?;
    let file = cluster.bundle(refusal.node);
    let mut bundle = fs::read(&file).map_err(Error::file("reading", &file))?;
    (refusal.spoil)(&mut bundle)?;

    let script = format!(
        "rm -rf /run/offered; mkdir /run/offered; cd /run/offered\n\
         base64 -d >ballast.bundle <<'end of bundle'\n{}\nend of bundle\n\
         echo consul-3 >ballast.node\n\
         CREDENTIALS_DIRECTORY=/run/offered ballast-agent boot",
        BASE64_STANDARD.encode(&bundle)
    );
    let ran = machine.run(&script, ANSWER)?;
    let sentences = ran.text.lines().filter(|line| !line.contains("hint:")).count();
    ensure(ran.status == 2 && sentences == 1 && ran.text.contains(refusal.says), || {
        format!("the agent ended with {} and said {:?}", ran.status, ran.text)
    })?;
    let taken = machine
        .run("ls /var/lib/ballast/bundles/current /run/ballast/consul/agent.json", ANSWER)?;
    ensure(taken.status != 0 && !taken.text.contains("node.toml"), || {
        format!("something of the refused bundle was taken: {}", taken.text)
    })
}

/// Replaces the first occurrence by as many bytes.
fn replace(bundle: &mut [u8], old: &[u8], new: &[u8]) -> Result<()> {
    let place = bundle
        .windows(old.len())
        .position(|window| window == old)
        .and_then(|at| bundle.get_mut(at..at + old.len()));
    match place {
        Some(place) if old.len() == new.len() => {
            place.copy_from_slice(new);
            Ok(())
        }
        _ => Err(Error::Broken(format!("no {:?} in the bundle", String::from_utf8_lossy(old)))),
    }
}

/// Adds a line to `node.toml` and signs the whole anew: nothing is wrong but the line.
fn add_unknown_field(bundle: &mut Vec<u8>) -> Result<()> {
    let reading = || Error::system("reading a bundle");
    let mut files = Vec::new();
    for entry in tar::Archive::new(bundle.as_slice()).entries().map_err(reading())? {
        let mut entry = entry.map_err(reading())?;
        let path = entry.path().map_err(reading())?.display().to_string();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(reading())?;
        if path == "node.toml" {
            content.splice(0..0, *b"colour = \"green\"\n");
        }
        // The seal writes its own manifest.
        if !path.starts_with("manifest.") {
            files.push((path, content));
        }
    }
    let files = files.iter().map(|(path, content)| (path.as_str(), content.clone())).collect();
    // A node without a bundle trusts the first key it sees, so any will do.
    let key = SigningKey::from_bytes(&[7; 32]);
    *bundle = ballast_bundle::seal("lab", "consul-3", files, &key)
        .map_err(|error| Error::Broken(format!("sealing a bundle: {error}")))?;
    Ok(())
}
