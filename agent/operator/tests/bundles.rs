//! What `ballast init` and `ballast bundle` promise: nothing changes that need not, nothing secret is shown, and every
//! bundle is one that its node takes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is a test's failure report")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use ballast_bundle::{Bundle, Expectation, SiteKey, Trust, verify};

/// A directory with a cluster file, and the command to use in it.
struct Site(tempfile::TempDir);

impl Site {
    /// A site of a fixture.
    fn of(fixture: &str) -> Self {
        let site = Self(tempfile::tempdir().unwrap());
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        fs::copy(fixtures.join(fixture), site.path("cluster.toml")).unwrap();
        site
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    /// Runs a command: its exit status, and all that it printed.
    fn run(&self, arguments: &[&str]) -> (i32, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ballast"));
        let output = command.current_dir(self.0.path()).args(arguments).output().unwrap();
        let text =
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), text)
    }

    /// Makes the bundles, and returns what was printed.
    fn bundle(&self, arguments: &[&str]) -> String {
        let (code, text) = self.run(&[&["bundle", "cluster.toml"], arguments].concat());
        assert_eq!(code, 0, "{text}");
        text
    }

    /// Appends to the cluster file.
    fn append(&self, text: &str) {
        let content = fs::read_to_string(self.path("cluster.toml")).unwrap();
        fs::write(self.path("cluster.toml"), content + text).unwrap();
    }

    fn replace(&self, from: &str, to: &str) {
        let content = fs::read_to_string(self.path("cluster.toml")).unwrap();
        assert!(content.contains(from), "{content}");
        fs::write(self.path("cluster.toml"), content.replace(from, to)).unwrap();
    }

    /// The bundle of a node, as the node would take it.
    fn take(&self, node: &str) -> Bundle {
        let key: SiteKey =
            fs::read_to_string(self.path("state/site-key.pub")).unwrap().parse().unwrap();
        let bytes = fs::read(self.path(&format!("bundles/{node}.bundle.tar"))).unwrap();
        let expectation = Expectation {
            trust: Trust::Keys(vec![key]),
            node: Some(node.to_owned()),
            role: None,
            now: SystemTime::now(),
        };
        verify(&bytes, &expectation).unwrap_or_else(|e| panic!("{node}: {e}"))
    }

    /// Every file of state and bundles with its content.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut directories = vec![self.path("state"), self.path("bundles")];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    directories.push(path);
                } else {
                    files.insert(
                        path.strip_prefix(self.0.path()).unwrap().to_owned(),
                        fs::read(&path).unwrap(),
                    );
                }
            }
        }
        files
    }
}

/// The paths at which two sets of files differ.
fn changed(before: &BTreeMap<PathBuf, Vec<u8>>, after: &BTreeMap<PathBuf, Vec<u8>>) -> Vec<String> {
    let mut paths: Vec<_> = before.keys().chain(after.keys()).collect();
    paths.sort();
    paths.dedup();
    paths.retain(|path| before.get(*path) != after.get(*path));
    paths.iter().map(|path| path.display().to_string()).collect()
}

const CACHE: &str = "
[[role]]
name = \"cache\"

[[node]]
name = \"cache-1\"
role = \"cache\"
datacenter = \"dc1\"
address = \"10.0.0.21\"
";

#[test]
fn init_writes_a_site_that_bundles_are_made_from() {
    let site = Site(tempfile::tempdir().unwrap());
    assert_eq!(site.run(&["init"]).0, 0);
    assert_eq!(site.run(&["validate", "cluster.toml"]).0, 0);
    site.bundle(&[]);
    for (node, serves) in [("consul-1", true), ("postgres-2", false), ("redis-3", false)] {
        let bundle = site.take(node);
        assert_eq!(bundle.node.consul.servers.len(), 3);
        assert_eq!(bundle.acl.is_some(), serves);
    }
}

#[test]
fn init_leaves_a_cluster_file_that_is_there_alone() {
    let site = Site(tempfile::tempdir().unwrap());
    fs::write(site.path("cluster.toml"), "mine").unwrap();
    let (code, text) = site.run(&["init"]);
    assert_eq!(code, 2);
    assert_eq!(text, "./cluster.toml exists already\nhint: edit it, or name another directory\n");
    assert_eq!(fs::read_to_string(site.path("cluster.toml")).unwrap(), "mine");
}

