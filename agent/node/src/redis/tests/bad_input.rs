//! What a group says and does when its logs, memory and passwords are not what they should be.

use super::*;

/// The check's answer, once it is critical and says this.
async fn becomes_critical(node: &Node, check: usize, words: &str) {
    let said = |answers: &[Answer; 5]| {
        answers[check].health == Health::Critical && answers[check].output.contains(words)
    };
    eventually(words, async || node.checks(), said).await;
}

#[tokio::test]
#[ignore = "needs BALLAST_REDIS, the path of redis-server 8"]
async fn a_primary_whose_log_was_cut_in_the_middle_is_replaced_and_touches_nothing() {
    let mut nodes = three();
    nodes.iter_mut().for_each(Node::boot);
    become_whole(&nodes).await;
    write(&nodes[0], "key", "kept").await;
    all_is_well(&nodes).await;
    nodes[0].kill();
    // The log is what was there when it was rewritten last, and what came after: the first part is cut.
    let directory = std::fs::read_dir(nodes[0].at("home/data/appendonlydir")).unwrap();
    let mut files = directory.map(|entry| entry.unwrap().path());
    let base = files.find(|path| path.to_string_lossy().ends_with(".base.rdb")).unwrap();
    let bytes = std::fs::read(&base).unwrap();
    std::fs::write(&base, &bytes[..bytes.len() / 2]).unwrap();
    let log = std::fs::read(log_of(&nodes[0])).unwrap();
    nodes[0].boot();
    let others = async || [nodes[1].role(), nodes[2].role()];
    let one_leads = |roles: &[String; 2]| roles.iter().any(|role| role == PRIMARY);
    eventually("another is primary", others, one_leads).await;
    becomes_critical(&nodes[0], 3, "`journalctl -u redis` says why").await;
    assert_eq!(std::fs::read(&base).unwrap(), &bytes[..bytes.len() / 2], "no data is touched");
    assert_eq!(std::fs::read(log_of(&nodes[0])).unwrap(), log, "no data is touched");
    let journal = async || std::fs::read_to_string(nodes[0].at("redis.conf.log")).unwrap();
    let says = |said: &String| said.contains("Unexpected EOF reading RDB file");
    eventually("the journal says what is wrong", journal, says).await;
    reads_from(&nodes[1..], "key", "kept").await;
}

#[tokio::test]
#[ignore = "needs BALLAST_REDIS, the path of redis-server 8"]
async fn a_memory_that_is_full_refuses_writes_says_so_and_forgets_nothing() {
    let mut nodes = three();
    nodes.iter_mut().for_each(Node::boot);
    become_whole(&nodes).await;
    write(&nodes[0], "key", "kept").await;
    let value = "x".repeat(256 << 10);
    let mut session = nodes[0].session();
    let mut count = 0;
    let refused = loop {
        assert!(count < 1_000, "it takes more than its limit");
        let key = format!("fill{count}");
        match client::or_text(session.ask::<()>(&["SET", &key, &value]).await) {
            Ok(()) => count += 1,
            Err(why) => break why,
        }
    };
    assert!(refused.contains("OOM"), "{refused}");
    becomes_critical(&nodes[0], 4, "every write is refused").await;
    for key in ["key".to_owned(), "fill0".to_owned()] {
        assert!(nodes[0].ask(&["GET", &key]).await.is_ok(), "{key}");
    }
    session.ask::<u8>(&["DEL", "fill0", "fill1", "fill2", "fill3", "fill4"]).await.unwrap();
    write(&nodes[0], "key", "again").await;
}

#[tokio::test]
#[ignore = "needs BALLAST_REDIS, the path of redis-server 8"]
async fn a_node_with_another_bundles_passwords_says_so_and_is_no_replica() {
    let mut nodes = three();
    let right = nodes[2].contents.secrets.redis.clone().unwrap();
    if let Some(secrets) = &mut nodes[2].contents.secrets.redis {
        for secret in [&mut secrets.replication, &mut secrets.monitor, &mut secrets.sentinel] {
            secret.push_str("OfAnotherAge");
        }
    }
    nodes.iter_mut().for_each(Node::boot);
    // The group is not new without all of its members.
    let waits = |role: &String| role.contains("n6 may: waiting for all members");
    eventually("n4 waits for n6", async || nodes[0].role(), waits).await;
    assert_ne!(nodes[2].role(), REPLICA);

    nodes[2].kill();
    nodes[2].contents.secrets.redis = Some(right.clone());
    nodes[2].boot();
    become_whole(&nodes).await;
    write(&nodes[0], "key", "kept").await;
    all_is_well(&nodes).await;

    // A bundle that is newer than the running Redis: its agent alone was started again.
    if let Some((.., agent)) = nodes[2].agent.take() {
        agent.abort();
    }
    if let Some(secrets) = &mut nodes[2].contents.secrets.redis {
        secrets.monitor.push_str("OfAnotherAge");
    }
    nodes[2].agent = Some(start_group(nodes[2].group()).unwrap());
    for check in [0, 1, 3] {
        becomes_critical(&nodes[2], check, "restart redis.service").await;
    }
    // The same after a boot: the others' passwords are no longer its own.
    nodes[2].kill();
    if let Some(secrets) = &mut nodes[2].contents.secrets.redis {
        secrets.replication.push_str("OfAnotherAge");
    }
    nodes[2].boot();
    becomes_critical(&nodes[2], 1, "may differ in passwords").await;
    let unheard = |role: &String| role.contains("does not hear its primary");
    eventually("it has no tag", async || nodes[2].role(), unheard).await;
    nodes[2].kill();
    nodes[2].contents.secrets.redis = Some(right);
    nodes[2].boot();
    become_whole(&nodes).await;
    reads(&nodes, "key", "kept").await;
}
