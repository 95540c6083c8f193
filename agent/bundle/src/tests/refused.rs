//! Every way in which a bundle is wrong is refused, with a sentence that says which.

use proptest::prelude::*;

use super::*;
use crate::archive::{read_archive, write_archive};

/// The sentence with which a bundle is refused.
fn refusal(bytes: &[u8], expectation: &Expectation) -> String {
    let error = verify(bytes, expectation).err().expect("a wrong bundle was taken");
    assert!(!error.hint().is_empty());
    chain(&error)
}

/// The sentence with which a node refuses rightly signed files that were changed by hand.
fn refusal_of(change: impl FnOnce(&mut Vec<(&str, Vec<u8>)>)) -> String {
    refusal(&Site::new(1).sealed(change), &expectation())
}

fn replace(files: &mut [(&str, Vec<u8>)], path: &str, from: &str, to: &str) {
    let content = &mut files.iter_mut().find(|f| f.0 == path).unwrap().1;
    let text = String::from_utf8(content.clone()).unwrap();
    assert!(text.contains(from), "{text}");
    *content = text.replacen(from, to, 1).into_bytes();
}

#[test]
fn every_flipped_byte_is_refused() {
    let good = Site::new(1).bundle(|_| {});
    let expectation = expectation();
    for i in 0..good.len() {
        let mut bad = good.clone();
        bad[i] ^= 1 << (i % 8);
        assert!(verify(&bad, &expectation).is_err(), "byte {i} of {} can be flipped", good.len());
    }
}

#[test]
fn a_bundle_cut_short_or_with_a_tail_is_refused() {
    let good = Site::new(1).bundle(|_| {});
    for length in (0..good.len()).step_by(101) {
        assert!(verify(&good[..length], &expectation()).is_err(), "{length} bytes suffice");
    }
    let long = [good.as_slice(), &[0; 512]].concat();
    let text = refusal(&long, &expectation());
    assert_eq!(text, "bundle has bytes that its content does not account for");
}

#[test]
fn a_bundle_larger_than_the_limit_is_refused_before_it_is_read() {
    let text = refusal(&vec![0; MAX_BYTES + 1], &expectation());
    assert!(text.starts_with("bundle is 8388609 bytes long"), "{text}");
}

#[test]
fn what_is_no_archive_is_refused() {
    assert!(
        refusal(&[b'x'; 4096], &expectation()).starts_with("reading the bundle as a tar archive: ")
    );
    assert!(refusal(b"", &expectation()).starts_with("bundle does not begin with manifest.json"));
}

#[test]
fn another_sites_bundle_is_refused() {
    let keys = |site: &Site| Trust::Keys(vec![SiteKey::from(site.key.verifying_key())]);
    let (ours, theirs) = (Site::new(1), Site::new(2));
    let expectation = Expectation { trust: keys(&ours), ..expectation() };
    assert!(verify(&ours.bundle(|_| {}), &expectation).is_ok());
    let text = refusal(&theirs.bundle(|_| {}), &expectation);
    assert!(text.ends_with("which this node does not trust"), "{text}");
    let nobody = Expectation { trust: Trust::Keys(Vec::new()), ..expectation };
    assert!(verify(&ours.bundle(|_| {}), &nobody).is_err());
}

#[test]
fn a_wrong_signature_is_refused() {
    let mut files = read_archive(&Site::new(1).bundle(|_| {})).unwrap();
    files[1].content[5] ^= 1;
    let text = refusal(&write_archive(&files).unwrap(), &expectation());
    assert!(text.starts_with("manifest.json is not what site key 8a88e3dd"), "{text}");
    files[1].content.truncate(63);
    assert!(
        refusal(&write_archive(&files).unwrap(), &expectation())
            .starts_with("manifest.json is not")
    );
}

#[test]
fn a_wrong_digest_is_refused() {
    let mut files = read_archive(&Site::new(1).bundle(|_| {})).unwrap();
    let last = files.last_mut().unwrap();
    last.content[40] ^= 1;
    let text = refusal(&write_archive(&files).unwrap(), &expectation());
    assert_eq!(text, "consul/key.pem does not have the digest that the manifest says");
}

#[test]
fn a_wrong_size_is_refused() {
    let mut files = read_archive(&Site::new(1).bundle(|_| {})).unwrap();
    files.last_mut().unwrap().content.push(b'\n');
    let text = refusal(&write_archive(&files).unwrap(), &expectation());
    assert!(
        text.starts_with("consul/key.pem is 242 bytes long, and the manifest says 241"),
        "{text}"
    );
}

