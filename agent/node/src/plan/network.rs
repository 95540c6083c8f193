//! The node's address: a systemd.network(5) file, and the names the node knows without asking anyone.

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
            // Not by the name: udev gives the link another one, before this is read or after.
            None => first_ethernet(links(root)).map_or_else(
                || Self("Type=ether".to_owned()),
                |mac| Self(format!("MACAddress={mac}")),
            ),
        }
    }
}

/// A link that the kernel has.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Candidate {
    mac: String,
    index: usize,
    ethernet: bool,
    /// Whether a device stands behind it, and not only software.
    device: bool,
}

/// The links of this network namespace: from the kernel itself, for in a container `/sys` may show the host's.
fn links(root: &Root) -> Vec<Candidate> {
    if !root.is_live() {
        return Vec::new();
    }
    let Ok(addresses) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    addresses
        .filter_map(|entry| {
            let link = *entry.address?.as_link_addr()?;
            let device = root.at(&format!("/sys/class/net/{}/device", entry.interface_name));
            let mac = link.addr()?.map(|byte| format!("{byte:02x}")).join(":");
            Some(Candidate {
                mac,
                index: link.ifindex(),
                ethernet: link.hatype() == nix::libc::ARPHRD_ETHER,
                device: device.exists(),
            })
        })
        .collect()
}

/// The address of the Ethernet link with the lowest index; one with a device behind it goes before virtual ones.
fn first_ethernet(links: Vec<Candidate>) -> Option<String> {
    let ethernet = links.into_iter().filter(|link| link.ethernet);
    ethernet.min_by_key(|link| (!link.device, link.index)).map(|link| link.mac)
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
    for server in &network.ntp {
        // systemd-timesyncd asks those of the link (systemd.network(5), NTP=).
        text += &format!("NTP={server}\n");
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
    // Consul does not sign its answers; and no neighbour is asked or answered by multicast.
    let text = format!(
        "[Resolve]\nDNS=127.0.0.1:8600\nDomains=~{domain}\nDNSSEC=no\nLLMNR=no\nMulticastDNS=no\n"
    );
    File::public(RESOLVED_FILE, text)
}

pub(super) fn hosts_file(node: Option<&NodeConfig>) -> File {
    let mut text = String::from("127.0.0.1 localhost\n::1 localhost\n");
    if let Some(node) = node {
        text += &format!("{} {}\n", node.network.address.addr(), node.node.name);
    }
    File::public(HOSTS, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(mac: &str, index: usize, ethernet: bool, device: bool) -> Candidate {
        Candidate { mac: mac.to_owned(), index, ethernet, device }
    }

    #[test]
    fn a_card_goes_before_a_virtual_link_and_loopback_never_counts() {
        let mut links = vec![link("00:00:00:00:00:00", 1, false, false)];
        assert_eq!(first_ethernet(links.clone()), None);
        links.push(link("virtual", 2, true, false));
        assert_eq!(first_ethernet(links.clone()).unwrap(), "virtual");
        links.push(link("card 2", 9, true, true));
        links.push(link("card 1", 5, true, true));
        assert_eq!(first_ethernet(links).unwrap(), "card 1");
    }

    #[test]
    fn the_link_names_the_servers_of_the_bundle_and_no_others() {
        let mut node = crate::fixture::Site::new().contents("node-1", "web").node;
        node.network.gateway = Some([10, 0, 0, 1].into());
        node.network.ntp = vec!["10.0.0.9".into(), "time.example.net".into()];
        let file = link_file(&node, &Link("Name=eth0".into()));
        let text = String::from_utf8(file.bytes).unwrap();
        for line in ["Gateway=10.0.0.1", "NTP=10.0.0.9", "NTP=time.example.net", "DHCP=no"] {
            assert!(text.lines().any(|l| l == line), "{line}: {text}");
        }
        assert!(!text.contains("DNS=1"), "{text}");
    }

    #[test]
    fn this_machine_has_a_loopback_link_that_is_no_ethernet() {
        let links = links(&Root::new("/"));
        assert!(links.iter().any(|l| l.mac == "00:00:00:00:00:00" && !l.ethernet), "{links:?}");
    }
}
