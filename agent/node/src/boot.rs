//! `ballast-agent boot`: before the network, the node finds its bundle, verifies it, and writes what it says.
//!
//! A bundle that fails is refused as a whole and the last good generation stays in use. A node without any says so on
//! its console and stays up, with everything closed.

pub(crate) mod fetch;
pub(crate) mod find;

use std::path::Path;
use std::time::SystemTime;

use ballast_bundle::{
    Bundle, Expectation, Identity, SiteKey, Trust, load_generation, unpack, verify,
};
use ballast_contract::{Spec, paths, roles};
use sha2::{Digest, Sha256};

use crate::error::{Error, chain};
use crate::log;
use crate::plan::postgres::{DATA, Machine};
use crate::plan::{self, Inputs, Link};
use crate::root::{self, Root, word};
use find::Found;

/// The credential or kernel command line word that may say which node this machine is to be.
const NODE: &str = "ballast.node";

/// The whole boot step.
///
/// # Errors
/// Why this boot cannot be good.
pub(crate) fn boot(root: &Root, credentials: Option<&Path>) -> Result<(), Error> {
    // First of all: whatever goes wrong below, nothing is open.
    for file in plan::closed_plan() {
        plan::apply_file(root, &file)?;
    }
    forget_check_states(root)?;

    let spec = root.load_spec()?;
    let expectation = expect(root, &spec, credentials)?;
    find::settle(root);
    let bundle = match take(root, credentials, &expectation)? {
        Some(bundle) => bundle,
        None if has_taken_one(root) => load_last_good(root, &expectation)?,
        None => match fetch::url(root)? {
            Some(url) => return fetch::prepare(root, &url),
            None => return Err(no_bundle()),
        },
    };
    apply(root, &spec, &bundle)
}

/// What a bundle must be for this node to take it.
pub(crate) fn expect(
    root: &Root,
    spec: &Spec,
    credentials: Option<&Path>,
) -> Result<Expectation, Error> {
    Ok(Expectation {
        trust: trust(root, spec, credentials)?,
        node: node_name(root, credentials)?,
        role: Some(spec.role.name.clone()),
        now: SystemTime::now(),
    })
}

/// Whose bundles are taken: the image's site keys, else the credential's, else the one the first bundle pinned.
fn trust(root: &Root, spec: &Spec, credentials: Option<&Path>) -> Result<Trust, Error> {
    let parse = |text: &str, origin: String| {
        text.parse::<SiteKey>().map_err(|source| Error::SiteKey { origin, source })
    };
    if !spec.image.site_keys.is_empty() {
        let keys = spec.image.site_keys.iter().map(|key| parse(key, paths::SPEC.to_owned()));
        return Ok(Trust::Keys(keys.collect::<Result<_, _>>()?));
    }
    let credential =
        credentials.map(|c| root::load(&c.join(paths::SITE_KEY_CREDENTIAL))).transpose()?.flatten();
    let pinned = root.load(paths::SITE_KEY)?;
    let (bytes, origin) = match (credential, pinned) {
        (Some(bytes), _) => (bytes, format!("the credential {}", paths::SITE_KEY_CREDENTIAL)),
        (None, Some(bytes)) => (bytes, paths::SITE_KEY.to_owned()),
        (None, None) => return Ok(Trust::FirstUse),
    };
    Ok(Trust::Keys(vec![parse(&String::from_utf8_lossy(&bytes), origin)?]))
}

/// The node's name, where it is known already: from the accepted bundle, and from whoever starts the machine.
fn node_name(root: &Root, credentials: Option<&Path>) -> Result<Option<String>, Error> {
    let credential = credentials.map(|c| root::load(&c.join(NODE))).transpose()?.flatten();
    let credential = credential.map(|b| String::from_utf8_lossy(&b).trim().to_owned());
    let words = root.load_command_line()?;
    let given = match (credential, word(&words, NODE)) {
        (Some(name), _) => Some((name, "the credential ballast.node")),
        (None, Some(name)) => Some((name.to_owned(), "the kernel command line")),
        (None, None) => None,
    };
    let pinned = root.load(NODE_NAME)?.map(|b| String::from_utf8_lossy(&b).trim().to_owned());
    match (pinned, given) {
        (Some(pinned), Some((given, origin))) if pinned != given => {
            Err(Error::TwoNames { pinned, given, origin })
        }
        (pinned, given) => Ok(pinned.or(given.map(|(name, _)| name))),
    }
}

/// The name that the first accepted bundle pinned.
const NODE_NAME: &str = "/var/lib/ballast/node-name";

/// Takes the first bundle that is offered, if there is one. One that is no good, or cannot be read, costs a node that
/// has taken one before nothing.
fn take(
    root: &Root,
    credentials: Option<&Path>,
    expectation: &Expectation,
) -> Result<Option<Bundle>, Error> {
    let found = match find::in_credential(credentials) {
        Ok(None) => find::on_volume(root),
        found => found,
    };
    let taken = found.and_then(|found| found.map(|f| accept(root, &f, expectation)).transpose());
    match taken {
        Err(error) if has_taken_one(root) => {
            log::error(&format!("{}; the bundle taken before stays in use", chain(&error)));
            Ok(None)
        }
        taken => taken,
    }
}

