//! What a boot promises, with real bundles below a temporary root.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use super::*;
use crate::fixture;

const ROLE: &str = "consul-server";

/// A machine: its root, and what whoever started it gave it.
struct Machine {
    root: tempfile::TempDir,
    credentials: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        Self {
            root: fixture::root_with(&fixture::spec(ROLE, vec![])),
            credentials: tempfile::tempdir().unwrap(),
        }
    }

    fn give(&self, bundle: &[u8]) -> &Self {
        fs::write(self.credentials.path().join("ballast.bundle"), bundle).unwrap();
        self
    }

    fn boot(&self) -> Result<(), Error> {
        boot(&Root::new(self.root.path()), Some(self.credentials.path()))
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.path().join(path.trim_start_matches('/'))
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap()
    }

    /// Every file below a directory, with its bytes.
    fn files(&self, path: &str) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        let mut directories = vec![self.at(path)];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    directories.push(path);
                } else {
                    found.insert(path.clone(), fs::read(&path).unwrap());
                }
            }
        }
        found
    }

    fn joins_nothing(&self) -> bool {
        !self.at("/run/ballast/consul/agent.json").exists()
            && !self.at("/run/systemd/network").exists()
            && !self.read("/run/ballast/firewall.nft").contains("dport")
    }
}

#[test]
fn a_node_becomes_what_its_bundle_says() {
    let (site, machine) = (fixture::Site::new(), Machine::new());
    machine.give(&site.bundle("n1", ROLE)).boot().unwrap();
    assert!(
        machine.read("/run/systemd/network/10-ballast.network").contains("Address=10.0.0.1/24")
    );
    assert!(machine.read("/run/ballast/consul/agent.json").contains("\"node_name\": \"n1\""));
    assert!(machine.read("/run/ballast/hosts").contains("10.0.0.1 n1"));
    assert_eq!(machine.read("/var/lib/ballast/site-key").trim(), site.site_key());
}

#[test]
fn booting_twice_leaves_the_same_bytes() {
    let (site, machine) = (fixture::Site::new(), Machine::new());
    machine.give(&site.bundle("n1", ROLE)).boot().unwrap();
    let first = (machine.files("/run"), machine.files("/var"));
    machine.boot().unwrap();
    assert!(first == (machine.files("/run"), machine.files("/var")));
}

#[test]
fn without_a_bundle_the_node_says_so_and_joins_nothing() {
    let machine = Machine::new();
    let error = machine.boot().unwrap_err();
    assert!(matches!(error, Error::NoBundle { .. }), "{error}");
    assert!(error.to_string().contains("volume labelled BALLAST"), "{error}");
    assert!(error.hint().unwrap().contains("ballast bundle"));
    assert!(machine.joins_nothing());
}

#[test]
fn a_bundle_on_the_volume_is_taken_and_stays_when_the_volume_is_gone() {
    let (site, machine) = (fixture::Site::new(), Machine::new());
    let volume = machine.at("/dev/disk/by-label/BALLAST");
    fs::create_dir_all(&volume).unwrap();
    fs::write(volume.join("bundle.tar"), site.bundle("n1", ROLE)).unwrap();
    machine.boot().unwrap();
    fs::remove_dir_all(&volume).unwrap();
    fs::remove_dir_all(machine.at("/run")).unwrap();
    machine.boot().unwrap();
    assert!(!machine.joins_nothing());
}

#[test]
fn a_bad_bundle_is_refused_as_a_whole_and_the_last_good_one_stays() {
    let (site, machine) = (fixture::Site::new(), Machine::new());
    machine.give(&site.bundle("n1", ROLE)).boot().unwrap();
    let before = (machine.files("/run"), machine.files("/var"));
    let mut bad = site.bundle("n1", ROLE);
    let at = bad.windows(9).position(|w| w == b"[network]").unwrap();
    bad[at] = b'{';
    machine.give(&bad).boot().unwrap();
    assert!(before == (machine.files("/run"), machine.files("/var")));
}

