//! Pass: keeps the kernel modules the spec wants, with what they depend on, and writes the indexes that find them.
//!
//! Stands for: `depmod` in the kernel package's postinst.

mod index;
mod info;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Context;
use crate::error::AssembleError;
use crate::tree::{Node, Tree};
use index::Index;
use info::Info;

const PASS: &str = "kernel modules";
const MODULES: &str = "usr/lib/modules";

/// The kernel's release: the one directory below `/usr/lib/modules`.
///
/// # Errors
/// None, or more than one.
pub fn release(tree: &Tree) -> Result<String, AssembleError> {
    let names: Vec<&str> = tree.children(MODULES).map(|(name, _)| name).collect();
    match names.as_slice() {
        [one] => Ok((*one).to_owned()),
        [] => Err(AssembleError::pass(PASS, "no package brings a kernel's modules")),
        many => {
            Err(AssembleError::pass(PASS, format!("more than one kernel: {}", many.join(", "))))
        }
    }
}

/// Modules by name, each loaded when first asked for.
#[derive(Debug)]
pub struct Loaded {
    /// Where each module stands below its release's directory.
    places: BTreeMap<String, String>,
    builtin: BTreeSet<String>,
    root: String,
}

impl Loaded {
    /// Looks at what is there.
    ///
    /// # Errors
    /// As [`release`].
    pub fn look(tree: &Tree) -> Result<Self, AssembleError> {
        let root = format!("{MODULES}/{}", release(tree)?);
        let places = tree
            .below(&root)
            .filter_map(|(path, _)| {
                let short = path.strip_prefix(&root)?.trim_start_matches('/');
                Some((name_of(short)?, short.to_owned()))
            })
            .collect();
        let builtin = tree
            .text(&format!("{root}/modules.builtin"))
            .map(|text| text.lines().filter_map(name_of).collect())
            .unwrap_or_default();
        Ok(Self { places, builtin, root })
    }

    /// A module's bytes, decompressed, and what it says about itself; none when it is built in.
    fn load(&self, tree: &Tree, name: &str) -> Result<Option<(Vec<u8>, Info)>, AssembleError> {
        let Some(short) = self.places.get(name) else {
            if self.builtin.contains(name) {
                return Ok(None);
            }
            return Err(AssembleError::pass(PASS, format!("this kernel has no module {name}")));
        };
        let broken = |reason: String| AssembleError::pass(PASS, format!("{short}: {reason}"));
        let packed =
            tree.get(&format!("{}/{short}", self.root)).and_then(Node::bytes).unwrap_or_default();
        let bytes = decompress(short, packed).map_err(|e| broken(e.to_string()))?;
        let info = Info::read(&bytes)
            .ok_or_else(|| broken("it is no ELF object with a .modinfo section".to_owned()))?;
        Ok(Some((bytes, info)))
    }
}

/// The modules an initrd needs: `(file name, bytes)`, dependencies first.
///
/// # Errors
/// A name that is no module of this kernel.
pub fn initrd_modules(
    tree: &Tree,
    names: &[String],
) -> Result<Vec<(String, Vec<u8>)>, AssembleError> {
    let loaded = Loaded::look(tree)?;
    let mut done = BTreeSet::new();
    let mut order = Vec::new();
    for name in names {
        visit(&loaded, tree, &plain(name), &mut done, &mut order)?;
    }
    Ok(order)
}

fn visit(
    loaded: &Loaded,
    tree: &Tree,
    name: &str,
    done: &mut BTreeSet<String>,
    order: &mut Vec<(String, Vec<u8>)>,
) -> Result<(), AssembleError> {
    if !done.insert(name.to_owned()) {
        return Ok(());
    }
    if let Some((bytes, info)) = loaded.load(tree, name)? {
        for dependency in &info.depends {
            visit(loaded, tree, dependency, done, order)?;
        }
        order.push((format!("{name}.ko"), bytes));
    }
    Ok(())
}

/// Keeps and indexes the root's modules.
pub fn pass(tree: &mut Tree, context: &Context<'_>) -> Result<(), AssembleError> {
    let loaded = Loaded::look(tree)?;
    let keep = &context.spec.image.kernel.keep_modules;
    let builtin = tree.text(&format!("{}/modules.builtin", loaded.root)).unwrap_or_default();
    for kept in keep {
        let known = loaded.places.values().map(String::as_str).chain(builtin.lines());
        if !known.into_iter().any(|place| is_kept(place, kept)) {
            let reason = format!("keep_modules names {kept}, which this kernel does not have");
            return Err(AssembleError::pass(PASS, reason));
        }
    }
    let wanted: Vec<String> = loaded
        .places
        .iter()
        .filter(|(_, place)| keep.is_empty() || keep.iter().any(|kept| is_kept(place, kept)))
        .map(|(name, _)| name.clone())
        .collect();
    let kept = read_with_dependencies(&loaded, tree, wanted)?;

    let gone: Vec<String> = loaded
        .places
        .iter()
        .filter(|(name, _)| !kept.contains_key(*name))
        .map(|(_, place)| format!("{}/{place}", loaded.root))
        .collect();
    for path in gone {
        tree.remove(&path);
    }
    drop_empty_directories(tree, &loaded.root);
    write_indexes(tree, &loaded, &kept)
}

/// Whether an entry of `keep_modules` names this module, or a directory above it.
fn is_kept(place: &str, kept: &str) -> bool {
    let rest = place.strip_prefix("kernel/").and_then(|p| p.strip_prefix(kept.trim_matches('/')));
    rest.is_some_and(|rest| rest.starts_with('/') || rest.starts_with(".ko"))
}

