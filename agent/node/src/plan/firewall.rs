//! The packet filter: an nftables ruleset (nft(8)) that opens what the role's ports say and nothing else.

use std::fmt::Write;

use ballast_bundle::Network;
use ballast_contract::{Opened, Protocol, Role, paths};
use ipnet::IpNet;

use super::File;
use crate::postgres::{PATRONI_PORT, PORT};

/// The table that all rules are in.
pub(crate) const TABLE: &str = "inet ballast";
/// The sets of members of the node's PostgreSQL cluster that were given up (see `peers::fence`), of either family.
pub(crate) const GIVEN_UP: [&str; 2] = ["given_up4", "given_up6"];
/// The set of local ports that take no new connection for now.
pub(crate) const SHUT_PORTS: &str = "shut_ports";

/// The ruleset of a role in a site with these networks; a PostgreSQL node's has room for fences.
pub(super) fn ruleset_file(role: &Role, network: &Network, with_fences: bool) -> File {
    let text = ruleset(role, &network.site, &network.clients, with_fences);
    File::public(paths::FIREWALL, text)
}

/// The ruleset of a node that does not know itself: nothing is opened.
pub(crate) fn closed() -> String {
    render("", "", "", "")
}

fn ruleset(role: &Role, site: &[IpNet], clients: &[IpNet], with_fences: bool) -> String {
    let mut sets = String::new();
    let (mut shut, mut output) = (String::new(), String::new());
    if with_fences {
        fences(&mut sets, &mut shut, &mut output);
    }
    set_of_both(&mut sets, "site", site);
    if role.ports.iter().any(|port| port.from == Opened::Clients) {
        set_of_both(&mut sets, "client", &[site, clients].concat());
    }

    let mut rules = String::new();
    for port in &role.ports {
        let protocol = match port.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        let accept =
            format!("{protocol} dport {} accept comment \"{}\"", port.port, plain(&port.name));
        let sources: &[&str] = match port.from {
            Opened::Any => &[""],
            Opened::Site => &["ip saddr @site4 ", "ip6 saddr @site6 "],
            Opened::Clients => &["ip saddr @client4 ", "ip6 saddr @client6 "],
        };
        for source in sources {
            line(&mut rules, 2, &format!("{source}{accept}"));
        }
    }
    render(&sets, &shut, &rules, &output)
}

/// What the agent fills at run time: whom the node's PostgreSQL and Patroni may not talk to, and which ports are shut.
/// The answer is a reset, so that nobody waits for one; the agent itself, which is root's, goes on asking.
fn fences(sets: &mut String, shut: &mut String, output: &mut String) {
    line(output, 1, "chain output {");
    line(output, 2, "type filter hook output priority filter; policy accept;");
    for ((name, kind), family) in
        GIVEN_UP.into_iter().zip(["ipv4_addr", "ipv6_addr"]).zip(["ip", "ip6"])
    {
        line(sets, 1, &format!("set {name} {{"));
        line(sets, 2, &format!("type {kind}; flags timeout;"));
        line(sets, 1, "}");
        let whom = format!("{family} daddr @{name} tcp dport {{ {PORT}, {PATRONI_PORT} }}");
        line(output, 2, &format!("meta skuid != 0 {whom} reject with tcp reset"));
    }
    line(output, 1, "}");
    line(sets, 1, &format!("set {SHUT_PORTS} {{"));
    line(sets, 2, "type inet_service; flags timeout;");
    line(sets, 1, "}");
    line(shut, 2, &format!("tcp dport @{SHUT_PORTS} ct state new reject with tcp reset"));
}

/// The networks of either family, each in a set of its own.
fn set_of_both(text: &mut String, name: &str, networks: &[IpNet]) {
    let networks = IpNet::aggregate(&networks.iter().map(IpNet::trunc).collect());
    let (four, six): (Vec<IpNet>, Vec<IpNet>) =
        networks.into_iter().partition(|n| n.addr().is_ipv4());
    set(text, &format!("{name}4"), "ipv4_addr", &four);
    set(text, &format!("{name}6"), "ipv6_addr", &six);
}

fn set(text: &mut String, name: &str, kind: &str, networks: &[IpNet]) {
    line(text, 1, &format!("set {name} {{"));
    line(text, 2, &format!("type {kind}; flags interval;"));
    if !networks.is_empty() {
        let elements: Vec<String> = networks.iter().map(IpNet::to_string).collect();
        line(text, 2, &format!("elements = {{ {} }}", elements.join(", ")));
    }
    line(text, 1, "}");
}

fn render(sets: &str, shut: &str, rules: &str, output: &str) -> String {
    // Naming the table before deleting it makes loading the file twice the same as once, in one transaction.
    format!(
        "table inet ballast\n\
         delete table inet ballast\n\
         table inet ballast {{\n\
         {sets}\
         \tchain input {{\n\
         \t\ttype filter hook input priority filter; policy drop;\n\
         \t\tiif \"lo\" accept\n\
         \t\tct state established,related accept\n\
         \t\tct state invalid drop\n\
         \t\ticmp type {{ destination-unreachable, time-exceeded, parameter-problem, echo-request }} accept\n\
         \t\ticmpv6 type {{ destination-unreachable, packet-too-big, time-exceeded, parameter-problem, echo-request, \
         nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert, mld-listener-query }} accept\n\
         {shut}\
         {rules}\
         \t}}\n\
         \tchain forward {{\n\
         \t\ttype filter hook forward priority filter; policy drop;\n\
         \t}}\n\
         {output}\
         }}\n"
    )
}

