//! `/metrics`: the node and its checks in Prometheus' text format (version 0.0.4).
//!
//! The kernel is asked only when somebody asks here: an idle agent reads nothing.

use std::fmt::{Display, Write};

use sysinfo::{CpuRefreshKind, MemoryRefreshKind, Networks, System};

use crate::peers::PeerView;
use crate::run::View;
use crate::state::{Health, State};

/// What has to be kept between two scrapes.
pub(crate) struct Metrics {
    system: System,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self { system: System::new() }
    }

    /// Everything, as one text.
    pub(crate) fn write(&mut self, view: &View) -> String {
        let mut page = Page(String::new());
        write_node(&mut page, view);
        write_peers(&mut page, view);
        self.write_machine(&mut page);
        page.0
    }

    fn write_machine(&mut self, page: &mut Page) {
        self.system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        self.system.refresh_cpu_specifics(CpuRefreshKind::nothing().with_cpu_usage());

        page.gauge("node_memory_total_bytes", "Memory of the machine.");
        page.sample("node_memory_total_bytes", &[], self.system.total_memory());
        page.gauge("node_memory_available_bytes", "Memory that programs could still get.");
        page.sample("node_memory_available_bytes", &[], self.system.available_memory());
        page.gauge(
            "node_cpu_percent",
            "Mean use of all processors since the last time this was read.",
        );
        page.sample("node_cpu_percent", &[], self.system.global_cpu_usage());
        page.gauge("node_load1", "Mean length of the run queue over one minute.");
        page.sample("node_load1", &[], System::load_average().one);
        page.gauge("node_uptime_seconds", "Time since the machine started.");
        page.sample("node_uptime_seconds", &[], System::uptime());

        // All samples of a name stand together, as the format wants it.
        let paths = ["/", "/var"];
        // A path that cannot be asked is a check's to judge.
        let found =
            || paths.iter().filter_map(|p| Some((*p, nix::sys::statvfs::statvfs(*p).ok()?)));
        page.gauge("node_filesystem_size_bytes", "Size of a file system.");
        for (path, found) in found() {
            let bytes = found.blocks().saturating_mul(found.fragment_size());
            page.sample("node_filesystem_size_bytes", &[("path", path)], bytes);
        }
        page.gauge("node_filesystem_available_bytes", "Room for unprivileged programs.");
        for (path, found) in found() {
            let bytes = found.blocks_available().saturating_mul(found.fragment_size());
            page.sample("node_filesystem_available_bytes", &[("path", path)], bytes);
        }

        let networks = Networks::new_with_refreshed_list();
        page.counter("node_network_receive_bytes_total", "Bytes received on a link.");
        for (link, data) in &networks {
            let label = [("link", link.as_str())];
            page.sample("node_network_receive_bytes_total", &label, data.total_received());
        }
        page.counter("node_network_transmit_bytes_total", "Bytes sent on a link.");
        for (link, data) in &networks {
            let label = [("link", link.as_str())];
            page.sample("node_network_transmit_bytes_total", &label, data.total_transmitted());
        }
    }
}

fn write_node(page: &mut Page, view: &View) {
    page.gauge("ballast_info", "Who this node is and what it runs.");
    let labels = [
        ("node", view.node.as_str()),
        ("site", view.site.as_str()),
        ("role", view.role.as_str()),
        ("datacenter", view.datacenter.as_str()),
        ("image", view.image.as_str()),
        ("version", view.version.as_str()),
        ("bundle", view.bundle.as_str()),
    ];
    page.sample("ballast_info", &labels, 1);

    page.gauge("ballast_state", "1 for the state the node is in.");
    let states =
        [State::Starting, State::Passing, State::Warning, State::Critical, State::Stopping];
    for state in states {
        page.sample(
            "ballast_state",
            &[("state", &state.to_string())],
            u8::from(state == view.state),
        );
    }

    page.gauge(
        "ballast_check",
        "A check's last answer: 0 passing, 1 warning, 2 critical or none yet.",
    );
    for check in &view.checks {
        let value = match check.answer.as_ref().map(|a| a.health) {
            Some(Health::Passing) => 0,
            Some(Health::Warning) => 1,
            Some(Health::Critical) | None => 2,
        };
        page.sample("ballast_check", &[("check", &check.name)], value);
    }

    page.gauge(
        "ballast_consul_informed",
        "1 when Consul could be told of this node's health the last time.",
    );
    page.sample("ballast_consul_informed", &[], u8::from(view.consul.error.is_none()));
}

/// A page in the text format. Writing to a String cannot fail.
#[derive(Default)]
pub(crate) struct Page(pub(crate) String);

impl Page {
    pub(crate) fn gauge(&mut self, name: &str, help: &str) {
        self.head(name, help, "gauge");
    }

    pub(crate) fn counter(&mut self, name: &str, help: &str) {
        self.head(name, help, "counter");
    }

    fn head(&mut self, name: &str, help: &str, kind: &str) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    pub(crate) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (i, (key, text)) in labels.iter().enumerate() {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{}{key}=\"{text}\"", if i == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }
}

/// What this node knows of the members that it watches.
fn write_peers(page: &mut Page, view: &View) {
    if view.peers.is_empty() {
        return;
    }
    type Value = fn(&PeerView) -> u64;
    let gauges: [(&str, &str, Value); 2] = [
        ("ballast_peer_suspect", "1 for a peer that gives no sign of life.", |p| p.suspect.into()),
        (
            "ballast_peer_fenced",
            "1 for a peer that this node's database refuses to talk to.",
            |p| p.fenced.into(),
        ),
    ];
    let labels =
        |peer: &PeerView| [("cluster", peer.cluster.clone()), ("member", peer.member.clone())];
    for (name, help, value) in gauges {
        page.gauge(name, help);
        for peer in &view.peers {
            let [cluster, member] = labels(peer);
            page.sample(name, &[(cluster.0, &cluster.1), (member.0, &member.1)], value(peer));
        }
    }
    let name = "ballast_peer_given_up_total";
    page.counter(name, "Times that this node took the leader key from a peer.");
    for peer in &view.peers {
        let [cluster, member] = labels(peer);
        page.sample(name, &[(cluster.0, &cluster.1), (member.0, &member.1)], peer.given_up);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_cannot_end_its_quotes() {
        let mut page = Page(String::new());
        page.sample("x", &[("a", "1\"} 9\n"), ("b", "2")], 3);
        assert_eq!(page.0, "x{a=\"1\\\"} 9\\n\",b=\"2\"} 3\n");
    }
}
