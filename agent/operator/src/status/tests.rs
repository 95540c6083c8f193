//! What the servers answer is judged as the table says.

use super::*;
use crate::cluster::read_cluster;
use crate::consul::Tags;

const GOSSIP: (&str, &str) = ("serfHealth", "passing");

const GOOD: &str = include_str!("../../tests/fixtures/good.toml");
const DATABASES: &str = include_str!("../../tests/fixtures/databases.toml");

fn cluster() -> Cluster {
    read_cluster("cluster.toml", GOOD.as_bytes()).unwrap()
}

fn check(node: &str, id: &str, status: &str) -> Check {
    let text = |t: &str| t.to_owned();
    Check {
        node: text(node),
        id: text(id),
        name: text(id),
        status: text(status),
        service: String::new(),
        output: text("role r is passing (image 0.1.0, slot a)"),
    }
}

/// Three servers that agree on a leader, each with these checks.
fn view(checks: &[(&str, &str)]) -> View {
    view_of(&cluster(), checks)
}

/// A site whose servers agree on a leader, each node with these checks.
fn view_of(cluster: &Cluster, checks: &[(&str, &str)]) -> View {
    let leader: SocketAddr = "10.0.0.12:8300".parse().unwrap();
    let members =
        |name: &str| Member { name: name.to_owned(), tags: Tags { build: "1.8.7:abc".to_owned() } };
    View {
        leaders: cluster.nodes.iter().map(|n| (n.address.addr(), Ok(Some(leader)))).collect(),
        catalogue: Some(Catalogue {
            members: cluster.nodes.iter().map(|n| members(&n.name)).collect(),
            checks: cluster
                .nodes
                .iter()
                .flat_map(|n| checks.iter().map(|(id, status)| check(&n.name, id, status)))
                .collect(),
            instances: Vec::new(),
        }),
        patroni: None,
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
        "NODE      ROLE           ADDRESS    HEALTH   STATE     LAG  SYNC  QUORUM  CONSUL  IMAGE  SLOT\n\
         consul-1  consul-server  10.0.0.11  passing  follower  -    -     -       1.8.7   0.1.0  a\n\
         consul-2  consul-server  10.0.0.12  passing  leader    -    -     -       1.8.7   0.1.0  a\n\
         consul-3  consul-server  10.0.0.13  passing  follower  -    -     -       1.8.7   0.1.0  a\n"
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

/// A node, its tag and its metadata.
type Said = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// A site with databases: every node healthy, and with these tags and this metadata.
fn databases(instances: &[Said]) -> (Cluster, View) {
    let cluster = read_cluster("cluster.toml", DATABASES.as_bytes()).unwrap();
    let mut view = view_of(&cluster, &[GOSSIP, ("ballast", "passing")]);
    let text = |t: &str| t.to_owned();
    view.catalogue.as_mut().unwrap().instances = instances
        .iter()
        .map(|(node, tag, meta)| Instance {
            node: text(node),
            tags: vec![text(tag)],
            meta: meta.iter().map(|(key, value)| (text(key), text(value))).collect(),
        })
        .collect();
    view.leaders.retain(|address, _| cluster.servers("dc1").any(|n| n.address.addr() == *address));
    (cluster, view)
}

const WHOLE: [Said; 6] = [
    ("postgres-1", "replica", &[("sync", "async"), ("lag_bytes", "16384"), ("timeline", "3")]),
    ("postgres-2", "primary", &[("timeline", "3")]),
    ("postgres-3", "replica", &[("sync", "sync"), ("lag_bytes", "0"), ("timeline", "3")]),
    ("redis-1", "primary", &[("sentinel_quorum", "ok")]),
    ("redis-2", "replica", &[("sentinel_quorum", "ok"), ("lag_bytes", "14")]),
    ("redis-3", "replica", &[("sentinel_quorum", "2 of 3"), ("lag_bytes", "0")]),
];

#[test]
fn every_database_node_says_what_it_is_and_how_far_behind() {
    let (cluster, view) = databases(&WHOLE);
    let status = judge(&cluster, &HashMap::from([("dc1".to_owned(), view)]));
    assert!(status.passing, "{status}");
    let table = status.to_string();
    let rows: Vec<_> = table.lines().skip(4).collect();
    assert_eq!(
        rows,
        [
            "postgres-1  postgres       10.0.0.21  passing  replica   16 kB  async  -       1.8.7   0.1.0  a",
            "postgres-2  postgres       10.0.0.22  passing  primary   -      -      -       1.8.7   0.1.0  a",
            "postgres-3  postgres       10.0.0.23  passing  replica   0 B    sync   -       1.8.7   0.1.0  a",
            "redis-1     redis          10.0.0.31  passing  primary   -      -      ok      1.8.7   0.1.0  a",
            "redis-2     redis          10.0.0.32  passing  replica   14 B   -      ok      1.8.7   0.1.0  a",
            "redis-3     redis          10.0.0.33  passing  replica   0 B    -      2 of 3  1.8.7   0.1.0  a",
        ]
    );
    assert_eq!(status.nodes[3].timeline, Some(3));
}

#[test]
fn a_cluster_without_its_one_primary_is_a_problem_of_the_site() {
    let wrong: [(&[usize], &str, &[&str]); 3] = [
        (&[1], "replica", &["postgres has no primary"]),
        (&[3, 1], "replica", &["postgres has no primary", "redis has no primary"]),
        (&[4], "primary", &["redis has 2 primaries: redis-1, redis-2"]),
    ];
    for (changed, tag, problems) in wrong {
        let mut instances = WHOLE;
        changed.iter().for_each(|index| instances[*index].1 = tag);
        let (cluster, view) = databases(&instances);
        let status = judge(&cluster, &HashMap::from([("dc1".to_owned(), view)]));
        assert_eq!(status.problems, problems);
        assert!(!status.passing);
        assert!(status.to_string().ends_with(&format!("{}\n", problems.join("\n"))));
    }
}

#[test]
fn a_primary_that_consul_leads_nobody_to_is_none() {
    for (service, primary) in [("", false), ("redis", false), ("other", true)] {
        let (cluster, mut view) = databases(&WHOLE);
        let mut critical = check("redis-1", "ballast-role", "critical");
        critical.service = service.to_owned();
        view.catalogue.as_mut().unwrap().checks.push(critical);
        let status = judge(&cluster, &HashMap::from([("dc1".to_owned(), view)]));
        assert_eq!(status.problems.is_empty(), primary, "{service:?}");
        assert!(!status.passing);
    }
}

#[test]
fn databases_of_a_silent_data_centre_are_not_judged() {
    let (cluster, mut view) = databases(&WHOLE);
    view.catalogue = None;
    let status = judge(&cluster, &HashMap::from([("dc1".to_owned(), view)]));
    assert!(status.problems.is_empty() && !status.passing);
    assert!(status.nodes.iter().all(|row| row.state.is_none() || row.role == "consul-server"));
}

#[test]
fn patroni_itself_says_what_the_agents_do_not() {
    let (cluster, mut view) = databases(&WHOLE);
    let instances = &mut view.catalogue.as_mut().unwrap().instances;
    instances.iter_mut().for_each(|i| i.meta.clear());
    let member = |name: &str, lag| patroni::Member {
        name: name.to_owned(),
        role: "replica".to_owned(),
        state: "streaming".to_owned(),
        timeline: Some(9),
        lag,
    };
    view.patroni = Some(patroni::View {
        members: vec![member("postgres-1", Some(300 << 20)), member("postgres-2", None)],
        pause: true,
    });
    let status = judge(&cluster, &HashMap::from([("dc1".to_owned(), view)]));
    assert_eq!(status.nodes[3].timeline, Some(9));
    assert!(status.to_string().contains("replica   300 MB"), "{status}");
    // Maintenance is no fault, and is never forgotten.
    assert!(status.passing);
    let note = "postgres is in maintenance: no other primary is chosen by itself\n";
    assert!(status.to_string().ends_with(note), "{status}");
}
