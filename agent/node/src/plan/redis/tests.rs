//! What the two configurations promise over first boots, reboots, new bundles and damaged disks.

use ballast_bundle::Contents;

use super::*;
use crate::fixture;

/// The configurations of a node that finds this on its disk.
fn boot(contents: &Contents, kept: &Kept) -> [String; 2] {
    let wanted = Wanted {
        node: &contents.node,
        redis: contents.node.redis.as_ref().unwrap(),
        secrets: contents.secrets.redis.as_ref().unwrap(),
        memory_bytes: 4 << 30,
        layout: &Layout::default(),
    };
    let files = files(&wanted, kept, &[vec![], vec![], vec![]]);
    ["redis.conf", "sentinel.conf"].map(|name| {
        let file = files.iter().find(|f| f.path == format!("/var/lib/redis/{name}")).unwrap();
        assert_eq!((file.mode, file.owner), (0o600, REDIS));
        String::from_utf8(file.bytes.clone()).unwrap()
    })
}

fn node(name: &str) -> Contents {
    fixture::Site::new().redis_contents(name)
}

/// What the next boot finds: the two files as text, and data.
fn with_data(redis: &str, sentinel: &str) -> Kept {
    Kept { redis: Some(redis.into()), sentinel: Some(sentinel.into()), data: true }
}

fn follows(redis_conf: &str) -> Option<&str> {
    redis_conf.lines().find_map(|line| line.strip_prefix("replicaof "))
}

/// Redis 8.0.2's own words, after it was made the primary and rewrote its file.
const LED: &str = include_str!("golden/led.conf");
/// Sentinel 8.0.2's own words, after a failover from 10.0.0.4 to 10.0.0.5.
const SWITCHED: &str = include_str!("golden/switched.conf");

#[test]
fn a_first_boot_writes_what_is_pinned() {
    let [redis, sentinel] = boot(&node("n4"), &Kept::default());
    assert_eq!(redis, include_str!("golden/first.redis.conf"));
    assert_eq!(sentinel, include_str!("golden/first.sentinel.conf"));
}

#[test]
fn a_boot_after_a_failover_writes_what_is_pinned() {
    let [redis, sentinel] = boot(&node("n5"), &with_data(LED, SWITCHED));
    assert_eq!(follows(&redis), None);
    assert_eq!(sentinel, include_str!("golden/later.sentinel.conf"));
}

#[test]
fn booting_twice_leaves_the_same_bytes() {
    let node = node("n5");
    let first = Kept::default();
    for kept in [first, with_data(LED, SWITCHED), with_data("", "")] {
        let once = boot(&node, &kept);
        let twice = boot(&node, &with_data(&once[0], &once[1]));
        assert_eq!(once, twice);
    }
}

#[test]
fn a_node_without_data_never_starts_as_a_primary() {
    for name in ["n4", "n5", "n6"] {
        let node = node(name);
        let other = if name == "n4" { "10.0.0.5 6379" } else { "10.0.0.4 6379" };
        for kept in [
            Kept::default(),
            // The data is gone, the configuration is not.
            Kept { data: false, ..with_data(LED, SWITCHED) },
            // The configuration is gone or torn, the data is not.
            Kept { data: true, ..Kept::default() },
            with_data("", ""),
            with_data("# Written by", "sentinel mon"),
        ] {
            let [redis, sentinel] = boot(&node, &kept);
            assert_eq!(follows(&redis), Some(other), "{name}");
            assert!(redis.contains("replica-priority 0\n"), "no Sentinel promotes it: {redis}");
            let again = with_data(&redis, &sentinel);
            assert_eq!(boot(&node, &again)[0], redis, "a reboot fills nothing");
        }
    }
}

#[test]
fn a_node_alone_in_its_group_has_nobody_to_follow_and_nobody_to_empty() {
    let mut node = node("n4");
    node.node.redis.as_mut().unwrap().members.truncate(1);
    let [redis, _] = boot(&node, &Kept::default());
    assert_eq!(follows(&redis), None);
    assert!(redis.contains("min-replicas-to-write 0\n"));
}