#[test]
fn a_mode_that_lets_others_read_is_refused() {
    let mut files = read_archive(&Site::new(1).bundle(|_| {})).unwrap();
    files.last_mut().unwrap().mode = 0o644;
    let text = refusal(&write_archive(&files).unwrap(), &expectation());
    assert_eq!(text, "consul/key.pem has the mode \"0644\", and 0600 is the only one");
}

#[test]
fn files_that_the_manifest_does_not_name_are_refused() {
    let mut files = read_archive(&Site::new(1).bundle(|_| {})).unwrap();
    let extra =
        |path: &str| archive::File { path: path.to_owned(), mode: 0o600, content: Vec::new() };
    files.push(extra("extra"));
    let text = refusal(&write_archive(&files).unwrap(), &expectation());
    assert_eq!(text, "bundle holds \"extra\", which its manifest does not name");
    files.pop();
    files.swap(3, 4);
    let text = refusal(&write_archive(&files).unwrap(), &expectation());
    assert_eq!(text, "bundle has bytes that its content does not account for");
    files.swap(0, 1);
    assert!(
        refusal(&write_archive(&files).unwrap(), &expectation())
            .starts_with("bundle does not begin")
    );
}

#[test]
fn missing_and_unknown_files_are_refused() {
    assert_eq!(refusal_of(|files| drop(files.remove(1))), "bundle lacks \"secrets.json\"");
    let text = refusal_of(|files| files.push(("motd", b"hello".to_vec())));
    assert_eq!(text, "bundle holds \"motd\", which its manifest does not name");
}

#[test]
fn a_file_that_stands_twice_is_refused() {
    let text = refusal_of(|files| files.push(files[0].clone()));
    assert_eq!(text, "bundle holds \"node.toml\" twice");
}

#[test]
fn paths_that_leave_the_directory_are_refused() {
    // Made by hand: the writer has no way to such paths.
    for path in
        ["/etc/passwd", "../up", "consul/../../up", "./node.toml", "consul//ca.pem", "a b", ""]
    {
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_mode(0o600);
        header.set_size(0);
        header.set_entry_type(tar::EntryType::Regular);
        header.set_cksum();
        let mut builder = tar::Builder::new(Vec::new());
        builder.append(&header, &[][..]).unwrap();
        let text = refusal(&builder.into_inner().unwrap(), &expectation());
        assert_eq!(text, format!("bundle holds {path:?}, which is not a plain relative path"));
    }
}

#[test]
fn anything_but_a_regular_file_is_refused() {
    use tar::EntryType::{Char, Directory, Fifo, GNULongName, GNUSparse, Link, Symlink, XHeader};
    for kind in [Directory, Symlink, Link, Char, Fifo, GNULongName, GNUSparse, XHeader] {
        let mut header = tar::Header::new_ustar();
        header.set_path("manifest.json").unwrap();
        header.set_mode(0o600);
        header.set_size(0);
        header.set_entry_type(kind);
        header.set_cksum();
        let mut builder = tar::Builder::new(Vec::new());
        builder.append(&header, &[][..]).unwrap();
        let text = refusal(&builder.into_inner().unwrap(), &expectation());
        assert_eq!(text, "bundle holds \"manifest.json\", which is not a regular file", "{kind:?}");
    }
}

#[test]
fn a_later_version_is_called_that() {
    let mut files = read_archive(&Site::new(1).bundle(|_| {})).unwrap();
    files[0].content = br#"{"version": 2, "colour": "blue"}"#.to_vec();
    let text = refusal(&write_archive(&files).unwrap(), &expectation());
    assert_eq!(text, "bundle is of version 2, and this program reads version 1");
    let text = refusal_of(|files| replace(files, "node.toml", "version = 1", "version = 9"));
    assert_eq!(text, "bundle is of version 9, and this program reads version 1");
}

#[test]
fn an_unknown_field_is_refused_with_file_line_and_key() {
    let text = refusal_of(|files| replace(files, "node.toml", "role =", "rle ="));
    assert!(text.starts_with("node.toml:6: unknown field `rle`"), "{text}");
    let text = refusal_of(|files| replace(files, "secrets.json", "dns_token", "dns_tokem"));
    assert_eq!(text, "secrets.json:4:13 does not read as what it must hold");
}

#[test]
fn a_wrong_type_is_refused_with_file_line_and_key() {
    let text = refusal_of(|files| {
        replace(files, "node.toml", "raft_multiplier = 1", "raft_multiplier = \"1 s\"")
    });
    assert!(
        text.starts_with("node.toml:17: `raft_multiplier`: invalid type: string \"1 s\""),
        "{text}"
    );
}

