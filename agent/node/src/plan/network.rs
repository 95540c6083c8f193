//! The node's address: a systemd.network(5) file, and the names the node knows without asking anyone.

use std::fs;
use std::path::Path;

use ballast_bundle::NodeConfig;

use super::{File, HOSTS};
use crate::root::Root;

const LINK_FILE: &str = "/run/systemd/network/10-ballast.network";
const RESOLVED_FILE: &str = "/run/systemd/resolved.conf.d/ballast.conf";

/// The link the node's address belongs on, as a `[Match]` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link(String);

impl Link {
    /// The link that the bundle names, or else the first Ethernet one that the kernel has.
    pub(crate) fn find(node: &NodeConfig, root: &Root) -> Self {
        match &node.network.interface {
            Some(mac) if mac.contains(':') => Self(format!("MACAddress={mac}")),
            Some(name) => Self(format!("Name={name}")),
            None => first_ethernet(&root.at("/sys/class/net"))
                .map_or_else(|| Self("Type=ether".to_owned()), |name| Self(format!("Name={name}"))),
        }
    }
}

/// The Ethernet link with the lowest index; one with a device behind it goes before virtual ones.
fn first_ethernet(links: &Path) -> Option<String> {
    const ETHERNET: &str = "1";
    let mut found: Vec<(bool, u32, String)> = fs::read_dir(links)
        .ok()?
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let value = |name: &str| fs::read_to_string(entry.path().join(name)).ok();
            let index = value("ifindex")?.trim().parse().ok()?;
            let virtual_link = !entry.path().join("device").exists();
            let ethernet = value("type")?.trim() == ETHERNET;
            ethernet
                .then(|| (virtual_link, index, entry.file_name().to_string_lossy().into_owned()))
        })
        .collect();
    found.sort();
    found.into_iter().next().map(|(_, _, name)| name)
}

pub(super) fn link_file(node: &NodeConfig, link: &Link) -> File {
    let network = &node.network;
    let mut text = format!("[Match]\n{}\n\n[Network]\nAddress={}\n", link.0, network.address);
    if let Some(gateway) = &network.gateway {
        text += &format!("Gateway={gateway}\n");
    }
    for server in &network.dns {
        text += &format!("DNS={server}\n");
    }
    if !network.dns.is_empty() {
        // Without it Consul's DNS, which answers for its own domain alone, would be asked for every other name too.
        text += "Domains=~.\n";
    }
    // The address stands before the cable does, so that nothing waits for it; nobody else's word configures this node.
    text += "ConfigureWithoutCarrier=yes\nDHCP=no\nIPv6AcceptRA=no\nLLDP=no\nMulticastDNS=no\nLLMNR=no\n";
    if network.address.addr().is_ipv4() {
        text += "LinkLocalAddressing=no\n";
    }
    File::public(LINK_FILE, text)
}

/// Names of Consul's domain are asked of the local Consul agent, all others of the link's name servers.
pub(super) fn resolved_file(node: &NodeConfig) -> File {
    let domain = &node.consul.domain;
    // Consul does not sign its answers.
    let text = format!("[Resolve]\nDNS=127.0.0.1:8600\nDomains=~{domain}\nDNSSEC=no\n");
    File::public(RESOLVED_FILE, text)
}

pub(super) fn hosts_file(node: &NodeConfig) -> File {
    let name = &node.node.name;
    let text =
        format!("127.0.0.1 localhost\n::1 localhost\n{} {name}\n", node.network.address.addr());
    File::public(HOSTS, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(root: &Path, name: &str, index: u32, kind: u32, device: bool) {
        let path = root.join(name);
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("ifindex"), format!("{index}\n")).unwrap();
        fs::write(path.join("type"), format!("{kind}\n")).unwrap();
        if device {
            fs::create_dir(path.join("device")).unwrap();
        }
    }

    #[test]
    fn a_card_goes_before_a_virtual_link_and_loopback_never_counts() {
        let root = tempfile::tempdir().unwrap();
        link(root.path(), "lo", 1, 772, false);
        assert_eq!(first_ethernet(root.path()), None);
        link(root.path(), "host0", 2, 1, false);
        assert_eq!(first_ethernet(root.path()).unwrap(), "host0");
        link(root.path(), "ens4", 9, 1, true);
        link(root.path(), "ens3", 5, 1, true);
        assert_eq!(first_ethernet(root.path()).unwrap(), "ens3");
    }
}