#[test]
fn a_second_run_touches_nothing() {
    let site = Site::of("two-data-centres.toml");
    site.bundle(&[]);
    let inodes = |site: &Site| {
        let inode = |path: &PathBuf| fs::metadata(site.path(path.to_str().unwrap())).unwrap().ino();
        site.files().keys().map(inode).collect::<Vec<_>>()
    };
    let (before, inodes_before) = (site.files(), inodes(&site));
    let text = site.bundle(&[]);
    assert_eq!(changed(&before, &site.files()), [""; 0]);
    assert_eq!(inodes(&site), inodes_before);
    assert!(text.lines().all(|line| line.starts_with("kept ")), "{text}");
    assert_eq!(text.lines().count(), 3);
}

#[test]
fn another_node_changes_the_bundles_of_servers_alone() {
    let site = Site::of("good.toml");
    site.append(CACHE);
    site.bundle(&[]);
    let before = site.files();
    site.append("\n[[node]]\nname = \"cache-2\"\nrole = \"cache\"\ndatacenter = \"dc1\"\naddress = \"10.0.0.22\"\n");
    site.bundle(&[]);
    // Their access rules have the new node's token; what cache-1 needs to know is the same.
    assert_eq!(
        changed(&before, &site.files()),
        [
            "bundles/cache-2.bundle.tar",
            "bundles/consul-1.bundle.tar",
            "bundles/consul-2.bundle.tar",
            "bundles/consul-3.bundle.tar",
            "state/nodes/cache-2.json",
            "state/nodes/cache-2.pem",
        ]
    );
}

#[test]
fn a_setting_changes_its_own_nodes_bundle_alone() {
    let site = Site::of("good.toml");
    site.append(CACHE);
    site.bundle(&[]);
    let before = site.files();
    site.append("settings = { memory = \"1g\" }\n");
    site.bundle(&[]);
    assert_eq!(changed(&before, &site.files()), ["bundles/cache-1.bundle.tar"]);
    assert_eq!(site.take("cache-1").node.settings["memory"].as_str(), Some("1g"));
}

#[test]
fn another_address_means_another_certificate() {
    let site = Site::of("good.toml");
    site.append(CACHE);
    site.bundle(&[]);
    let before = site.files();
    site.replace("10.0.0.21", "10.0.0.31");
    let text = site.bundle(&[]);
    assert_eq!(
        changed(&before, &site.files()),
        ["bundles/cache-1.bundle.tar", "state/nodes/cache-1.pem"]
    );
    assert!(text.contains("name, address or role changed"), "{text}");
    site.take("cache-1");
}

#[test]
fn certificates_are_issued_anew_when_asked_and_when_90_days_are_left() {
    let site = Site::of("good.toml");
    site.bundle(&["--now", "2026-01-01T00:00:00Z"]);
    let before = site.files();
    site.bundle(&["--now", "2027-10-02T00:00:00Z"]);
    assert_eq!(changed(&before, &site.files()), [""; 0], "91 days are left");
    let text = site.bundle(&["--now", "2027-10-04T00:00:00Z"]);
    assert!(text.contains("the old one ends on 2028-01-01"), "{text}");
    let after = site.files();
    let renewed = changed(&before, &after);
    let kept = [
        "state/ca.pem",
        "state/ca-key.pem",
        "state/site.json",
        "state/site-key.pem",
        "state/nodes/consul-1.json",
    ];
    assert!(kept.iter().all(|path| !renewed.contains(&(*path).to_owned())), "{renewed:?}");
    assert_eq!(renewed.len(), 7, "{renewed:?}");
    site.bundle(&["--now", "2027-10-04T00:00:00Z", "--renew"]);
    assert_eq!(changed(&after, &site.files()), renewed);
}

