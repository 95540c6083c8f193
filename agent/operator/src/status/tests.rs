//! What the servers answer is judged as the table says.

use super::*;
use crate::cluster::read_cluster;
use crate::consul::Tags;

const GOSSIP: (&str, &str) = ("serfHealth", "passing");

fn cluster() -> Cluster {
    read_cluster("cluster.toml", include_bytes!("../../tests/fixtures/good.toml")).unwrap()
}

fn check(node: &str, id: &str, status: &str) -> Check {
    let text = |t: &str| t.to_owned();
    Check { node: text(node), id: text(id), name: text(id), status: text(status) }
}

/// Three servers that agree on a leader, each with these checks.
fn view(checks: &[(&str, &str)]) -> View {
    let cluster = cluster();
    let leader: SocketAddr = "10.0.0.12:8300".parse().unwrap();
    let members =
        |name: &str| Member { name: name.to_owned(), tags: Tags { build: "1.8.7:abc".to_owned() } };
    View {
        leaders: cluster.nodes.iter().map(|n| (n.address.addr(), Ok(Some(leader)))).collect(),
        catalogue: Some((
            cluster.nodes.iter().map(|n| members(&n.name)).collect(),
            cluster
                .nodes
                .iter()
                .flat_map(|n| checks.iter().map(|(id, status)| check(&n.name, id, status)))
                .collect(),
        )),
    }
}

fn judged(view: View) -> Status {
    judge(&cluster(), &HashMap::from([("dc1".to_owned(), view)]))
}

#[test]
fn a_healthy_site_is_passing_and_names_its_leader() {
    let status = judged(view(&[GOSSIP, ("ballast", "passing")]));
    assert!(status.passing);
    assert_eq!(
        status.to_string(),
        "NODE      ROLE           ADDRESS    HEALTH   LEADER    VERSION\n\
         consul-1  consul-server  10.0.0.11  passing  consul-2  1.8.7\n\
         consul-2  consul-server  10.0.0.12  passing  consul-2  1.8.7\n\
         consul-3  consul-server  10.0.0.13  passing  consul-2  1.8.7\n"
    );
}

#[test]
fn a_node_is_as_healthy_as_its_worst_check() {
    let status = judged(view(&[GOSSIP, ("disk", "warning"), ("ballast", "critical")]));
    assert!(!status.passing);
    assert_eq!(status.nodes[0].health, Health::Critical);
    assert_eq!(status.nodes[0].reasons, ["disk: warning", "ballast: critical"]);
}

#[test]
fn a_node_whose_agent_is_silent_is_not_passing() {
    let status = judged(view(&[GOSSIP]));
    assert_eq!(status.nodes[0].health, Health::Warning);
    assert_eq!(status.nodes[0].reasons, ["its agent has not reported yet"]);
}

#[test]
fn a_node_that_never_registered_is_absent() {
    let status = judged(view(&[]));
    assert!(status.nodes.iter().all(|row| row.health == Health::Absent));
}

#[test]
fn a_silent_data_centre_is_unreachable_rows() {
    let mut silent = view(&[]);
    silent.catalogue = None;
    silent.leaders.values_mut().for_each(|l| *l = Err("no answer in time".to_owned()));
    let status = judged(silent);
    assert!(!status.passing);
    assert!(
        status.nodes.iter().all(|row| row.health == Health::Unreachable && row.leader.is_none())
    );
    assert!(judged(View::default()).nodes.iter().all(|row| row.health == Health::Unreachable));
}

#[test]
fn a_server_that_does_not_answer_is_critical_whatever_the_others_say() {
    let mut view = view(&[GOSSIP, ("ballast", "passing")]);
    view.leaders.insert("10.0.0.13".parse().unwrap(), Err("no answer in time".to_owned()));
    let status = judged(view);
    let healths: Vec<_> = status.nodes.iter().map(|row| row.health).collect();
    assert_eq!(healths, [Health::Passing, Health::Passing, Health::Critical]);
}

#[test]
fn servers_without_a_leader_are_critical() {
    let mut view = view(&[GOSSIP, ("ballast", "passing")]);
    view.leaders.values_mut().for_each(|l| *l = Ok(None));
    let status = judged(view);
    assert!(
        status
            .nodes
            .iter()
            .all(|row| row.health == Health::Critical && row.reasons == ["no leader"])
    );
}