/// Verifies a bundle and makes it the current generation.
pub(crate) fn accept(
    root: &Root,
    found: &Found,
    expectation: &Expectation,
) -> Result<Bundle, Error> {
    let refused = |source| Error::Refused { origin: found.origin.clone(), source };
    let bundle = verify(&found.bytes, expectation).map_err(refused)?;
    // The pins come first: a crash between them and the generation leaves a node that takes the same bundle again.
    if expectation.trust == Trust::FirstUse {
        let text = format!("{}\n", bundle.site_key);
        root::save(&root.at(paths::SITE_KEY), text.as_bytes(), 0o644, None)?;
        log::info(&format!("pinned site key {}, the first that was seen", bundle.site_key));
    }
    let name = format!("{}\n", bundle.node.node.name);
    root::save(&root.at(NODE_NAME), name.as_bytes(), 0o644, None)?;
    unpack(&bundle, &root.at(paths::BUNDLES)).map_err(refused)?;
    log::info(&format!("took the bundle {} from {}", bundle.digest, found.origin));
    Ok(bundle)
}

/// Whether a bundle is in use.
fn has_taken_one(root: &Root) -> bool {
    root.at(paths::CURRENT_BUNDLE).exists()
}

fn no_bundle() -> Error {
    let looked = format!(
        "looked for the credential {}, a volume labelled {}, a URL as {}= on the kernel command line, and an earlier bundle in {}",
        paths::BUNDLE_CREDENTIAL,
        paths::BUNDLE_VOLUME,
        fetch::WORD,
        paths::BUNDLES
    );
    Error::NoBundle { looked }
}

/// The generation that an earlier boot took.
pub(crate) fn load_last_good(root: &Root, expectation: &Expectation) -> Result<Bundle, Error> {
    let current = root.at(paths::CURRENT_BUNDLE);
    load_generation(&current, expectation)
        .map_err(|source| Error::Refused { origin: paths::CURRENT_BUNDLE.to_owned(), source })
}

/// The bundle that this boot has taken and applied, for the parts of the agent that come after it.
pub(crate) fn load_taken(root: &Root) -> Result<Bundle, Error> {
    if !root.at(plan::LAST_FILE).exists() {
        return Err(Error::NotTaken);
    }
    // It was verified when it was taken. Certificates that expire while the node runs are Consul's to refuse.
    let expectation =
        Expectation { trust: Trust::FirstUse, node: None, role: None, now: SystemTime::UNIX_EPOCH };
    load_last_good(root, &expectation)
}

/// Plans what the bundle says, and makes it true.
pub(crate) fn apply(root: &Root, spec: &Spec, bundle: &Bundle) -> Result<(), Error> {
    let generation = root.at(paths::BUNDLES).join(&bundle.digest);
    let load = |name: &str| {
        let path = generation.join(name);
        std::fs::read(&path).map_err(Error::io("reading", path))
    };
    let plan = plan::plan(Inputs {
        spec,
        node: &bundle.node,
        secrets: &bundle.secrets,
        acl: bundle.acl.as_ref(),
        certificates: [load("consul/ca.pem")?, load("consul/cert.pem")?, load("consul/key.pem")?],
        consul_id: consul_id(root, &bundle.node.node)?,
        link: Link::find(&bundle.node, root),
        machine: Machine::look(&root.at(DATA)),
        redis: plan::redis::Kept::load(root, &plan::redis::Layout::default())?,
    })?;
    plan.apply(root, spec)?;
    let node = &bundle.node.node;
    log::info(&format!(
        "this is node {} of site {}, role {}, address {}",
        node.name, node.site, node.role, bundle.node.network.address
    ));
    Ok(())
}

/// Consul's id of this node, kept from the first boot on.
const CONSUL_ID: &str = "/var/lib/ballast/consul-node-id";

/// Consul's id of this node. A server's lives and dies with the state partition: one that lost its Raft log must come back
/// as another one. Any other node's follows from what it is, so that one whose disk was lost comes back as the same: Consul
/// keeps a name for the id that had it, and would go on telling what the node was before.
fn consul_id(root: &Root, node: &Identity) -> Result<String, Error> {
    if let Some(bytes) = root.load(CONSUL_ID)? {
        return Ok(String::from_utf8_lossy(&bytes).trim().to_owned());
    }
    let id = if node.role == roles::CONSUL_SERVER {
        // The kernel's random number generator, as a new UUID at every read: random(4).
        let source = "/proc/sys/kernel/random/uuid";
        let id = std::fs::read_to_string(source).map_err(Error::io("reading", source))?;
        id.trim().to_owned()
    } else {
        uuid_of(&format!("{}/{}/{}", node.site, node.datacenter, node.name))
    };
    root::save(&root.at(CONSUL_ID), id.as_bytes(), 0o644, None)?;
    Ok(id)
}

/// A UUID that follows from a text: version 8 of RFC 9562, from its SHA-256.
fn uuid_of(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let number =
        digest.iter().take(16).fold(0_u128, |number, byte| (number << 8) | u128::from(*byte));
    let versioned = (number & !(0xf << 76)) | (8 << 76);
    let number = (versioned & !(0b11 << 62)) | (0b10 << 62);
    let hex = format!("{number:032x}");
    let mut id = String::new();
    for (index, digit) in hex.chars().enumerate() {
        if [8, 12, 16, 20].contains(&index) {
            id.push('-');
        }
        id.push(digit);
    }
    id
}

/// Removes what Consul kept of its checks' last answers: they are of the boot before, and would count as passing until
/// their time to live is over.
fn forget_check_states(root: &Root) -> Result<(), Error> {
    let path = root.at("/var/lib/consul/checks/state");
    match std::fs::remove_dir_all(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("removing", path)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