#[test]
fn a_value_out_of_range_is_refused() {
    for (from, to, expected) in [
        (
            "raft_multiplier = 1",
            "raft_multiplier = 11",
            "node.toml: timings.raft_multiplier: 11 is not within",
        ),
        (
            "name = \"db-1\"",
            "name = \"db_1\"",
            "node.toml: node.name \"db_1\" is not a host name's label",
        ),
        (
            "[network]",
            "[network]\ngateway = \"10.0.1.1\"",
            "node.toml: network.gateway 10.0.1.1 is outside",
        ),
        (
            "[network]",
            "[network]\nntp = [\"10.0.0.1\", \"time server\"]",
            "node.toml: network.ntp \"time server\" is neither",
        ),
        (
            "[network]",
            "[network]\ninterface = \"a\\nb\"",
            "node.toml: network.interface \"a\\nb\" is not",
        ),
        ("servers = [\"10.0.0.2\"]", "servers = []", "node.toml: consul.servers is empty"),
        (
            "[consul]",
            "[consul]\ndomain = \"a b\"",
            "node.toml: consul.domain \"a b\" is not a domain name",
        ),
    ] {
        let text = refusal_of(|files| replace(files, "node.toml", from, to));
        assert!(text.starts_with(expected), "{text}");
    }
}

#[test]
fn a_secret_is_never_in_the_refusal() {
    let secret = "00000000-0000-4000-8000-000000000001";
    for to in [format!("x{secret}"), format!("{secret}\" \""), format!("{secret}\"], [\"")] {
        let text = refusal_of(|files| replace(files, "secrets.json", secret, &to));
        assert!(!text.contains(secret) && text.starts_with("secrets.json"), "{text}");
    }
    let text = refusal_of(|files| replace(files, "secrets.json", &"A".repeat(43), &"A".repeat(42)));
    assert_eq!(text, "secrets.json: gossip_key is not 32 bytes in base64");
}

#[test]
fn another_nodes_bundle_is_refused() {
    let expectation = Expectation { node: Some("db-2".to_owned()), ..expectation() };
    let text = refusal(&Site::new(1).bundle(|_| {}), &expectation);
    assert_eq!(text, "bundle is for node \"db-1\", and this node is \"db-2\"");
    // Nor does a manifest for one node carry another's settings.
    let text = refusal_of(|files| replace(files, "node.toml", "db-1", "db-2"));
    assert_eq!(text, "node.toml: names another node or site than manifest.json");
}

#[test]
fn another_roles_bundle_is_refused() {
    let expectation = Expectation { role: Some("consul-server".to_owned()), ..expectation() };
    let text = refusal(&Site::new(1).bundle(|_| {}), &expectation);
    assert_eq!(text, "bundle is for role \"database\", and this image's role is \"consul-server\"");
}

#[test]
fn an_expired_certificate_is_refused() {
    let site = Site::new(1);
    let (cert_pem, key_pem) = site.certificate("db-1", "10.0.0.11", -1);
    let bytes = site.bundle(|c| (c.cert_pem, c.key_pem) = (cert_pem, key_pem));
    let text = refusal(&bytes, &expectation());
    assert_eq!(text, "consul/cert.pem expired at Wed, 31 Dec 2025 00:00:00 +0000");
}

#[test]
fn an_expired_authority_is_refused() {
    let bytes = Site::new(1).bundle(|_| {});
    let later = now() + Duration::from_secs(3651 * 86_400);
    let text = refusal(&bytes, &Expectation { now: later, ..expectation() });
    assert!(text.starts_with("consul/ca.pem expired at "), "{text}");
}

#[test]
fn a_certificate_for_another_node_or_address_is_refused() {
    let site = Site::new(1);
    for (name, address, expected) in [
        ("db-2", "10.0.0.11", "consul/cert.pem is not for db-1.node.dc1.consul"),
        ("db-1", "10.0.0.12", "consul/cert.pem is not for the address 10.0.0.11"),
    ] {
        let (cert_pem, key_pem) = site.certificate(name, address, 700);
        let bytes = site.bundle(|c| (c.cert_pem, c.key_pem) = (cert_pem, key_pem));
        assert_eq!(refusal(&bytes, &expectation()), expected);
    }
}