#[test]
fn whom_redis_followed_survives_a_reboot() {
    let followed = format!("{LED}\nreplicaof 10.0.0.6 6379\n");
    let [redis, _] = boot(&node("n5"), &with_data(&followed, ""));
    assert_eq!(follows(&redis), Some("10.0.0.6 6379"));
    assert!(!redis.contains("replica-priority"));
}

#[test]
fn a_new_bundles_passwords_and_timings_win_over_what_stands_there() {
    let mut node = node("n5");
    let [_, before] = boot(&node, &with_data(LED, SWITCHED));
    node.node.timings.sentinel_down_after_ms = 7_000;
    node.node.timings.min_replicas_max_lag_secs = 9;
    node.secrets.redis.as_mut().unwrap().sentinel = "anotherPasswordOfTwenty".into();
    let [redis, sentinel] = boot(&node, &with_data(LED, &before));
    assert!(redis.contains("min-replicas-max-lag 9\n"));
    assert!(sentinel.contains("sentinel down-after-milliseconds redis 7000\n"));
    assert!(sentinel.contains("sentinel auth-pass redis anotherPasswordOfTwenty\n"));
    assert!(sentinel.contains("sentinel monitor redis 10.0.0.5 6379 2\n"));
    assert!(!sentinel.contains("sentinelPassword"), "{sentinel}");
}

#[test]
fn no_two_sentinels_try_again_at_the_same_time() {
    let timeout = |name: &str| {
        let [_, sentinel] = boot(&node(name), &with_data(LED, SWITCHED));
        let line = sentinel.lines().find(|l| l.starts_with("sentinel failover-timeout redis "));
        line.unwrap().rsplit(' ').next().unwrap().parse::<u32>().unwrap()
    };
    let all = ["n4", "n5", "n6"].map(timeout);
    let base = node("n5").node.timings.sentinel_failover_timeout_ms;
    assert_eq!(all, [base, base / 2 * 3, base * 2]);
}

#[test]
fn a_member_that_left_is_forgotten_and_one_that_came_is_known() {
    let mut node = node("n5");
    let members = &mut node.node.redis.as_mut().unwrap().members;
    members[2] = Member { name: "n7".into(), address: [10, 0, 0, 7].into() };
    let [_, sentinel] = boot(&node, &with_data(LED, SWITCHED));
    assert!(!sentinel.contains("10.0.0.6"), "{sentinel}");
    assert!(sentinel.contains("sentinel known-replica redis 10.0.0.7 6379\n"));
    assert!(sentinel.contains("sentinel known-sentinel redis 10.0.0.7 26379 "));
}

#[test]
fn a_sentinel_with_an_empty_disk_comes_back_under_its_id() {
    let id = |kept: &Kept| {
        let [_, sentinel] = boot(&node("n5"), kept);
        sentinel.lines().find(|l| l.starts_with("sentinel myid ")).unwrap().to_owned()
    };
    let first = id(&Kept::default());
    assert_eq!(id(&with_data(LED, SWITCHED)), first);
    assert_eq!(first.len(), "sentinel myid ".len() + 40);
    let [_, other] = boot(&node("n6"), &with_data(LED, SWITCHED));
    let known = first.replace("sentinel myid", "sentinel known-sentinel redis 10.0.0.5 26379");
    assert!(other.contains(&known), "the others know it by the same id");
}

#[test]
fn the_application_may_administer_nothing() {
    let text = users(node("n4").secrets.redis.as_ref().unwrap(), Applications::Admitted);
    let app = text.lines().find(|l| l.starts_with("user app ")).unwrap();
    assert!(app.contains("-@admin -@dangerous"), "{app}");
    for command in ["config", "debug", "shutdown", "replicaof", "acl", "flushall"] {
        assert!(!app.contains(&format!("+{command}")), "{app}");
    }
    assert!(text.starts_with("user default off"));
}