/// What every wanted module, and every module these need, says about itself.
fn read_with_dependencies(
    loaded: &Loaded,
    tree: &Tree,
    wanted: Vec<String>,
) -> Result<BTreeMap<String, Info>, AssembleError> {
    let mut infos = BTreeMap::new();
    let mut todo = wanted;
    while !todo.is_empty() {
        let results = Mutex::new(Vec::new());
        let next = AtomicUsize::new(0);
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    while let Some(name) = todo.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let info = loaded.load(tree, name).map(|found| found.map(|(_, info)| info));
                        if let Ok(mut results) = results.lock() {
                            results.push((name.clone(), info));
                        }
                    }
                });
            }
        });
        let mut results = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        // The first failure by name, whichever core met it.
        results.sort_by(|a, b| a.0.cmp(&b.0));
        for (name, info) in results {
            if let Some(info) = info? {
                infos.insert(name, info);
            }
        }
        todo = infos
            .values()
            .flat_map(|info: &Info| &info.depends)
            .filter(|name| !infos.contains_key(*name) && loaded.places.contains_key(*name))
            .cloned()
            .collect();
        todo.sort();
        todo.dedup();
    }
    Ok(infos)
}

fn write_indexes(
    tree: &mut Tree,
    loaded: &Loaded,
    kept: &BTreeMap<String, Info>,
) -> Result<(), AssembleError> {
    let place = |name: &str| loaded.places.get(name).cloned().unwrap_or_default();
    let (mut dep, mut dep_text) = (Index::default(), String::new());
    let (mut alias, mut alias_text) = (Index::default(), String::new());
    let mut softdep = String::new();
    let mut devname = String::new();
    for (name, info) in kept {
        let mut chain = Vec::new();
        needs(kept, name, &mut chain);
        let line = format!(
            "{}:{}",
            place(name),
            chain.iter().map(|n| format!(" {}", place(n))).collect::<String>()
        );
        dep_text.push_str(&format!("{line}\n"));
        dep.insert(name, &line);
        for pattern in &info.aliases {
            let pattern = index::plain_alias(pattern);
            alias_text.push_str(&format!("alias {pattern} {name}\n"));
            alias.insert(&pattern, name);
        }
        for line in &info.soft {
            softdep.push_str(&format!("softdep {name} {line}\n"));
        }
        if let Some(node) = info.device_node() {
            devname.push_str(&format!("{name} {node}\n"));
        }
    }
    let mut builtin = Index::default();
    for name in &loaded.builtin {
        builtin.insert(name, "");
    }
    let files: [(&str, Vec<u8>); 7] = [
        ("modules.dep", dep_text.into_bytes()),
        ("modules.dep.bin", dep.write()),
        ("modules.alias", alias_text.into_bytes()),
        ("modules.alias.bin", alias.write()),
        ("modules.builtin.bin", builtin.write()),
        ("modules.softdep", softdep.into_bytes()),
        ("modules.devname", devname.into_bytes()),
    ];
    for (name, bytes) in files {
        tree.put(&format!("{}/{name}", loaded.root), Node::file(0o644, bytes))?;
    }
    // Symbols are looked up by no one who has the dependencies; an empty index keeps kmod quiet.
    tree.put(
        &format!("{}/modules.symbols.bin", loaded.root),
        Node::file(0o644, Index::default().write()),
    )
}

/// Everything a module needs, what must be there first last: the order of modules.dep(5).
fn needs(kept: &BTreeMap<String, Info>, name: &str, chain: &mut Vec<String>) {
    let Some(info) = kept.get(name) else { return };
    for dependency in info.depends.iter().filter(|d| kept.contains_key(*d)) {
        chain.retain(|known| known != dependency);
        chain.push(dependency.clone());
        needs(kept, dependency, chain);
    }
}

fn drop_empty_directories(tree: &mut Tree, root: &str) {
    loop {
        let empty: Vec<String> = tree
            .below(root)
            .filter(|(path, node)| node.bytes().is_none() && tree.below(path).next().is_none())
            .filter(|(_, node)| matches!(node.kind, crate::tree::Kind::Dir))
            .map(|(path, _)| path.to_owned())
            .collect();
        if empty.is_empty() {
            return;
        }
        for path in empty {
            tree.remove(&path);
        }
    }
}

fn decompress(name: &str, packed: &[u8]) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    match name.rsplit('.').next() {
        Some("xz") => liblzma::read::XzDecoder::new(packed).read_to_end(&mut bytes)?,
        Some("zst") => zstd::stream::read::Decoder::new(packed)?.read_to_end(&mut bytes)?,
        _ => {
            bytes.extend_from_slice(packed);
            0
        }
    };
    Ok(bytes)
}

/// `kernel/fs/erofs/erofs.ko.xz` is `erofs`; what is no module has no name.
fn name_of(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    let (stem, _) = file.split_once(".ko")?;
    Some(plain(stem))
}

fn plain(name: &str) -> String {
    name.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_kept_by_its_own_name_or_by_a_directory_above_it() {
        let place = "kernel/drivers/net/virtio_net.ko.xz";
        assert!(is_kept(place, "drivers/net/virtio_net") && is_kept(place, "drivers/net"));
        assert!(!is_kept(place, "drivers/net/virtio") && !is_kept(place, "drivers/ne"));
    }
}