fn line(text: &mut String, depth: usize, line: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{}{line}", "\t".repeat(depth));
}

/// A name as a comment may hold it: it stands in quotes, which nft has no way to escape.
fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_ascii_alphanumeric() || "-_. ".contains(*c)).take(60).collect()
}

#[cfg(test)]
mod tests {
    use ballast_contract::Port;

    use super::*;

    fn role(ports: Vec<Port>) -> Role {
        Role { name: "r".into(), service: None, ports, checks: vec![], healthy_within_secs: 1 }
    }

    fn port(name: &str, port: u16, protocol: Protocol, from: Opened) -> Port {
        Port { name: name.into(), port, protocol, from }
    }

    #[test]
    fn a_site_port_opens_to_the_site_alone() {
        let role = role(vec![port("rpc", 8300, Protocol::Tcp, Opened::Site)]);
        let site = ["10.0.0.5/24".parse().unwrap(), "fd00::/64".parse().unwrap()];
        let text = ruleset(&role, &site, &["10.8.0.0/16".parse().unwrap()], false);
        assert!(!text.contains("10.8"), "{text}");
        assert!(text.contains("elements = { 10.0.0.0/24 }"), "{text}");
        assert!(text.contains("ip saddr @site4 tcp dport 8300 accept comment \"rpc\""), "{text}");
        assert!(text.contains("ip6 saddr @site6 tcp dport 8300 accept"), "{text}");
        assert!(!text.contains("\t\ttcp dport"), "{text}");
    }

    #[test]
    fn a_clients_port_opens_to_the_site_and_to_its_clients() {
        let role = role(vec![
            port("rpc", 8300, Protocol::Tcp, Opened::Site),
            port("sql", 5432, Protocol::Tcp, Opened::Clients),
        ]);
        let networks = ["10.0.0.0/24", "10.8.0.0/16"].map(|n| n.parse().unwrap());
        let text = ruleset(&role, &networks[..1], &networks[1..], false);
        assert!(text.contains("elements = { 10.0.0.0/24, 10.8.0.0/16 }"), "{text}");
        assert!(text.contains("ip saddr @client4 tcp dport 5432 accept"), "{text}");
        assert!(text.contains("ip saddr @site4 tcp dport 8300 accept"), "{text}");
    }

    #[test]
    fn only_where_there_is_a_database_is_there_room_for_fences() {
        let role = role(vec![]);
        assert!(!ruleset(&role, &[], &[], false).contains("output"));
        let text = ruleset(&role, &[], &[], true);
        let whom =
            "meta skuid != 0 ip daddr @given_up4 tcp dport { 5432, 8008 } reject with tcp reset";
        assert!(text.contains(whom), "{text}");
    }

    #[test]
    fn without_a_bundle_nothing_is_opened() {
        assert!(closed().contains("policy drop"));
        assert!(!closed().contains("dport"));
    }

    #[test]
    fn a_name_with_quotes_cannot_end_its_comment() {
        let role = role(vec![port("x\" accept; #", 1, Protocol::Udp, Opened::Any)]);
        assert!(
            ruleset(&role, &[], &[], false)
                .contains("\t\tudp dport 1 accept comment \"x accept \"\n")
        );
    }

    /// The kernel is the judge: nft asks it even when it only checks.
    #[test]
    #[ignore = "needs BALLAST_NFT, the path of nft"]
    fn nft_takes_every_ruleset_twice() {
        use std::process::{Command, Stdio};

        let nft = std::env::var("BALLAST_NFT").unwrap();
        let all = role(vec![
            port("a", 8300, Protocol::Tcp, Opened::Site),
            port("b", 53, Protocol::Udp, Opened::Any),
            port("c", 5432, Protocol::Tcp, Opened::Clients),
        ]);
        let site: Vec<IpNet> =
            ["10.0.0.0/24", "10.0.0.0/25", "fd00::/64"].map(|n| n.parse().unwrap()).to_vec();
        let clients: Vec<IpNet> = ["10.0.0.0/8", "2000::/3"].map(|n| n.parse().unwrap()).to_vec();
        for text in [closed(), ruleset(&all, &[], &[], false), ruleset(&all, &site, &clients, true)]
        {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("firewall.nft");
            std::fs::write(&path, &text).unwrap();
            let script = format!("{nft} -f {0} && {nft} -f {0}", path.display());
            let output = Command::new("unshare")
                // As root of a network namespace of its own.
                .args(["-r", "-n", "sh", "-c", &script])
                .stdin(Stdio::null())
                .output()
                .unwrap();
            assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
        }
    }
}
