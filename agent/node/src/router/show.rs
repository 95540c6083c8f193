//! What the router shows of itself: `/status` as JSON, `/metrics` in Prometheus' text format.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{SystemTime, UNIX_EPOCH};

use hyper::StatusCode;
use serde::Serialize;

use super::group::Use;
use super::session::Door;
use crate::metrics;
use crate::serve::{self, Page};

/// The document at `/status`.
#[derive(Serialize)]
struct View {
    endpoints: Vec<EndpointView>,
}

#[derive(Serialize)]
struct EndpointView {
    name: String,
    listen: String,
    service: String,
    to: &'static str,
    /// The primary's name; null where there is none.
    primary: Option<String>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    waits_for: Option<String>,
    /// When the primary changed last, seconds since 1970, and how often.
    changed_at: u64,
    changes: u64,
    nodes: Vec<NodeView>,
    sessions: u64,
    waiting: u64,
    opened: u64,
    waited: u64,
    refused: u64,
    reset: u64,
    unreached: u64,
}

#[derive(Serialize)]
struct NodeView {
    name: String,
    address: String,
    is: String,
}

fn word(to: Use) -> &'static str {
    match to {
        Use::Primary => "primary",
        Use::Replicas => "replicas",
        Use::Any => "any",
    }
}

fn view(door: &Door) -> EndpointView {
    let seen = door.nodes.see();
    let (primary, waits_for) = match (seen.primary, door.to) {
        (Ok(name), _) => (Some(name), None),
        (Err(_), Use::Any) => (None, None),
        (Err(why), _) => (None, Some(why)),
    };
    let nodes = seen.nodes.into_iter().map(|(name, address, is)| {
        let address = address.to_string();
        NodeView { name, address, is }
    });
    let counts = &door.counts;
    EndpointView {
        name: door.name.clone(),
        listen: door.listen.to_string(),
        service: door.nodes.name.clone(),
        to: word(door.to),
        primary,
        waits_for,
        changed_at: seconds(seen.since),
        changes: seen.changes,
        nodes: nodes.collect(),
        sessions: count(counts.sessions.load(Relaxed)),
        waiting: count(counts.waiting.load(Relaxed)),
        opened: counts.opened.load(Relaxed),
        waited: counts.waited.load(Relaxed),
        refused: counts.refused.load(Relaxed),
        reset: door.nodes.resets(door.to),
        unreached: counts.unreached.load(Relaxed),
    }
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Answers a question about the router.
pub(super) fn answer(doors: &[Arc<Door>], path: &str) -> Option<Page> {
    let views = || doors.iter().map(|door| view(door)).collect::<Vec<_>>();
    match path {
        "/status" => Some(serve::json(&View { endpoints: views() })),
        "/metrics" => Some(serve::metrics(write_metrics(&views()))),
        // For who only asks whether it runs: what it leads to is not its own health.
        "/livez" => Some((StatusCode::OK, "text/plain", "ok\n".to_owned())),
        _ => None,
    }
}

fn write_metrics(views: &[EndpointView]) -> String {
    let mut page = metrics::Page::default();
    type Value = fn(&EndpointView) -> u64;
    let gauges: [(&str, &str, Value); 4] = [
        ("ballast_router_sessions", "Clients that are connected.", |v| v.sessions),
        ("ballast_router_waiting", "Clients that wait for a node.", |v| v.waiting),
        ("ballast_router_primary", "1 while the primary is known.", |v| v.primary.is_some().into()),
        (
            "ballast_router_changed_timestamp_seconds",
            "When the primary changed last, or was lost.",
            |v| v.changed_at,
        ),
    ];
    for (name, help, value) in gauges {
        page.gauge(name, help);
        for view in views {
            page.sample(name, &[("endpoint", &view.name)], value(view));
        }
    }
    let counters: [(&str, &str, Value); 6] = [
        ("ballast_router_opened_total", "Sessions that were led to a node.", |v| v.opened),
        ("ballast_router_waited_total", "Sessions that had to wait for a node.", |v| v.waited),
        ("ballast_router_refused_total", "Sessions that were refused.", |v| v.refused),
        (
            "ballast_router_reset_total",
            "Sessions that were reset because their node is not what it was.",
            |v| v.reset,
        ),
        ("ballast_router_unreached_total", "Times that a node did not take a session.", |v| {
            v.unreached
        }),
        ("ballast_router_changes_total", "Times that the primary changed or was lost.", |v| {
            v.changes
        }),
    ];
    for (name, help, value) in counters {
        page.counter(name, help);
        for view in views {
            page.sample(name, &[("endpoint", &view.name)], value(view));
        }
    }
    let name = "ballast_router_node";
    page.gauge(name, "1 for each node of an endpoint, with what it is.");
    for view in views {
        for node in &view.nodes {
            let kind = node.is.split([':', ',']).next().unwrap_or_default();
            let labels = [
                ("endpoint", view.name.as_str()),
                ("node", node.name.as_str()),
                ("address", node.address.as_str()),
                ("is", kind),
            ];
            page.sample(name, &labels, 1);
        }
    }
    page.0
}
