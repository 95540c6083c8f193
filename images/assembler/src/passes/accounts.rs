//! Pass: writes `/etc/passwd`, `group` and `shadow` from base-passwd's masters, the spec, and what packages want.
//!
//! Stands for: base-passwd's preinst, `systemd-sysusers`, `adduser --system` of packages whose user the spec names.
//! Invariant: an id depends on the account's name and on fixed ids alone, so another package moves nobody's id.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::Context;
use super::sysusers::{self, Wanted};
use crate::error::AssembleError;
use crate::tree::{Node, Tree};

const PASS: &str = "accounts";
/// Ids of accounts that ask for none in particular.
const FREE: std::ops::Range<u32> = 500..900;
const SHADOW_GROUP: u32 = 42;

#[derive(Debug, Clone)]
struct User {
    uid: u32,
    gid: u32,
    gecos: String,
    home: String,
    shell: String,
}

#[derive(Debug, Default)]
struct Accounts {
    users: BTreeMap<String, User>,
    groups: BTreeMap<String, (u32, Vec<String>)>,
}

/// Writes the three files.
pub fn pass(tree: &mut Tree, context: &Context<'_>) -> Result<(), AssembleError> {
    let mut accounts = Accounts::default();
    accounts.masters(tree)?;
    accounts.spec(context)?;
    accounts.sysusers(tree)?;
    for user in accounts.users.values_mut() {
        // A shell that is not in the image is no shell.
        if tree.resolve(&user.shell).ok().and_then(|path| tree.get(&path)).is_none() {
            user.shell = if user.uid == 0 { "/bin/sh" } else { "/usr/sbin/nologin" }.to_owned();
        }
    }
    tree.put("etc/passwd", Node::file(0o644, accounts.passwd()))?;
    tree.put("etc/group", Node::file(0o644, accounts.group()))?;
    let mut shadow = Node::file(0o640, accounts.shadow(context.epoch / 86400));
    shadow.gid = SHADOW_GROUP;
    tree.put("etc/shadow", shadow)
}

impl Accounts {
    fn masters(&mut self, tree: &Tree) -> Result<(), AssembleError> {
        let text = |name: &str| {
            tree.text(&format!("usr/share/base-passwd/{name}.master")).ok_or_else(|| {
                AssembleError::pass(PASS, "no package brings base-passwd's master files")
            })
        };
        let broken = |line: &str| AssembleError::pass(PASS, format!("no account in line {line:?}"));
        for line in text("group")?.lines() {
            let parts: Vec<&str> = line.split(':').collect();
            let [name, _, gid, ..] = parts.as_slice() else { return Err(broken(line)) };
            let gid = gid.parse().map_err(|_| broken(line))?;
            self.groups.insert((*name).to_owned(), (gid, Vec::new()));
        }
        for line in text("passwd")?.lines() {
            let parts: Vec<&str> = line.split(':').collect();
            let [name, _, uid, gid, gecos, home, shell] = parts.as_slice() else {
                return Err(broken(line));
            };
            let (uid, gid) = uid.parse().ok().zip(gid.parse().ok()).ok_or_else(|| broken(line))?;
            let [gecos, home, shell] = [gecos, home, shell].map(|s| (*s).to_owned());
            self.users.insert((*name).to_owned(), User { uid, gid, gecos, home, shell });
        }
        Ok(())
    }

    fn spec(&mut self, context: &Context<'_>) -> Result<(), AssembleError> {
        let image = &context.spec.image;
        for group in &image.groups {
            self.add_group(&group.name, Some(group.gid))?;
        }
        for user in &image.users {
            let (gid, _) = self.groups.get(&user.group).ok_or_else(|| {
                AssembleError::pass(
                    PASS,
                    format!("user {} wants group {}, which nobody makes", user.name, user.group),
                )
            })?;
            let gid = *gid;
            self.add_user(&user.name, Some(user.uid), gid, "", &user.home, &user.shell)?;
        }
        Ok(())
    }