#[test]
fn a_bad_first_bundle_leaves_a_node_that_joins_nothing() {
    let (site, machine) = (fixture::Site::new(), Machine::new());
    let mut bad = site.bundle("n1", ROLE);
    let at = bad.windows(9).position(|w| w == b"[network]").unwrap();
    bad[at] = b'{';
    let error = machine.give(&bad).boot().unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    assert_eq!(error.exit_code(), 2);
    assert!(machine.joins_nothing());
    assert!(machine.files("/var").is_empty(), "nothing is pinned by what was refused");
}

#[test]
fn a_volume_that_cannot_be_read_costs_a_node_with_a_bundle_nothing() {
    let (site, machine) = (fixture::Site::new(), Machine::new());
    let volume = machine.at("/dev/disk/by-label/BALLAST");
    fs::create_dir_all(volume.parent().unwrap()).unwrap();
    fs::write(&volume, "no file system").unwrap();
    assert!(matches!(machine.boot(), Err(Error::Mount { .. })));
    assert!(machine.joins_nothing());
    machine.give(&site.bundle("n1", ROLE)).boot().unwrap();
    fs::remove_file(machine.credentials.path().join("ballast.bundle")).unwrap();
    machine.boot().unwrap();
    assert!(!machine.joins_nothing());
}

#[test]
fn another_nodes_bundle_is_refused() {
    let (site, machine) = (fixture::Site::new(), Machine::new());
    machine.give(&site.bundle("n1", ROLE)).boot().unwrap();
    machine.give(&site.bundle("n2", ROLE)).boot().unwrap();
    assert!(machine.read("/run/ballast/consul/agent.json").contains("\"node_name\": \"n1\""));
}

#[test]
fn a_bundle_for_another_name_than_the_machine_was_started_with_is_refused() {
    let (site, machine) = (fixture::Site::new(), Machine::new());
    fs::create_dir_all(machine.at("/proc")).unwrap();
    fs::write(machine.at("/proc/cmdline"), "quiet ballast.node=n2\n").unwrap();
    let error = machine.give(&site.bundle("n1", ROLE)).boot().unwrap_err();
    assert!(chain(&error).contains("\"n1\""), "{}", chain(&error));
    assert!(machine.joins_nothing());
}

#[test]
fn another_roles_bundle_is_refused() {
    let (site, machine) = (fixture::Site::new(), Machine::new());
    machine.give(&site.bundle("n1", "redis")).boot().unwrap_err();
    assert!(machine.joins_nothing());
}

#[test]
fn the_first_bundle_pins_its_site_and_another_sites_is_refused() {
    let (site, other, machine) = (fixture::Site::new(), fixture::Site::with_key(8), Machine::new());
    machine.give(&site.bundle("n1", ROLE)).boot().unwrap();
    machine.give(&other.bundle("n1", ROLE)).boot().unwrap();
    assert_eq!(machine.read("/var/lib/ballast/site-key").trim(), site.site_key());
}

#[test]
fn an_image_with_site_keys_takes_no_other_sites_first_bundle() {
    let site = fixture::Site::new();
    let mut spec = fixture::spec(ROLE, vec![]);
    spec.image.site_keys = vec![fixture::Site::with_key(9).site_key()];
    let machine = Machine { root: fixture::root_with(&spec), ..Machine::new() };
    machine.give(&site.bundle("n1", ROLE)).boot().unwrap_err();
    assert!(machine.joins_nothing());
}

#[test]
fn the_firewall_is_closed_before_anything_is_read() {
    let machine = Machine::new();
    fs::write(machine.at("/usr/lib/ballast/spec.json"), "not a spec").unwrap();
    machine.boot().unwrap_err();
    assert!(machine.joins_nothing());
}

#[test]
fn a_node_keeps_its_consul_id_as_long_as_its_disk() {
    let site = fixture::Site::new();
    let id = |machine: &Machine| {
        machine.give(&site.bundle("n1", ROLE)).boot().unwrap();
        let config = fs::read(machine.at("/run/ballast/consul/agent.json")).unwrap();
        let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
        config["node_id"].as_str().unwrap().to_owned()
    };
    let (machine, other) = (Machine::new(), Machine::new());
    let first = id(&machine);
    assert_eq!(first.len(), 36, "{first}");
    // What a power cut leaves of Consul's own file.
    fs::create_dir_all(machine.at("/var/lib/consul")).unwrap();
    fs::write(machine.at("/var/lib/consul/node-id"), "").unwrap();
    assert_eq!(id(&machine), first);
    assert_ne!(id(&other), first);
}