#[test]
fn a_certificate_of_another_authority_is_refused() {
    let (site, other) = (Site::new(1), Site::new(2));
    let (cert_pem, key_pem) = other.certificate("db-1", "10.0.0.11", 700);
    let bytes = site.bundle(|c| (c.cert_pem, c.key_pem) = (cert_pem, key_pem));
    let text = refusal(&bytes, &expectation());
    assert_eq!(text, "consul/cert.pem is not a certificate of the bundle's authority");
    let bytes = site.bundle(|c| c.ca_pem.clone_from(&c.cert_pem));
    let text = refusal(&bytes, &expectation());
    assert_eq!(text, "consul/ca.pem is not a certificate authority's own certificate");
}

#[test]
fn a_key_that_does_not_fit_is_refused() {
    let site = Site::new(1);
    let (_, key_pem) = site.certificate("db-1", "10.0.0.11", 700);
    let text = refusal(&site.bundle(|c| c.key_pem = key_pem), &expectation());
    assert_eq!(text, "consul/key.pem is not the key of cert.pem");
    let text = refusal(&site.bundle(|c| c.key_pem.clone_from(&c.cert_pem)), &expectation());
    assert_eq!(text, "consul/key.pem is not a P-256 private key in PKCS #8");
    let text = refusal(&site.bundle(|c| c.cert_pem = "nothing".to_owned()), &expectation());
    assert_eq!(text, "consul/cert.pem is not one PEM block");
}

#[test]
fn access_rules_that_contradict_themselves_are_refused() {
    let token = AclToken {
        accessor_id: secrets().agent_token,
        secret_id: secrets().dns_token,
        description: "node db-1".to_owned(),
        policies: vec!["nothing".to_owned()],
    };
    let mut acl = Acl {
        management_token: secrets().agent_token,
        policies: Vec::new(),
        tokens: vec![token],
        revoked: Vec::new(),
    };
    let refused =
        |acl: &Acl| refusal(&Site::new(1).bundle(|c| c.acl = Some(acl.clone())), &expectation());
    assert_eq!(refused(&acl), "acl.json: node db-1 has the unknown policy \"nothing\"");
    acl.revoked = vec![secrets().agent_token];
    assert_eq!(refused(&acl), "acl.json: the token of node db-1 is revoked as well");
    acl.revoked = vec!["all".to_owned()];
    assert_eq!(refused(&acl), "acl.json: a revoked token's accessor is not a UUID in lower case");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
        prop_assert!(verify(&bytes, &expectation()).is_err());
    }

    #[test]
    fn headers_with_arbitrary_edits_and_a_right_checksum_are_refused(
        entry in any::<prop::sample::Index>(),
        edits in prop::collection::vec((0_usize..512, any::<u8>()), 1..8),
        size in prop::option::of(any::<u64>()),
    ) {
        let good = good();
        let at = *entry.get(&headers(good));
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes().copy_from_slice(&good[at..at + 512]);
        for (place, byte) in edits {
            header.as_mut_bytes()[place] = byte;
        }
        if let Some(size) = size {
            header.set_size(size);
        }
        header.set_cksum();
        let mut bytes = good.to_vec();
        bytes[at..at + 512].copy_from_slice(header.as_bytes());
        prop_assert!(bytes == good || verify(&bytes, &expectation()).is_err());
    }

    #[test]
    fn arbitrary_files_under_a_right_signature_never_panic(
        path in prop::sample::select(vec!["node.toml", "secrets.json", "consul/ca.pem", "consul/cert.pem", "consul/key.pem"]),
        content in prop::collection::vec(any::<u8>(), 0..512),
    ) {
        let bytes = fixed().sealed(|files| files.iter_mut().find(|f| f.0 == path).unwrap().1 = content);
        prop_assert!(verify(&bytes, &expectation()).is_err());
    }

    #[test]
    fn files_with_arbitrary_edits_under_a_right_signature_never_panic(
        file in 0_usize..5,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let bytes = fixed().sealed(|files| {
            let content = &mut files[file].1;
            for (at, byte) in &edits {
                let at = at.index(content.len());
                content[at] = *byte;
            }
        });
        // An edit may be harmless, a byte for itself, say; then the bundle is as good as any.
        let _ = verify(&bytes, &expectation());
    }
}

/// One site for many cases.
fn fixed() -> &'static Site {
    static SITE: std::sync::LazyLock<Site> = std::sync::LazyLock::new(|| Site::new(1));
    &SITE
}

/// One bundle for many cases.
fn good() -> &'static [u8] {
    static GOOD: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| fixed().bundle(|_| {}));
    &GOOD
}

/// Where an archive's headers begin.
fn headers(archive: &[u8]) -> Vec<usize> {
    let mut at = 0;
    let size = |file: archive::File| 512 + file.content.len().next_multiple_of(512);
    read_archive(archive).unwrap().into_iter().map(|file| (at, at += size(file)).0).collect()
}