    fn sysusers(&mut self, tree: &Tree) -> Result<(), AssembleError> {
        let mut wanted = Vec::new();
        for dir in ["usr/lib/sysusers.d", "etc/sysusers.d"] {
            for (name, node) in tree.children(dir).filter(|(name, _)| name.ends_with(".conf")) {
                let text = String::from_utf8_lossy(node.bytes().unwrap_or_default());
                let lines = sysusers::read_sysusers(&text).map_err(|line| {
                    AssembleError::pass(PASS, format!("{dir}/{name}: {line:?} is no account"))
                })?;
                wanted.extend(lines);
            }
        }
        // Fixed ids take their place before any is chosen, and groups stand before their users.
        wanted.sort_by_key(|line| match line {
            Wanted::Group { id, .. } => (u8::from(id.is_none()), 0),
            Wanted::User { id, .. } => (u8::from(id.is_none()), 1),
            Wanted::Member { .. } => (2, 0),
        });
        for line in wanted {
            match line {
                Wanted::Group { name, id } => {
                    self.add_group(&name, id)?;
                }
                Wanted::User { name, id, group, gecos, home, shell } => {
                    let gid = match group {
                        sysusers::Group::Own => self.add_group(&name, id)?,
                        sysusers::Group::Id(gid) => gid,
                        sysusers::Group::Name(group) => self.add_group(&group, None)?,
                    };
                    self.add_user(&name, id, gid, &gecos, &home, &shell)?;
                }
                Wanted::Member { user, group } => {
                    self.add_group(&group, None)?;
                    if let Some((_, members)) = self.groups.get_mut(&group) {
                        members.push(user);
                    }
                }
            }
        }
        Ok(())
    }

    /// The group's id: the one it has, the one asked for, or the one its name leads to.
    fn add_group(&mut self, name: &str, id: Option<u32>) -> Result<u32, AssembleError> {
        if let Some((gid, _)) = self.groups.get(name) {
            return Ok(*gid);
        }
        let gid = match id {
            Some(gid) => gid,
            None => self.free(name)?,
        };
        self.groups.insert(name.to_owned(), (gid, Vec::new()));
        Ok(gid)
    }

    fn add_user(
        &mut self,
        name: &str,
        id: Option<u32>,
        gid: u32,
        gecos: &str,
        home: &str,
        shell: &str,
    ) -> Result<(), AssembleError> {
        if self.users.contains_key(name) {
            return Ok(());
        }
        let taken = |id: u32| self.users.values().any(|user| user.uid == id);
        let uid = match id {
            Some(uid) if taken(uid) => {
                return Err(AssembleError::pass(
                    PASS,
                    format!("user {name} wants id {uid}, which another user has"),
                ));
            }
            Some(uid) => uid,
            // A user and its own group share one number.
            None if FREE.contains(&gid) && !taken(gid) => gid,
            None => self.free(name)?,
        };
        let [gecos, home, shell] = [gecos, home, shell].map(str::to_owned);
        self.users.insert(name.to_owned(), User { uid, gid, gecos, home, shell });
        Ok(())
    }

    fn free(&self, name: &str) -> Result<u32, AssembleError> {
        let hash: [u8; 32] = Sha256::digest(name).into();
        let start = hash.iter().take(4).fold(0_u32, |sum, byte| (sum << 8) | u32::from(*byte));
        let count = FREE.end - FREE.start;
        (0..count)
            .map(|step| FREE.start + (start % count + step) % count)
            .find(|id| {
                self.users.values().all(|user| user.uid != *id)
                    && self.groups.values().all(|(gid, _)| gid != id)
            })
            .ok_or_else(|| AssembleError::pass(PASS, format!("no id is free for {name}")))
    }

    fn passwd(&self) -> String {
        let mut lines: Vec<_> = self.users.iter().collect();
        lines.sort_by_key(|(name, user)| (user.uid, name.as_str()));
        lines
            .iter()
            .map(|(name, u)| {
                format!("{name}:x:{}:{}:{}:{}:{}\n", u.uid, u.gid, u.gecos, u.home, u.shell)
            })
            .collect()
    }

    fn group(&self) -> String {
        let mut lines: Vec<_> = self.groups.iter().collect();
        lines.sort_by_key(|(name, (gid, _))| (*gid, name.as_str()));
        lines
            .iter()
            .map(|(name, (gid, users))| format!("{name}:x:{gid}:{}\n", users.join(",")))
            .collect()
    }

    /// No account has a password. The date is the day of the image, so that no clock is asked.
    fn shadow(&self, day: u64) -> String {
        let mut names: Vec<_> = self.users.iter().map(|(name, user)| (user.uid, name)).collect();
        names.sort();
        names.iter().map(|(_, name)| format!("{name}:!*:{day}:0:99999:7:::\n")).collect()
    }
}