#[test]
fn a_node_that_is_no_consul_server_has_its_consul_id_without_its_disk() {
    let node = |name: &str| Identity {
        site: "lab".into(),
        name: name.into(),
        role: "postgres".into(),
        datacenter: "dc1".into(),
    };
    let id = |name: &str| {
        let machine = Machine::new();
        consul_id(&Root::new(machine.root.path()), &node(name)).unwrap()
    };
    assert_eq!(id("postgres-1"), id("postgres-1"));
    assert_ne!(id("postgres-1"), id("postgres-2"));
    // RFC 9562: version 8, variant 10.
    let (version, variant) = (id("postgres-1").as_bytes()[14], id("postgres-1").as_bytes()[19]);
    assert!(version == b'8' && b"89ab".contains(&variant), "{}", id("postgres-1"));
}

#[test]
fn what_consul_remembers_of_checks_before_the_boot_is_forgotten() {
    let (site, machine) = (fixture::Site::new(), Machine::new());
    fs::create_dir_all(machine.at("/var/lib/consul/checks/state")).unwrap();
    fs::write(machine.at("/var/lib/consul/checks/state/x"), "passing").unwrap();
    machine.give(&site.bundle("n1", ROLE)).boot().unwrap();
    assert!(!machine.at("/var/lib/consul/checks/state").exists());
}

/// Serves these bytes once over HTTP, and returns the URL.
fn serve_once(bytes: Vec<u8>) -> String {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/n1.bundle.tar", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 1024]).unwrap();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", bytes.len());
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&bytes).unwrap();
    });
    url
}

impl Machine {
    fn with_command_line(&self, text: &str) -> &Self {
        fs::create_dir_all(self.at("/proc")).unwrap();
        fs::write(self.at("/proc/cmdline"), text).unwrap();
        self
    }

    fn fetch(&self) -> Result<(), Error> {
        fetch::fetch(&Root::new(self.root.path()), Some(self.credentials.path()))
    }
}

#[test]
fn a_first_bundle_is_fetched_once_there_is_a_network() {
    let (site, machine) = (fixture::Site::new(), Machine::new());
    let url = serve_once(site.bundle("n1", ROLE));
    machine.with_command_line(&format!("quiet ballast.bundle={url}")).boot().unwrap();
    let dhcp = "/run/systemd/network/90-ballast-fetch.network";
    assert!(machine.read(dhcp).contains("DHCP=yes"));
    assert!(!machine.at("/run/ballast/consul/agent.json").exists());
    machine.fetch().unwrap();
    assert!(!machine.at(dhcp).exists());
    assert!(!machine.joins_nothing());
    // The next boot needs nobody.
    fs::remove_dir_all(machine.at("/run")).unwrap();
    machine.boot().unwrap();
    assert!(!machine.joins_nothing());
}

#[test]
fn a_fetched_bundle_for_another_node_is_refused_and_the_one_in_use_stays() {
    let (site, machine) = (fixture::Site::new(), Machine::new());
    machine.give(&site.bundle("n1", ROLE)).boot().unwrap();
    let before = (machine.files("/run"), machine.files("/var"));
    let url = serve_once(site.bundle("n2", ROLE));
    machine.with_command_line(&format!("ballast.bundle={url}"));
    machine.fetch().unwrap_err();
    assert!(before == (machine.files("/run"), machine.files("/var")));
}

#[test]
fn a_containers_command_line_is_its_own_and_not_its_hosts() {
    let (site, machine) = (fixture::Site::new(), Machine::new());
    machine.with_command_line("ballast.node=host");
    fs::create_dir_all(machine.at("/run/systemd")).unwrap();
    fs::write(machine.at("/run/systemd/container"), "systemd-nspawn").unwrap();
    fs::create_dir_all(machine.at("/proc/1")).unwrap();
    fs::write(machine.at("/proc/1/cmdline"), "/sbin/init\0ballast.node=n1\0").unwrap();
    machine.give(&site.bundle("n1", ROLE)).boot().unwrap();
}
