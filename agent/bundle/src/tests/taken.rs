//! A good bundle is taken, becomes the current generation, and stays it until a better one is there.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;

fn link(root: &Path, name: &str) -> String {
    fs::read_link(root.join(name)).unwrap().to_str().unwrap().to_owned()
}

/// Every path below a directory with its mode, links and times of change included.
fn snapshot(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        lines.push(format!(
            "{} {:o} {:?}",
            path.display(),
            metadata.permissions().mode(),
            metadata.modified()
        ));
        if metadata.is_dir() {
            lines.extend(snapshot(&path));
        }
    }
    lines.sort();
    lines
}

#[test]
fn the_same_content_is_the_same_bytes() {
    let site = Site::new(1);
    let contents = site.contents();
    assert!(pack(&contents, &site.key).unwrap() == pack(&contents, &site.key).unwrap());
}

#[test]
fn what_was_packed_is_what_is_taken() {
    let site = Site::new(1);
    let contents = site.contents();
    let bundle = verify(&pack(&contents, &site.key).unwrap(), &expectation()).ok().unwrap();
    assert!(bundle.node == contents.node && bundle.secrets == contents.secrets);
    assert_eq!(bundle.site_key, SiteKey::from(site.key.verifying_key()));
    assert_eq!(bundle.digest.len(), 64);
}

#[test]
fn a_clock_in_the_past_is_no_reason_to_refuse() {
    let expectation = Expectation { now: SystemTime::UNIX_EPOCH, ..expectation() };
    assert!(verify(&Site::new(1).bundle(|_| {}), &expectation).is_ok());
}

#[test]
fn a_node_that_knows_no_name_takes_any() {
    let expectation = Expectation { node: None, role: None, ..expectation() };
    assert!(verify(&Site::new(1).bundle(|_| {}), &expectation).is_ok());
}

#[test]
fn a_site_key_reads_back_with_or_without_a_newline() {
    let key = SiteKey::from(Site::new(1).key.verifying_key());
    assert_eq!(format!("{key}\n").parse::<SiteKey>().unwrap(), key);
    for wrong in ["", "8a88", "not hexadecimal", &"g".repeat(64), &"a".repeat(66)] {
        assert!(wrong.parse::<SiteKey>().is_err(), "{wrong}");
    }
}

#[test]
fn unpacked_files_are_their_owners_alone() {
    let root = tempfile::tempdir().unwrap();
    let bundles = root.path().join("bundles");
    let bundle = verify(&Site::new(1).bundle(|_| {}), &expectation()).ok().unwrap();
    let generation = unpack(&bundle, &bundles).unwrap();
    assert_eq!(generation, bundles.join(&bundle.digest));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    for (path, content) in bundle.files() {
        assert_eq!(mode(&generation.join(path)), 0o600, "{path}");
        assert!(fs::read(generation.join(path)).unwrap() == *content);
    }
    for directory in [&bundles, &generation, &generation.join("consul")] {
        assert_eq!(mode(directory), 0o700, "{}", directory.display());
    }
}

#[test]
fn unpacking_twice_changes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let site = Site::new(1);
    let [one, two] = [1, 2].map(|m| site.bundle(|c| c.node.timings.raft_multiplier = m));
    for bytes in [&one, &two] {
        unpack(&verify(bytes, &expectation()).ok().unwrap(), root.path()).unwrap();
    }
    let before = snapshot(root.path());
    unpack(&verify(&two, &expectation()).ok().unwrap(), root.path()).unwrap();
    assert_eq!(snapshot(root.path()), before);
}

#[test]
fn the_last_two_generations_are_kept() {
    let root = tempfile::tempdir().unwrap();
    let site = Site::new(1);
    let digests = [1, 2, 3].map(|multiplier| {
        let bytes = site.bundle(|c| c.node.timings.raft_multiplier = multiplier);
        let bundle = verify(&bytes, &expectation()).ok().unwrap();
        unpack(&bundle, root.path()).unwrap();
        bundle.digest
    });
    assert_eq!(link(root.path(), "current"), digests[2]);
    assert_eq!(link(root.path(), "previous"), digests[1]);
    assert!(!root.path().join(&digests[0]).exists());
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 4);
}

#[test]
fn a_failure_leaves_the_last_good_generation() {
    let root = tempfile::tempdir().unwrap();
    let site = Site::new(1);
    let [old, new] = [1, 2].map(|multiplier| {
        let bytes = site.bundle(|c| c.node.timings.raft_multiplier = multiplier);
        verify(&bytes, &expectation()).ok().unwrap()
    });
    unpack(&old, root.path()).unwrap();
    // A directory that is not empty stands where the link would be made.
    let mut broken = new.clone();
    broken.files.push(("node.toml/below-a-file".to_owned(), Vec::new()));
    let text = chain(&unpack(&broken, root.path()).unwrap_err());
    assert!(text.starts_with("making the directory "), "{text}");
    assert_eq!(link(root.path(), "current"), old.digest);
    assert!(load_generation(&root.path().join("current"), &expectation()).is_ok());
    // What the failure left behind is in nobody's way.
    unpack(&new, root.path()).unwrap();
    assert_eq!(link(root.path(), "current"), new.digest);
    assert!(!root.path().join(".new").exists());
}

#[test]
fn a_damaged_generation_is_refused_and_written_anew() {
    let root = tempfile::tempdir().unwrap();
    let current = root.path().join("current");
    let bundle = verify(&Site::new(1).bundle(|_| {}), &expectation()).ok().unwrap();
    unpack(&bundle, root.path()).unwrap();
    fs::write(current.join("consul/ca.pem"), "nothing").unwrap();
    let text = chain(&load_generation(&current, &expectation()).err().unwrap());
    assert!(text.starts_with("consul/ca.pem is 7 bytes long"), "{text}");
    unpack(&bundle, root.path()).unwrap();
    let loaded = load_generation(&current, &expectation()).ok().unwrap();
    assert_eq!(loaded.digest, bundle.digest);
    assert!(loaded.files() == bundle.files());
}

#[test]
fn no_generation_is_an_error_that_says_which() {
    let root = tempfile::tempdir().unwrap();
    let text = chain(&load_generation(&root.path().join("current"), &expectation()).err().unwrap());
    assert!(
        text.starts_with("reading the unpacked bundle's ")
            && text.contains("current/manifest.json"),
        "{text}"
    );
}
