//! What is asked of a cluster, and what is refused, as Patroni describes the cluster.

use super::*;
use crate::cluster::read_cluster;

fn postgres(durability: Durability) -> Postgres {
    let text = include_str!("../../tests/fixtures/databases.toml");
    let cluster = read_cluster("cluster.toml", text.as_bytes()).unwrap();
    Postgres { durability, ..cluster.postgres.unwrap() }
}

fn member(number: u8, role: &str, state: &str, lag: Option<u64>) -> Member {
    let (name, role, state) = (format!("postgres-{number}"), role.to_owned(), state.to_owned());
    Member { name, role, state, timeline: Some(3), lag }
}

/// A primary, its synchronous standby, and a replica.
fn whole() -> View {
    let members = vec![
        member(1, "leader", "running", None),
        member(2, "replica", "streaming", Some(0)),
        member(3, "sync_standby", "streaming", Some(24)),
    ];
    View { members, pause: false }
}

fn planned(wish: &Wish, view: &View) -> Result<Plan, Error> {
    plan(wish, &postgres(Durability::Synchronous), view)
}

fn to(node: Option<&str>) -> Wish {
    Wish::Switchover { to: node.map(str::to_owned) }
}

fn reinit_of(node: &str) -> Wish {
    Wish::Reinit { node: node.to_owned() }
}

/// The sentence with which a wish is refused.
fn refusal(wish: &Wish, view: &View) -> String {
    planned(wish, view).unwrap_err().to_string()
}

#[test]
fn the_synchronous_standby_becomes_primary_though_another_is_nearer() {
    let Plan::Ask { says, node, body, .. } = planned(&to(None), &whole()).unwrap() else {
        panic!("nothing is done");
    };
    assert_eq!(node, "postgres-1");
    assert_eq!(body, json!({ "leader": "postgres-1", "candidate": "postgres-3" }));
    assert_eq!(says[0], "postgres-3 becomes the primary of postgres instead of postgres-1");
    assert_eq!(says[1], "it follows as sync_standby, 24 bytes behind");
}

#[test]
fn a_replica_that_may_lack_acknowledged_writes_is_refused() {
    assert_eq!(
        refusal(&to(Some("postgres-2")), &whole()),
        "postgres-2 may lack acknowledged writes, it is replica and no sync_standby"
    );
    let body = |durability| match plan(&to(None), &postgres(durability), &whole()).unwrap() {
        Plan::Ask { body, .. } => body,
        other => panic!("{other:?}"),
    };
    assert_eq!(body(Durability::Asynchronous)["candidate"], "postgres-2", "the nearest");
}

#[test]
fn a_member_that_does_not_follow_is_refused_with_what_it_is() {
    let mut view = whole();
    view.members[2].state = "starting".to_owned();
    assert_eq!(
        refusal(&to(Some("postgres-3")), &view),
        "postgres-3 does not follow the primary, it is starting"
    );
    view.members[2] = Member { timeline: Some(2), ..whole().members[2].clone() };
    assert_eq!(
        refusal(&to(None), &view),
        "no member of postgres can be the primary: postgres-2 may lack acknowledged writes, it is replica and no \
         sync_standby; postgres-3 is on another timeline than postgres-1"
    );
    assert_eq!(
        refusal(&to(Some("redis-1")), &whole()),
        "redis-1 is not a member of postgres that Patroni knows"
    );
}

#[test]
fn a_cluster_without_a_primary_or_in_maintenance_is_left_alone() {
    let mut view = whole();
    view.pause = true;
    assert_eq!(refusal(&to(None), &view), "postgres is in maintenance");
    view.members.remove(0);
    for wish in [to(None), reinit_of("postgres-2"), Wish::Maintenance { on: false }] {
        assert_eq!(refusal(&wish, &view), "postgres has no primary");
    }
}

#[test]
fn what_is_so_already_is_not_done_again() {
    for (wish, says) in [
        (to(Some("postgres-1")), "postgres-1 is the primary of postgres already"),
        (Wish::Maintenance { on: false }, "postgres is not in maintenance already"),
    ] {
        assert_eq!(planned(&wish, &whole()).unwrap(), Plan::Nothing(says.to_owned()));
    }
}

#[test]
fn maintenance_ends_by_forgetting_the_key() {
    let body = |view: &View, on| match planned(&Wish::Maintenance { on }, view).unwrap() {
        Plan::Ask { method: "PATCH", path: "config", body, .. } => body,
        other => panic!("{other:?}"),
    };
    assert_eq!(body(&whole(), true), json!({ "pause": true }));
    assert_eq!(body(&View { pause: true, ..whole() }, false), json!({ "pause": null }));
}

#[test]
fn the_primarys_data_and_the_last_followers_are_never_removed() {
    let Plan::Ask { node, path, .. } = planned(&reinit_of("postgres-3"), &whole()).unwrap() else {
        panic!("nothing is done");
    };
    assert_eq!((node.as_str(), path), ("postgres-3", "reinitialize"));
    assert_eq!(
        refusal(&reinit_of("postgres-1"), &whole()),
        "postgres-1 is the primary of postgres, and its data is the cluster's"
    );
    let mut view = whole();
    view.members[1].state = "starting".to_owned();
    assert_eq!(
        refusal(&reinit_of("postgres-3"), &view),
        "without postgres-3, no replica follows postgres-1, which then takes no writes"
    );
    // The one that does not follow is the one that may be made anew.
    assert!(planned(&reinit_of("postgres-2"), &view).is_ok());
    assert_eq!(refusal(&reinit_of("redis-1"), &whole()), "redis-1 is not a member of postgres");
    // One that is missed already is what the cluster waits for.
    view.members[2].state = "stopped".to_owned();
    assert!(matches!(planned(&reinit_of("postgres-3"), &view), Ok(Plan::Ask { .. })));
}
