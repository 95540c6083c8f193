//! A planned change of the primary: nothing is lost, and what would lose something is refused.

use super::*;
use crate::redis::switchover::{Plan, fail_over};

/// Writes one key after the other to a node until it no longer takes them; each is acknowledged once a replica has it.
async fn write_on(mut session: Server, mark: String) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for number in 0.. {
        let key = format!("{mark}{number}");
        if session.ask::<String>(&["SET", &key, "1"]).await.is_err() {
            break;
        }
        if !matches!(session.ask::<u8>(&["WAIT", "1", "500"]).await, Ok(1..)) {
            break;
        }
        acknowledged.push(key);
    }
    acknowledged
}

#[tokio::test]
#[ignore = "needs BALLAST_REDIS, the path of redis-server 8"]
async fn a_switchover_loses_no_acknowledged_write_and_the_sentinels_agree() {
    let mut nodes = three();
    nodes.iter_mut().for_each(Node::boot);
    become_whole(&nodes).await;
    write(&nodes[0], "before", "1").await;
    all_is_well(&nodes).await;

    for (from, to) in [(0, 2), (2, 1)] {
        let writers: Vec<_> = (0..4)
            .map(|n| tokio::spawn(write_on(nodes[from].session(), format!("{from}-{n}-"))))
            .collect();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let start = Instant::now();
        let tagged = async {
            let role = async || nodes[to].role();
            eventually("it has the tag", role, |role| role == PRIMARY).await;
            println!("until the tag: {} ms", start.elapsed().as_millis());
        };
        let (handed, ()) = tokio::join!(nodes[from].hand_over(&nodes[to]), tagged);
        handed.unwrap();
        println!("until the Sentinels agree: {} ms", start.elapsed().as_millis());
        let mut count = 0;
        for writer in writers {
            // It ends by itself: the session was cut.
            for key in writer.await.unwrap() {
                reads_from(&nodes[to..=to], &key, "1").await;
                count += 1;
            }
        }
        assert!(count > 10, "{count} writes were acknowledged");
        println!("{count} acknowledged writes, none lost");
        assert_eq!(become_whole(&nodes).await, to);
        write(&nodes[to], "after", &to.to_string()).await;
        reads(&nodes, "after", &to.to_string()).await;
        // No Sentinel takes it for a lost primary, nor prefers it from now on.
        all_is_well(&nodes).await;
    }
}

#[tokio::test]
#[ignore = "needs BALLAST_REDIS, the path of redis-server 8"]
async fn a_switchover_that_is_unsafe_is_refused_with_the_reason() {
    let mut nodes = three();
    nodes.iter_mut().for_each(Node::boot);
    become_whole(&nodes).await;
    write(&nodes[0], "key", "1").await;
    all_is_well(&nodes).await;
    let refused = |to: Option<&str>| nodes[0].plan(to).unwrap_err().reason;
    assert_eq!(refused(Some("n9")), "n9 is not a member of redis");
    assert_eq!(nodes[1].plan(None).unwrap_err().reason, "n5 is not the primary of redis");
    let Ok(Plan::HandOver { to, .. }) = nodes[0].plan(None) else { panic!() };
    assert_eq!(to.name, "n5");

    nodes[1].kill();
    let gone = async || nodes[0].plan(Some("n5")).map_err(|refusal| refusal.reason);
    let refused = eventually("n5 is refused", gone, Result::is_err).await.unwrap_err();
    assert!(refused.starts_with("n5 does not "), "{refused}");
    let Ok(Plan::HandOver { to, .. }) = nodes[0].plan(None) else { panic!() };
    assert_eq!(to.name, "n6");

    nodes[2].kill();
    let none = async || nodes[0].plan(None).map_err(|refusal| refusal.reason);
    let refused = eventually("all are refused", none, Result::is_err).await.unwrap_err();
    println!("{refused}");
}

#[tokio::test]
#[ignore = "needs BALLAST_REDIS, the path of redis-server 8"]
async fn a_switchover_to_a_node_that_stands_still_changes_nothing() {
    let mut nodes = three();
    nodes.iter_mut().for_each(Node::boot);
    become_whole(&nodes).await;
    write(&nodes[0], "key", "1").await;
    all_is_well(&nodes).await;
    // Its Redis alone, in the moment after it was asked last.
    let (group, tell) = (nodes[0].group(), mpsc::channel(1).0);
    let Node { contents, .. } = &nodes[1];
    let to = Member { name: "n5".into(), address: contents.node.network.address.addr() };
    let mut own = group.servers().unwrap().redis;
    nodes[1].signal_program(0, nix::sys::signal::Signal::SIGSTOP);
    let why = fail_over(&to, &mut own, &tell).await.unwrap_err();
    nodes[1].signal_program(0, nix::sys::signal::Signal::SIGCONT);
    assert!(why.starts_with("n5 did not"), "{why}");
    assert_eq!(become_whole(&nodes).await, 0);
    write(&nodes[0], "key", "2").await;
    reads(&nodes, "key", "2").await;
    all_is_well(&nodes).await;
}