#[test]
fn an_authority_about_to_end_issues_nothing() {
    let site = Site::of("good.toml");
    site.bundle(&["--now", "2016-12-01T00:00:00Z"]);
    let before = site.files();
    let (code, text) = site.run(&["bundle", "cluster.toml", "--now", "2026-11-01T00:00:00Z"]);
    assert_eq!(code, 1);
    assert!(text.starts_with("the site's authority expires at 2026-11-29, too soon"), "{text}");
    assert_eq!(changed(&before, &site.files()), [""; 0]);
}

#[test]
fn secrets_are_their_owners_alone_and_never_printed() {
    keeps_its_secrets(&Site::of("two-data-centres.toml"));
    keeps_its_secrets(&Site::of("databases.toml"));
}

fn keeps_its_secrets(site: &Site) {
    // Nobody but this machine is asked.
    site.replace("\"10.", "\"127.");
    let mut printed = site.bundle(&[]);
    printed += &site.bundle(&["--renew"]);
    printed += &site.run(&["status", "cluster.toml", "--timeout", "1", "--json"]).1;
    for (path, content) in site.files() {
        let mode = fs::metadata(site.path(path.to_str().unwrap())).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600, "{}", path.display());
        let text = String::from_utf8_lossy(&content);
        // Every quoted string of 32 characters or more, and every line of a PEM file.
        let secrets =
            text.split(['"', '\n']).filter(|word| word.len() >= 32 && !word.starts_with('-'));
        for secret in secrets {
            assert!(!printed.contains(secret), "{} is printed", path.display());
        }
    }
    for directory in ["state", "state/nodes", "bundles"] {
        let mode = fs::metadata(site.path(directory)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o700, "{directory}");
    }
}

#[test]
fn a_run_that_was_cut_short_is_finished_by_the_next() {
    // Whatever was not written yet when the power went, from the last file back to the first.
    let order = [
        "bundles/consul-3.bundle.tar",
        "bundles/consul-2.bundle.tar",
        "bundles/consul-1.bundle.tar",
        "state/nodes/consul-3.pem",
        "state/nodes/consul-3.json",
        "state/nodes/consul-2.pem",
        "state/nodes/consul-2.json",
        "state/nodes/consul-1.pem",
        "state/nodes/consul-1.json",
        "state/operator.pem",
        "state/ca.pem",
        "state/ca-key.pem",
        "state/site-key.pub",
        "state/site-key.pem",
        "state/site.json",
    ];
    let site = Site::of("good.toml");
    site.bundle(&[]);
    for cut in 1..=order.len() {
        for path in &order[..cut] {
            fs::remove_file(site.path(path)).unwrap();
        }
        // Files that were being written.
        let halves = ["state/.new-x", "state/nodes/.new-y", "bundles/.new-z"];
        halves.iter().for_each(|half| fs::write(site.path(half), "half").unwrap());
        let text = site.bundle(&[]);
        assert!(text.contains("created  bundles/consul-3.bundle.tar"), "{text}");
        for node in ["consul-1", "consul-2", "consul-3"] {
            site.take(node);
        }
        assert!(halves.iter().all(|half| !site.path(half).exists()));
    }
}

#[test]
fn an_authority_without_its_key_is_not_replaced() {
    let site = Site::of("good.toml");
    site.bundle(&[]);
    fs::remove_file(site.path("state/ca-key.pem")).unwrap();
    let (code, text) = site.run(&["bundle", "cluster.toml"]);
    assert_eq!(code, 1);
    assert_eq!(
        text,
        "state/ca-key.pem does not read as what it must hold\nhint: restore the state folder from its backup\n"
    );
}

#[test]
fn a_damaged_state_folder_is_named_and_not_quoted() {
    for file in ["site.json", "site-key.pem", "ca.pem", "ca-key.pem", "nodes/consul-1.json"] {
        let site = Site::of("good.toml");
        site.bundle(&[]);
        let path = site.path(&format!("state/{file}"));
        let content = fs::read_to_string(&path).unwrap();
        fs::write(&path, &content[..content.len() / 2]).unwrap();
        let (code, text) = site.run(&["bundle", "cluster.toml"]);
        assert_eq!(code, 1, "{file}: {text}");
        assert!(text.ends_with("does not read as what it must hold\nhint: restore the state folder from its backup\n"), "{text}");
    }
}

