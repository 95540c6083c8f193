//! A filesystem in memory: sorted paths, each a directory, a file or a link, with owner and mode and nothing else.
//!
//! Invariant: every path's parent is a directory of the tree, and no path runs through a symbolic link.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use crate::error::AssembleError;

/// Bytes of a file: a window into a buffer that many files may share.
#[derive(Debug, Clone)]
pub struct Content {
    buffer: Arc<Vec<u8>>,
    range: Range<usize>,
}

impl Content {
    /// A window; none when it does not lie within the buffer.
    pub fn slice(buffer: &Arc<Vec<u8>>, range: Range<usize>) -> Option<Self> {
        buffer.get(range.clone())?;
        Some(Self { buffer: Arc::clone(buffer), range })
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(self.range.clone()).unwrap_or_default()
    }

    /// Names this very window, so that two names of one file can be told from two equal files.
    pub fn identity(&self) -> (usize, usize, usize) {
        (Arc::as_ptr(&self.buffer) as usize, self.range.start, self.range.end)
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        let range = 0..bytes.len();
        Self { buffer: Arc::new(bytes), range }
    }
}

/// One entry.
#[derive(Debug, Clone)]
pub struct Node {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub kind: Kind,
}

/// What an entry is.
#[derive(Debug, Clone)]
pub enum Kind {
    Dir,
    File(Content),
    Link(String),
}

impl Node {
    /// A directory of root's.
    pub fn dir(mode: u32) -> Self {
        Self { mode, uid: 0, gid: 0, kind: Kind::Dir }
    }

    /// A file of root's.
    pub fn file(mode: u32, bytes: impl Into<Vec<u8>>) -> Self {
        Self { mode, uid: 0, gid: 0, kind: Kind::File(Content::from(bytes.into())) }
    }

    /// A symbolic link.
    pub fn link(target: impl Into<String>) -> Self {
        Self { mode: 0o777, uid: 0, gid: 0, kind: Kind::Link(target.into()) }
    }

    /// The bytes, when it is a file.
    pub fn bytes(&self) -> Option<&[u8]> {
        match &self.kind {
            Kind::File(content) => Some(content.bytes()),
            Kind::Dir | Kind::Link(_) => None,
        }
    }
}

/// The filesystem. Paths have no leading slash; the root is the empty path.
#[derive(Debug, Clone)]
pub struct Tree {
    nodes: BTreeMap<String, Node>,
}

impl Default for Tree {
    fn default() -> Self {
        Self { nodes: BTreeMap::from([(String::new(), Node::dir(0o755))]) }
    }
}

impl Tree {
    /// The entry at a path that runs through no link.
    pub fn get(&self, path: &str) -> Option<&Node> {
        self.nodes.get(path.trim_start_matches('/'))
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, path: &str) -> Option<&mut Node> {
        self.nodes.get_mut(path.trim_start_matches('/'))
    }

