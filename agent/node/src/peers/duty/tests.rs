//! What observers promise, against a real Consul and over real sockets.

use std::net::UdpSocket as Socket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use ballast_bundle::{Expectation, Trust};
use serde_json::{Value, json};

use super::super::suspicion::Patience;
use super::*;
use crate::fixture::real_consul::{RealConsul, ask, eventually};
use crate::fixture::{self, uuid};

const MANAGEMENT: u8 = 0x11;
const CLUSTER: &str = "main";
/// Members p1 and p2, both to be silenced, and observers c1 to c3.
const MEMBERS: [&str; 2] = ["127.77.8.21", "127.77.8.22"];
const SERVERS: [&str; 3] = ["127.77.8.11", "127.77.8.12", "127.77.8.13"];

#[test]
fn a_vote_is_read_as_it_was_written() {
    let ballot = Ballot { term: 7, fenced: true, sequence: 3 };
    let entry = Entry {
        key: vote_key("main", "p1", "c1"),
        value: serde_json::to_vec(&ballot).unwrap(),
        index: 9,
    };
    let vote = read_vote("main", &entry).unwrap();
    assert_eq!((vote.suspect.as_str(), vote.observer.as_str()), ("p1", "c1"));
    assert_eq!((vote.ballot, vote.index), (ballot, 9));
    assert!(read_vote("other", &entry).is_none());
}

/// A member that answers until it is silenced.
struct Answering(Arc<AtomicBool>);

impl Answering {
    fn start(address: &str) -> Self {
        let socket = Socket::bind((address, ping::PORT)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let goes_on = Arc::new(AtomicBool::new(true));
        let flag = goes_on.clone();
        std::thread::spawn(move || {
            while flag.load(Ordering::Relaxed) {
                // Ends whenever nobody asks for a moment.
                let _ = ping::answer_all(&socket, &[Ipv4Addr::LOCALHOST.into()]);
            }
        });
        Self(goes_on)
    }

    fn silence(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

fn observer(number: usize, consul: SocketAddr) -> Observer {
    let names = ["c1", "c2", "c3"].map(str::to_owned);
    let members = ["p1", "p2"].map(str::to_owned);
    let with_address = members.iter().zip(MEMBERS);
    let bundle = fixture::Site::new().bundle("n1", "consul-server");
    let expectation =
        Expectation { trust: Trust::FirstUse, node: None, role: None, now: SystemTime::UNIX_EPOCH };
    let bundle = ballast_bundle::verify(&bundle, &expectation).unwrap();
    Observer {
        rules: Rules {
            this: names[number].clone(),
            members: members.to_vec(),
            observers: names.to_vec(),
            servers: SERVERS
                .into_iter()
                .filter(|server| *server != SERVERS[number])
                .map(str::to_owned)
                .collect(),
            patience: Patience { interval: Duration::from_millis(100), misses: 10 },
            window: Duration::from_secs(2),
            hold: Duration::from_secs(2),
        },
        observed: Observed {
            cluster: CLUSTER.to_owned(),
            members: with_address
                .map(|(name, address)| Member {
                    name: name.clone(),
                    address: address.parse().unwrap(),
                })
                .collect(),
            observers: names.to_vec(),
        },
        consul: Consul::new(consul, Some(uuid(MANAGEMENT))),
        tls: Tls::new(&bundle).unwrap(),
    }
}

async fn put(consul: SocketAddr, path: &str, body: String) -> Value {
    let request = Request::put(path).header("X-Consul-Token", uuid(MANAGEMENT));
    let request = request.body(Full::from(body)).unwrap();
    match http::send(&consul.to_string(), request).await {
        Ok(reply) => serde_json::from_slice(&reply.body).unwrap_or(Value::Null),
        Err(_) => Value::Null,
    }
}

#[tokio::test]
#[ignore = "needs BALLAST_CONSUL, the path of Consul's program"]
async fn observers_take_the_leader_key_from_a_silent_primary_and_from_no_other() {
    let consul = RealConsul::start(&uuid(MANAGEMENT));
    let http = consul.http;
    let session = json!({ "Name": "patroni", "Checks": [], "TTL": "60s", "Behavior": "delete" });
    let made = eventually(
        "a session",
        async || put(http, "/v1/session/create", session.to_string()).await,
        |made| made["ID"].is_string(),
    )
    .await;
    let acquire =
        format!("/v1/kv/service/{CLUSTER}/leader?acquire={}", made["ID"].as_str().unwrap());
    assert_eq!(put(http, &acquire, "p1".to_owned()).await, Value::Bool(true));

    let members = MEMBERS.map(Answering::start);
    let mut views = Vec::new();
    for number in 0..3 {
        let (view, seen) = watch::channel(Vec::new());
        tokio::spawn(observe(observer(number, http), view));
        views.push(seen);
    }
    let key = async || {
        let path = format!("/v1/kv/service/{CLUSTER}/leader?raw");
        ask(http, &path, Some(&uuid(MANAGEMENT))).await.0
    };
    let suspects = |views: &[watch::Receiver<Vec<PeerView>>]| -> Vec<usize> {
        views.iter().map(|v| v.borrow().iter().filter(|p| p.suspect).count()).collect()
    };
    eventually("all to be watched", async || views[0].borrow().len(), |seen| *seen == 2).await;

    // A replica that falls silent is seen to, and costs nobody the key.
    members[1].silence();
    eventually("p2 to be suspect", async || suspects(&views), |s| *s == [1, 1, 1]).await;
    assert_eq!(key().await, 200);

    members[0].silence();
    eventually("the key to be taken", key, |status| *status == 404).await;
    eventually(
        "the votes to be taken back",
        async || {
            let path = format!("/v1/kv/ballast/peers/{CLUSTER}/?keys");
            ask(http, &path, Some(&uuid(MANAGEMENT))).await.0
        },
        |status| *status == 404,
    )
    .await;
    let taken: u64 = views.iter().flat_map(|v| v.borrow().clone()).map(|p| p.given_up).sum();
    assert_eq!(taken, 1, "{views:?}");
    drop(consul);
}