#[test]
fn another_sites_state_folder_is_refused() {
    let site = Site::of("good.toml");
    site.bundle(&[]);
    let before = site.files();
    site.replace("\"example\"", "\"other\"");
    for command in ["bundle", "status"] {
        let (code, text) = site.run(&[command, "cluster.toml"]);
        assert_eq!(code, 2);
        let expected =
            "state belongs to site \"example\", and the cluster file describes site \"other\"\n";
        assert!(text.starts_with(expected), "{text}");
    }
    assert_eq!(changed(&before, &site.files()), [""; 0]);
}

#[test]
fn a_state_folder_in_use_is_left_alone() {
    let site = Site::of("good.toml");
    site.bundle(&[]);
    let folder = fs::File::open(site.path("state")).unwrap();
    let _lock = nix::fcntl::Flock::lock(folder, nix::fcntl::FlockArg::LockExclusive).unwrap();
    let (code, text) = site.run(&["bundle", "cluster.toml"]);
    assert_eq!(code, 1);
    assert_eq!(text, "state is in use by another run of ballast\nhint: wait for it to end\n");
}

#[test]
fn a_node_that_left_is_forgotten() {
    let site = Site::of("good.toml");
    let without = fs::read_to_string(site.path("cluster.toml")).unwrap();
    site.append(CACHE);
    site.bundle(&[]);
    let first = site.take("cache-1").secrets.agent_token.clone();
    let rules = site.take("consul-1").acl.unwrap();
    assert!(rules.revoked.is_empty());
    let accessors = rules.tokens.iter().filter(|t| t.description.ends_with("node cache-1"));
    let mut accessors: Vec<_> = accessors.map(|t| t.accessor_id.clone()).collect();
    accessors.sort();
    fs::write(site.path("cluster.toml"), without).unwrap();
    let text = site.bundle(&[]);
    assert!(text.contains("removed  bundles/cache-1.bundle.tar"), "{text}");
    assert!(!site.path("bundles/cache-1.bundle.tar").exists());
    let rules = site.take("consul-1").acl.unwrap();
    assert!(rules.tokens.iter().all(|t| t.secret_id != first));
    assert!(rules.policies.iter().all(|p| p.name != "node-cache-1"));
    assert_eq!((rules.revoked.len(), rules.revoked), (2, accessors));
    // One of the same name is another node.
    site.append(CACHE);
    site.bundle(&[]);
    assert!(site.take("cache-1").secrets.agent_token != first);
}

#[test]
fn a_node_that_comes_back_has_no_revoked_token() {
    let site = Site::of("good.toml");
    let without = fs::read_to_string(site.path("cluster.toml")).unwrap();
    site.append(CACHE);
    site.bundle(&[]);
    let with = fs::read_to_string(site.path("cluster.toml")).unwrap();
    let tokens = fs::read(site.path("state/nodes/cache-1.json")).unwrap();
    fs::write(site.path("cluster.toml"), without).unwrap();
    site.bundle(&[]);
    // As if the power had gone before the last step of forgetting the node.
    fs::write(site.path("state/nodes/cache-1.json"), &tokens).unwrap();
    fs::write(site.path("cluster.toml"), with).unwrap();
    site.bundle(&[]);
    assert!(fs::read(site.path("state/nodes/cache-1.json")).unwrap() != tokens);
    site.take("cache-1");
}

#[test]
fn tokens_are_one_per_node_and_purpose() {
    let site = Site::of("two-data-centres.toml");
    site.bundle(&[]);
    let bundles = ["consul-n", "consul-s", "cache-s"].map(|node| site.take(node));
    let mut tokens: Vec<_> = bundles
        .iter()
        .flat_map(|b| {
            [
                Some(&b.secrets.agent_token),
                Some(&b.secrets.dns_token),
                b.secrets.replication_token.as_ref(),
            ]
        })
        .flatten()
        .collect();
    let rules = bundles[0].acl.as_ref().unwrap();
    tokens.push(&rules.management_token);
    let count = tokens.len();
    tokens.sort();
    tokens.dedup();
    assert_eq!((tokens.len(), count), (8, 8));
    let cache = rules.policies.iter().find(|p| p.name == "node-cache-s").unwrap();
    assert_eq!(
        cache.rules,
        "node \"cache-s\" { policy = \"write\" }\nagent \"cache-s\" { policy = \"write\" }\n\
         node_prefix \"\" { policy = \"read\" }\nservice_prefix \"\" { policy = \"read\" }\n\
         service \"cache\" { policy = \"write\" }\n"
    );
    assert!(rules.tokens.iter().all(|t| t.policies.len() == 1));
}