    /// All entries, sorted by path.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_str(), node))
    }

    /// All entries below a directory, sorted by path.
    pub fn below(&self, dir: &str) -> impl Iterator<Item = (&str, &Node)> {
        let prefix = format!("{}/", dir.trim_matches('/'));
        self.nodes
            .range(prefix.clone()..)
            .take_while(move |(path, _)| path.starts_with(&prefix))
            .map(|(path, node)| (path.as_str(), node))
    }

    /// Files and links directly in a directory, by name.
    pub fn children(&self, dir: &str) -> impl Iterator<Item = (&str, &Node)> {
        let skip = dir.trim_matches('/').len() + 1;
        self.below(dir).filter_map(move |(path, node)| {
            let name = path.get(skip..)?;
            (!name.contains('/')).then_some((name, node))
        })
    }

    /// The text of the file a path leads to, following links.
    pub fn text(&self, path: &str) -> Option<String> {
        let path = self.resolve(path).ok()?;
        self.get(&path)?.bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    /// Where a path leads once every link, the last one included, is followed. The last component need not exist.
    ///
    /// # Errors
    /// A loop, or a path through a file.
    pub fn resolve(&self, path: &str) -> Result<String, AssembleError> {
        let place = |reason: &str| AssembleError::Place {
            path: path.trim_start_matches('/').to_owned(),
            reason: reason.to_owned(),
        };
        let mut done: Vec<String> = Vec::new();
        let mut todo: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    done.pop();
                    continue;
                }
                _ => done.push(part),
            }
            let here = done.join("/");
            match self.nodes.get(&here).map(|node| &node.kind) {
                Some(Kind::Link(target)) => {
                    links += 1;
                    if links > 40 {
                        return Err(place("too many links"));
                    }
                    done.pop();
                    if target.starts_with('/') {
                        done.clear();
                    }
                    todo.extend(target.split('/').rev().map(str::to_owned));
                }
                Some(Kind::File(_)) if !todo.is_empty() => {
                    return Err(place(&format!("/{here} is a file")));
                }
                _ => {}
            }
        }
        Ok(done.join("/"))
    }

    /// Where an entry put at this path would really stand: its directory's links followed, its own name kept.
    ///
    /// # Errors
    /// As [`Tree::resolve`].
    pub fn place(&self, path: &str) -> Result<String, AssembleError> {
        let path = path.trim_matches('/');
        match path.rsplit_once('/') {
            None => Ok(path.to_owned()),
            Some((dir, name)) => {
                let dir = self.resolve(dir)?;
                Ok(if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") })
            }
        }
    }

    /// Puts an entry, making parents as root's directories of mode 0755. What stood there is replaced.
    ///
    /// # Errors
    /// A parent that is no directory, or a directory replaced by something else while it is not empty.
    pub fn put(&mut self, path: &str, node: Node) -> Result<(), AssembleError> {
        let place = self.place(path)?;
        if !matches!(node.kind, Kind::Dir) && self.below(&place).next().is_some() {
            let reason = "a directory that is not empty stands there".to_owned();
            return Err(AssembleError::Place { path: place, reason });
        }
        self.parents(&place)?;
        self.nodes.insert(place, node);
        Ok(())
    }

    /// Takes away what is at and below a path.
    pub fn remove(&mut self, path: &str) {
        let path = path.trim_matches('/');
        let below: Vec<String> = self.below(path).map(|(p, _)| p.to_owned()).collect();
        for p in below {
            self.nodes.remove(&p);
        }
        self.nodes.remove(path);
    }

    fn parents(&mut self, place: &str) -> Result<(), AssembleError> {
        for (at, _) in place.match_indices('/') {
            let Some(dir) = place.get(..at) else { continue };
            match self.nodes.get(dir).map(|node| &node.kind) {
                Some(Kind::Dir) => {}
                None => {
                    self.nodes.insert(dir.to_owned(), Node::dir(0o755));
                }
                Some(_) => {
                    let reason = format!("/{dir} is not a directory");
                    return Err(AssembleError::Place { path: place.to_owned(), reason });
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_through_merged_directories_lands_below_usr() {
        let mut tree = Tree::default();
        tree.put("lib", Node::link("usr/lib")).unwrap();
        tree.put("lib/systemd/system/a.service", Node::file(0o644, "x")).unwrap();
        assert!(tree.get("usr/lib/systemd/system/a.service").is_some());
        assert!(matches!(tree.get("usr/lib").unwrap().kind, Kind::Dir));
    }

    #[test]
    fn a_loop_of_links_is_refused() {
        let mut tree = Tree::default();
        tree.put("a", Node::link("b")).unwrap();
        tree.put("b", Node::link("a")).unwrap();
        assert!(tree.resolve("a").is_err());
    }

    #[test]
    fn a_directory_with_entries_is_not_replaced_by_a_file() {
        let mut tree = Tree::default();
        tree.put("etc/x/y", Node::file(0o644, "")).unwrap();
        assert!(tree.put("etc/x", Node::file(0o644, "")).is_err());
    }
}