#[test]
fn data_centres_are_joined_by_their_servers() {
    let site = Site::of("two-data-centres.toml");
    site.bundle(&[]);
    let [north, south, cache] = ["consul-n", "consul-s", "cache-s"].map(|node| site.take(node));
    let addresses = |addresses: &[std::net::IpAddr]| {
        addresses.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(addresses(&north.node.consul.wan_servers), ["10.2.0.11"]);
    assert_eq!(addresses(&south.node.consul.wan_servers), ["10.1.0.11"]);
    assert!(cache.node.consul.wan_servers.is_empty());
    for bundle in [&north, &south, &cache] {
        assert_eq!(bundle.node.consul.primary_datacenter.as_deref(), Some("north"));
        assert_eq!(bundle.node.consul.domain, "site.example");
        assert_eq!(bundle.node.timings.raft_multiplier, 5);
        assert_eq!(bundle.node.network.site.len(), 2);
        assert!(bundle.secrets.gossip_key == north.secrets.gossip_key);
    }
    // The first data centre holds the access rules; servers of the other copy them.
    let holds =
        [&north, &south, &cache].map(|b| (b.acl.is_some(), b.secrets.replication_token.is_some()));
    assert_eq!(holds, [(true, false), (false, true), (false, false)]);
    assert_eq!(cache.node.dns_name(), "cache-s.node.south.site.example");
}

#[test]
fn folders_can_be_named() {
    let site = Site::of("good.toml");
    site.bundle(&["--state", "elsewhere/keys", "--out", "elsewhere/out"]);
    assert!(site.path("elsewhere/keys/ca.pem").exists());
    assert!(site.path("elsewhere/out/consul-1.bundle.tar").exists());
    assert!(!site.path("state").exists() && !site.path("bundles").exists());
    for made in ["elsewhere/keys", "elsewhere/out"] {
        let ignored = fs::read_to_string(site.path(made).join(".gitignore")).unwrap();
        assert!(ignored.ends_with("\n*\n"), "version control sees the secrets of {made}");
    }
}

#[test]
fn a_databases_members_know_it_and_its_passwords_and_nobody_else_does() {
    let site = Site::of("databases.toml");
    site.bundle(&[]);
    let [server, postgres, redis] =
        ["consul-1", "postgres-1", "redis-1"].map(|node| site.take(node));
    let known = [&server, &postgres, &redis].map(|b| {
        let of_node = (b.node.postgres.is_some(), b.node.redis.is_some());
        assert_eq!(of_node, (b.secrets.postgres.is_some(), b.secrets.redis.is_some()));
        of_node
    });
    assert_eq!(known, [(false, false), (true, false), (false, true)]);

    let cluster = postgres.node.postgres.as_ref().unwrap();
    assert_eq!((cluster.cluster.as_str(), cluster.members.len()), ("postgres", 3));
    assert_eq!(cluster.clients, postgres.node.network.site);
    assert!(cluster.peer_detection);
    let group = redis.node.redis.as_ref().unwrap();
    assert_eq!((group.cluster.as_str(), group.members.len()), ("redis", 3));
    assert_eq!(group.max_memory_bytes, Some(512 << 20));

    // The members share their passwords, and each has a token of its own.
    let [one, two] =
        [&postgres, &site.take("postgres-2")].map(|b| b.secrets.postgres.clone().unwrap());
    assert!(one.owner == two.owner && one.api == two.api);
    assert!(one.patroni_token != two.patroni_token);
    let mut passwords =
        vec![&one.superuser, &one.replication, &one.rewind, &one.owner, &one.monitor, &one.api];
    let of_redis = redis.secrets.redis.as_ref().unwrap();
    passwords.extend([&of_redis.app, &of_redis.replication, &of_redis.sentinel, &of_redis.monitor]);
    passwords.sort();
    passwords.dedup();
    assert_eq!(passwords.len(), 10);
    assert!(passwords.iter().all(|p| p.len() == 32));
}

#[test]
fn a_silent_member_is_watched_by_the_others_and_by_the_consul_servers() {
    let site = Site::of("databases.toml");
    site.bundle(&[]);
    let [server, member, redis] = ["consul-1", "postgres-1", "redis-1"].map(|n| site.take(n));
    assert!(redis.node.observed.is_empty());
    assert_eq!(server.node.observed, member.node.observed);
    let observed = &member.node.observed[0];
    assert_eq!(observed.members, member.node.postgres.as_ref().unwrap().members);
    let names = ["consul-1", "consul-2", "consul-3", "postgres-1", "postgres-2", "postgres-3"];
    assert_eq!(observed.observers, names);

    // Who watches may vote and take the leader key, and writes no node but its own.
    let rules = |node: &str| {
        let policies = server.acl.as_ref().unwrap().policies.clone();
        policies.into_iter().find(|p| p.name == format!("node-{node}")).unwrap().rules
    };
    let cluster = &observed.cluster;
    for (node, watches) in [("consul-1", true), ("postgres-2", true), ("redis-1", false)] {
        let rules = rules(node);
        for key in [
            format!("key_prefix \"ballast/peers/{cluster}/\" {{ policy = \"write\" }}\n"),
            format!("key \"service/{cluster}/leader\" {{ policy = \"write\" }}\n"),
        ] {
            assert_eq!(rules.contains(&key), watches, "{node}: {rules}");
        }
        let nodes: Vec<&str> = rules.lines().filter(|line| line.starts_with("node \"")).collect();
        assert_eq!(nodes, [format!("node \"{node}\" {{ policy = \"write\" }}")]);
    }

    // Where acknowledged writes could be lost by it, nobody watches and nobody votes.
    site.replace("[postgres]", "[postgres]\ndurability = \"asynchronous\"");
    site.bundle(&[]);
    let server = site.take("consul-1");
    assert!(server.node.observed.is_empty());
    let rules = server.acl.unwrap().policies;
    assert!(
        rules.iter().all(|p| !p.rules.contains("ballast/peers") && !p.rules.contains("/leader"))
    );
}

#[test]
fn a_database_is_trusted_by_the_names_that_clients_find_it_by() {
    let site = Site::of("databases.toml");
    site.replace("[postgres]", "[postgres]\ncluster = \"orders\"");
    site.bundle(&[]);
    let names = |node: &str| {
        let pem = fs::read(site.path(&format!("state/nodes/{node}.pem"))).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).unwrap();
        let names =
            pem.parse_x509().unwrap().subject_alternative_name().unwrap().unwrap().value.clone();
        names.general_names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    for name in [
        "primary.orders.service.consul",
        "replica.orders.service.consul",
        "orders.service.dc1.consul",
    ] {
        assert!(
            names("postgres-1").contains(&format!("DNSName({name})")),
            "{name}: {}",
            names("postgres-1")
        );
    }
    assert!(names("redis-2").contains("DNSName(primary.redis.service.dc1.consul)"));
    assert!(!names("consul-1").contains("service"), "a Consul server could pass for a database");
}

#[test]
fn a_password_is_printed_when_it_is_asked_for_by_name() {
    let site = Site::of("databases.toml");
    assert_eq!(site.run(&["secret", "postgres.owner"]).0, 2, "there is no state yet");
    site.bundle(&[]);
    let owner = site.take("postgres-1").secrets.postgres.clone().unwrap().owner;
    assert_eq!(site.run(&["secret", "postgres.owner"]), (0, format!("{owner}\n")));
    let app = site.take("redis-1").secrets.redis.clone().unwrap().app;
    assert_eq!(site.run(&["secret", "redis.app", "cluster.toml"]), (0, format!("{app}\n")));
    assert_eq!(
        site.run(&["secret", "owner"]),
        (2, "there is no secret \"owner\"\nhint: known are postgres.api, postgres.monitor, postgres.owner, \
             postgres.replication, postgres.rewind, postgres.superuser, redis.app, redis.monitor, redis.replication, \
             redis.sentinel\n".to_owned())
    );
}

#[test]
fn passwords_outlive_their_nodes_and_patronis_tokens_do_not() {
    let site = Site::of("databases.toml");
    site.bundle(&[]);
    let before = site.take("postgres-3").secrets.postgres.clone().unwrap();
    let with = fs::read_to_string(site.path("cluster.toml")).unwrap();
    site.replace("postgres-3", "postgres-4");
    site.bundle(&[]);
    let acl = site.take("consul-1").acl.unwrap();
    assert_eq!(acl.revoked.len(), 3);
    assert!(acl.tokens.iter().all(|t| t.secret_id != before.patroni_token));
    assert!(acl.policies.iter().all(|p| p.name != "patroni-postgres-3"));
    fs::write(site.path("cluster.toml"), with).unwrap();
    site.bundle(&[]);
    let after = site.take("postgres-3").secrets.postgres.clone().unwrap();
    assert!(after.owner == before.owner && after.superuser == before.superuser);
    assert!(after.patroni_token != before.patroni_token);
}

#[test]
fn a_stores_credentials_come_from_their_own_file() {
    let site = Site::of("databases.toml");
    site.replace(
        "[redis]",
        "[postgres.backup]\ncredentials = \"store.toml\"\nrepository = { type = \"s3\", \
         endpoint = \"s3.example.org\", bucket = \"b\", region = \"r\", path = \"/x\" }\n[redis]",
    );
    for wrong in
        [None, Some("access_key = \"hush\""), Some("access_key = \"hush\"\nsecret_key = \"a\\nb\"")]
    {
        wrong.iter().for_each(|text| fs::write(site.path("store.toml"), text).unwrap());
        for command in ["validate", "bundle"] {
            let (code, text) = site.run(&[command, "cluster.toml"]);
            assert_eq!(code, 2, "{text}");
            assert!(
                text.starts_with("store.toml does not read as an access_key and a secret_key\n"),
                "{text}"
            );
            assert!(!text.contains("hush") && !site.path("state").exists());
        }
    }
    fs::write(site.path("store.toml"), "access_key = \"AK\"\nsecret_key = \"s/e+c=\"\n").unwrap();
    site.bundle(&[]);
    let store = site.take("postgres-1").secrets.postgres.clone().unwrap().backup_store;
    assert_eq!(store, Some(["AK".to_owned(), "s/e+c=".to_owned()]));
    assert!(site.take("redis-1").secrets.postgres.is_none());
}

#[test]
fn clients_from_outside_are_known_to_every_node() {
    let site = Site::of("databases.toml");
    site.replace("name = \"example\"", "name = \"example\"\nclients = [\"10.8.0.0/16\"]");
    site.bundle(&[]);
    for node in ["consul-1", "postgres-1", "redis-1"] {
        let network = site.take(node).node.network;
        assert_eq!((network.site.len(), network.clients.len()), (1, 1));
    }
    let clients = site.take("postgres-1").node.postgres.unwrap().clients;
    let clients: Vec<_> = clients.iter().map(ToString::to_string).collect();
    assert_eq!(clients, ["10.0.0.0/24", "10.8.0.0/16"]);
}

#[test]
fn nothing_is_asked_of_a_site_without_being_confirmed_or_possible() {
    let site = Site::of("databases.toml");
    // Nobody but this machine is asked.
    site.replace("\"10.", "\"127.");
    assert_eq!(site.run(&["switchover", "postgres", "--yes"]).0, 2, "there is no state yet");
    site.bundle(&[]);
    let before = site.files();
    for command in [["switchover", "postgres"], ["reinit", "postgres-2"], ["maintenance", "on"]] {
        let (code, text) = site.run(&command);
        assert_eq!(code, 1, "{text}");
        assert!(text.starts_with("no member of postgres answers: postgres-1: "), "{text}");
    }
    assert_eq!(changed(&before, &site.files()), [""; 0]);
    let none = Site::of("good.toml");
    none.bundle(&[]);
    let (code, text) = none.run(&["maintenance", "off"]);
    assert_eq!((code, text.as_str()), (2, "the site has no nodes of role \"postgres\"\n"));
}
