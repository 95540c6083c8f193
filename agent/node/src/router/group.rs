//! What is known of one service's nodes, and which of them a session may go to: no I/O, no clock.
//!
//! Two sources say who is primary: each node of itself, and Consul by a tag. The node's own word decides, because Consul
//! hears of a promotion later; but a primary that was frozen and wakes up still calls itself one. So the newest evidence
//! wins: a promotion that was seen happen, or the appearance of the tag. What is older is not believed until it was
//! confirmed or long enough was nothing heard of the newer one. When in doubt there is no primary, and sessions wait.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::state::Health;

/// A moment: the time since the router started.
pub(super) type At = Duration;

/// What one service's nodes are asked, and how patiently.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    /// Whether nodes can be asked what they are. Those that can't are taken at Consul's word, or at the configuration's.
    pub(super) proof: bool,
    /// Whether replicas are wanted, so that all nodes are asked as often as the primary.
    pub(super) replicas: bool,
    /// Between two questions to a node.
    pub(super) interval: Duration,
    /// The same, while no primary is known.
    pub(super) eager: Duration,
    /// How old a primary's proof may be for a new session.
    pub(super) fresh: Duration,
    /// How long a node that does not answer is believed to be what it said.
    pub(super) patience: Duration,
    /// How far behind its primary a replica may be, bytes.
    pub(super) max_lag_bytes: u64,
}

impl Rules {
    /// How long a primary that fell silent keeps an older one from being believed: another is chosen well within this.
    fn forget(&self) -> Duration {
        self.patience * 10
    }
}

/// One node as Consul or the configuration lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) address: SocketAddr,
    /// For people.
    pub(super) name: String,
    /// Whether it bears the tag `primary`.
    pub(super) tagged: bool,
    pub(super) health: Health,
    /// How far it is behind its primary, as its agent tells Consul.
    pub(super) lag_bytes: Option<u64>,
}

/// What a node answered about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Primary {
        /// Grows with every promotion, where the service counts them (PostgreSQL's timeline); 0 where it doesn't.
        term: u64,
        /// How far the history of writes has come, bytes.
        position: Option<u64>,
    },
    Replica {
        position: Option<u64>,
        /// Whether it hears its primary.
        following: bool,
    },
    /// It answers, and is neither: it starts, or loads its data.
    Neither(String),
    /// There was no answer.
    Silent(String),
}

/// What a session wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Use {
    Primary,
    Replicas,
    /// Any node that is healthy.
    Any,
}

/// Where a new session goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Pick {
    To(SocketAddr),
    /// The node must be asked first: its last answer is too old.
    Ask(SocketAddr),
    /// Nowhere for now, and why.
    Wait(String),
}

/// One service's nodes.
#[derive(Debug)]
pub(super) struct Group {
    rules: Rules,
    nodes: BTreeMap<SocketAddr, Node>,
    /// Why nobody is listed, as the source says it.
    unlisted: String,
    /// Whether there was a list before.
    listed_once: bool,
    /// How far the primary's history had come when it last said so.
    front: Option<u64>,
    /// Since when there has been no primary.
    lost: Option<At>,
    picks: u64,
}

#[derive(Debug)]
struct Node {
    listed: Listed,
    /// When the tag appeared on it.
    tagged_at: At,
    /// The last answer, which is none of silence.
    heard: Option<(At, Answer)>,
    /// Why the last question has no answer.
    silence: Option<String>,
    claim: Option<Claim>,
    /// The claim before it was seen as a replica.
    past: Option<Claim>,
    due: At,
    /// Whether a question is on its way, and when the last one was put.
    asked: bool,
    asked_at: Option<At>,
    /// When a session could not reach it.
    broke: Option<At>,
    sessions: usize,
    /// The number of the last pick that chose it.
    picked: u64,
}

/// That a node calls itself primary.
#[derive(Debug, Clone, Copy)]
struct Claim {
    term: u64,
    /// When it was last seen not to be one yet; the beginning of time, if it was one when it was first asked.
    after: At,
    /// When it was first seen to be one.
    since: At,
    /// When it said so last.
    last: At,
}

impl Node {
    /// Has it asked soon: at once, unless it was just asked. However many sessions wait, none is a reason to spin.
    fn hurry(&mut self, now: At, eager: Duration) {
        let soon = self.asked_at.map_or(now, |asked| now.max(asked + eager));
        self.due = self.due.min(soon);
    }
}

impl Group {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules,
            nodes: BTreeMap::new(),
            unlisted: "nobody has said yet which nodes there are".to_owned(),
            listed_once: false,
            front: None,
            lost: Some(At::ZERO),
            picks: 0,
        }
    }

    /// Takes the nodes as they are listed now. What is new about one is a reason to ask it at once; a tag that moved, to
    /// ask all.
    pub(super) fn list(&mut self, now: At, listed: Vec<Listed>, unlisted: &str) {
        unlisted.clone_into(&mut self.unlisted);
        let tags_before = self.tagged();
        self.nodes.retain(|address, _| listed.iter().any(|l| l.address == *address));
        // A tag that was there before the router is older than all that it sees.
        let first = if self.listed_once { now } else { At::ZERO };
        self.listed_once |= !listed.is_empty();
        for one in listed {
            let tagged = is_tagged(&one);
            match self.nodes.get_mut(&one.address) {
                Some(node) => {
                    if tagged && !is_tagged(&node.listed) {
                        node.tagged_at = now;
                    }
                    if node.listed.tagged != one.tagged || node.listed.health != one.health {
                        node.due = now;
                    }
                    node.listed = one;
                }
                None => {
                    let node = Node {
                        tagged_at: first,
                        heard: None,
                        silence: None,
                        claim: None,
                        past: None,
                        due: now,
                        asked: false,
                        asked_at: None,
                        broke: None,
                        sessions: 0,
                        picked: 0,
                        listed: one,
                    };
                    self.nodes.insert(node.listed.address, node);
                }
            }
        }
        if self.tagged() != tags_before {
            for node in self.nodes.values_mut() {
                node.due = now;
            }
        }
        self.note_loss(now);
    }

    fn tagged(&self) -> Vec<SocketAddr> {
        self.nodes.iter().filter(|(_, n)| is_tagged(&n.listed)).map(|(a, _)| *a).collect()
    }

    /// Takes a node's answer, or its silence.
    pub(super) fn answered(&mut self, now: At, address: SocketAddr, answer: Answer) {
        let forget = self.rules.forget();
        let Some(node) = self.nodes.get_mut(&address) else { return };
        node.asked = false;
        match answer {
            Answer::Silent(why) => node.silence = Some(why),
            answer => {
                match &answer {
                    Answer::Primary { term, .. } => {
                        let standing = node.claim.filter(|c| now.saturating_sub(c.last) <= forget);
                        let (after, since) = match (standing, &node.heard) {
                            (Some(claim), _) => (claim.after, claim.since),
                            (None, Some((at, Answer::Replica { .. }))) => (*at, now),
                            (None, _) => (At::ZERO, At::ZERO),
                        };
                        node.claim = Some(Claim { term: *term, after, since, last: now });
                    }
                    Answer::Replica { .. } => node.past = node.claim.take().or(node.past),
                    // One that starts again may have forgotten nothing, and knows nothing new.
                    Answer::Neither(_) | Answer::Silent(_) => {}
                }
                node.silence = None;
                node.heard = Some((now, answer));
            }
        }
        let primary = self.primary(now).ok();
        self.front = primary.and_then(|primary| self.position(primary)).or(self.front);
        self.note_loss(now);
        let pause = self.pause(now, address);
        if let Some(node) = self.nodes.get_mut(&address) {
            node.due = now + pause;
        }
    }

    /// How long until a node that has answered, or has not, is asked again.
    fn pause(&self, now: At, address: SocketAddr) -> Duration {
        /// How long haste makes sense: a failover is over by then, or nothing but patience helps.
        const EAGER_FOR: Duration = Duration::from_secs(10);
        let Rules { interval, eager, replicas, .. } = self.rules;
        match self.lost {
            Some(since) if now.saturating_sub(since) <= EAGER_FOR => eager,
            Some(_) => interval,
            None if replicas || self.primary(now) == Ok(address) => interval,
            // The others are asked so that a second primary, or the next one, is no surprise.
            None => interval * 4,
        }
    }

    fn note_loss(&mut self, now: At) {
        self.lost = match self.primary(now) {
            Ok(_) => None,
            Err(_) => Some(self.lost.unwrap_or(now)),
        };
    }

    /// The nodes to be asked now. Each is asked once at a time.
    pub(super) fn ask(&mut self, now: At) -> Vec<SocketAddr> {
        if !self.rules.proof {
            return Vec::new();
        }
        let due = self.nodes.iter_mut().filter(|(_, node)| !node.asked && node.due <= now);
        due.map(|(address, node)| {
            node.asked = true;
            node.asked_at = Some(now);
            *address
        })
        .collect()
    }

    /// When the next node is to be asked.
    pub(super) fn next_due(&self) -> Option<At> {
        let waiting = self.nodes.values().filter(|node| !node.asked);
        waiting.map(|node| node.due).min().filter(|_| self.rules.proof)
    }

    /// A session could not reach this node.
    pub(super) fn broke(&mut self, now: At, address: SocketAddr) {
        let eager = self.rules.eager;
        if let Some(node) = self.nodes.get_mut(&address) {
            node.broke = Some(now);
            node.hurry(now, eager);
        }
    }

    pub(super) fn opened(&mut self, address: SocketAddr) {
        if let Some(node) = self.nodes.get_mut(&address) {
            node.sessions += 1;
        }
    }

    pub(super) fn closed(&mut self, address: SocketAddr) {
        if let Some(node) = self.nodes.get_mut(&address) {
            node.sessions = node.sessions.saturating_sub(1);
        }
    }

    /// Whether a node's last answer is young enough to be believed.
    fn believed(&self, now: At, node: &Node) -> bool {
        let young = |at: At| now.saturating_sub(at) <= self.rules.patience;
        node.heard.as_ref().is_some_and(|(at, _)| node.silence.is_none() || young(*at))
    }

    fn position(&self, address: SocketAddr) -> Option<u64> {
        match self.nodes.get(&address)?.heard.as_ref()?.1 {
            Answer::Primary { position, .. } | Answer::Replica { position, .. } => position,
            Answer::Neither(_) | Answer::Silent(_) => None,
        }
    }

    /// The one true primary, or why there is none.
    pub(super) fn primary(&self, now: At) -> Result<SocketAddr, String> {
        if self.nodes.is_empty() {
            return Err(self.unlisted.clone());
        }
        if !self.rules.proof {
            return self.primary_by_list();
        }
        /// What counts more of two signs of the same moment: a promotion that was seen came after it.
        const SAID: u8 = 0;
        const TAG: u8 = 1;
        const SEEN: u8 = 2;
        let forget = self.rules.forget();
        let stands = |claim: &Claim| now.saturating_sub(claim.last) <= forget;
        let standing = |node: &Node| node.claim.filter(stands);
        let is_primary = |node: &Node| {
            matches!(node.heard, Some((_, Answer::Primary { .. }))) && self.believed(now, node)
        };
        let claiming = self.nodes.values().filter(|node| is_primary(node));
        let term = claiming.filter_map(standing).map(|c| c.term).max().unwrap_or(0);
        // Its own word that it is none is newer than the tag.
        let denied = |node: &Node| matches!(&node.heard, Some((at, Answer::Replica { .. })) if *at >= node.tagged_at);
        let evidence = |node: &Node| {
            let claim = standing(node);
            // Of an older term: whatever Consul has not heard yet, it was.
            if claim.is_some_and(|c| c.term < term) {
                return None;
            }
            let tagged = is_tagged(&node.listed) && !denied(node);
            let claim = claim.map(|c| (c.after, if c.since > c.after { SEEN } else { SAID }));
            claim.max(tagged.then_some((node.tagged_at, TAG)))
        };
        let known = self.nodes.iter().filter_map(|(a, n)| Some((evidence(n)?, *a, n)));
        let Some((best, address, node)) = known.max_by_key(|(evidence, ..)| *evidence) else {
            return Err(self.nobody());
        };
        // One that may have been promoted later, as far as was seen: only Consul knows, or a count of promotions.
        let later = |rival: &Node| {
            let own = standing(node).map_or(0, |c| c.term);
            let claims = [rival.claim, rival.past].into_iter().flatten().filter(stands);
            let tag = is_tagged(&rival.listed).then_some((rival.tagged_at, own));
            let signs = claims.map(|c| (c.since, c.term)).chain(tag);
            signs.into_iter().any(|(at, term)| at > best.0 && term >= own)
        };
        let others = self.nodes.iter().filter(|(other, _)| **other != address);
        let rival = others
            .map(|(_, node)| node)
            .find(|rival| evidence(rival) == Some(best) || later(rival));
        if let Some(rival) = rival {
            let names = [&node.listed.name, &rival.listed.name].map(String::as_str);
            return Err(format!(
                "{} both say that they are the primary, or were a moment ago",
                names.join(" and ")
            ));
        }
        if is_primary(node) {
            return Ok(address);
        }
        let name = &node.listed.name;
        Err(match (&node.silence, &node.heard) {
            (Some(why), _) => format!("{name} was the primary, and does not answer: {why}"),
            (None, Some((_, Answer::Neither(what)))) => format!("{name} was the primary: {what}"),
            (None, Some(_)) => format!("{name} has the tag, and is not the primary yet"),
            (None, None) => format!("{name} has the tag, and was not asked yet"),
        })
    }

    /// The primary where nodes can't be asked: the only one, or the only one with the tag.
    fn primary_by_list(&self) -> Result<SocketAddr, String> {
        let tagged = self.tagged();
        match (tagged.as_slice(), self.nodes.len()) {
            ([one], _) => Ok(*one),
            ([], 1) => self.nodes.keys().next().copied().ok_or_else(|| self.unlisted.clone()),
            ([], _) => Err("none of the nodes has the tag \"primary\"".to_owned()),
            (several, _) => Err(format!("{} nodes have the tag \"primary\"", several.len())),
        }
    }

    /// Why nobody can be the primary, node by node.
    fn nobody(&self) -> String {
        let nodes = self.nodes.values().map(|node| {
            let name = &node.listed.name;
            match (&node.silence, &node.heard) {
                (Some(why), _) => format!("{name} does not answer: {why}"),
                (None, None) => format!("{name} was not asked yet"),
                (None, Some((_, Answer::Neither(what)))) => format!("{name}: {what}"),
                (None, Some((_, Answer::Replica { .. }))) => format!("{name} is a replica"),
                (None, Some(_)) => format!("{name} has an older claim"),
            }
        });
        format!("no node is the primary: {}", nodes.collect::<Vec<_>>().join("; "))
    }

    /// How far a replica is behind, bytes; none where nobody can tell.
    fn lag(&self, address: SocketAddr, node: &Node) -> Option<u64> {
        let counted = self.front.zip(self.position(address));
        counted.map(|(front, own)| front.saturating_sub(own)).or(node.listed.lag_bytes)
    }

    /// Whether a node is a replica that may be read from.
    fn serves(&self, now: At, address: SocketAddr, node: &Node) -> bool {
        if node.listed.health == Health::Critical {
            return false;
        }
        if !self.rules.proof {
            return !is_tagged(&node.listed);
        }
        let follows = matches!(node.heard, Some((_, Answer::Replica { following: true, .. })));
        let near = self.lag(address, node).is_none_or(|lag| lag <= self.rules.max_lag_bytes);
        follows && near && self.believed(now, node)
    }

    /// Chooses a node for a new session.
    pub(super) fn pick(&mut self, now: At, wanted: Use) -> Pick {
        /// How long a node that could not be reached is left alone, where there are others.
        const SHUNNED: Duration = Duration::from_secs(1);
        let fit = |address: SocketAddr, node: &Node| match wanted {
            Use::Primary => false,
            Use::Replicas => self.serves(now, address, node),
            Use::Any => node.listed.health != Health::Critical,
        };
        let shunned = |node: &Node| node.broke.is_some_and(|at| now.saturating_sub(at) < SHUNNED);
        let best = (self.nodes.iter())
            .filter(|(address, node)| fit(**address, node))
            .min_by_key(|(_, node)| (shunned(node), node.sessions, node.picked))
            .map(|(address, node)| (*address, shunned(node)));
        let chosen = match (best, wanted) {
            (Some((address, _)), Use::Any) => Ok(address),
            (None, Use::Any) if self.nodes.is_empty() => Err(self.unlisted.clone()),
            (None, Use::Any) => Err("no node is healthy".to_owned()),
            (Some((address, false)), _) => Ok(address),
            // Without a replica the primary is read from; a replica that was not reached is better than nobody.
            (Some((address, true)), _) => Ok(self.primary(now).unwrap_or(address)),
            (None, _) => self.primary(now),
        };
        let address = match chosen {
            Ok(address) => address,
            Err(why) => return Pick::Wait(why),
        };
        let Rules { fresh, proof, eager, .. } = self.rules;
        let Some(node) = self.nodes.get_mut(&address) else {
            return Pick::Wait(self.unlisted.clone());
        };
        let old = (node.heard.as_ref()).is_none_or(|(at, _)| now.saturating_sub(*at) > fresh);
        let is_replica = matches!(node.heard, Some((_, Answer::Replica { .. })));
        // A replica is believed for as long as patience lasts.
        let must_prove = match wanted {
            Use::Primary => proof,
            Use::Replicas => proof && !is_replica,
            Use::Any => false,
        };
        if must_prove && (old || node.silence.is_some()) {
            node.hurry(now, eager);
            return Pick::Ask(address);
        }
        self.picks += 1;
        node.picked = self.picks;
        Pick::To(address)
    }

    /// Whether a session may stay where it is; an error is why not.
    pub(super) fn keeps(&self, now: At, wanted: Use, address: SocketAddr) -> Result<(), String> {
        let Some(node) = self.nodes.get(&address) else {
            return Err("the node is not listed any more".to_owned());
        };
        let name = &node.listed.name;
        match wanted {
            Use::Primary => match self.primary(now) {
                Ok(primary) if primary == address => Ok(()),
                Ok(primary) => Err(format!("the primary is {} now", self.name(primary))),
                Err(why) => Err(why),
            },
            Use::Any if node.listed.health == Health::Critical => {
                Err(format!("{name} is critical"))
            }
            Use::Any => Ok(()),
            Use::Replicas if !self.rules.proof => Ok(()),
            Use::Replicas => match (&node.heard, &node.silence) {
                _ if !self.believed(now, node) => {
                    let why = node.silence.as_deref().unwrap_or("it was not asked yet");
                    Err(format!("{name} does not answer: {why}"))
                }
                (Some((_, Answer::Neither(what))), _) => Err(format!("{name}: {what}")),
                // Reading from a replica that is late, or was promoted, is what was asked for when it began.
                _ => Ok(()),
            },
        }
    }

    /// Whether a node is listed.
    pub(super) fn knows(&self, address: SocketAddr) -> bool {
        self.nodes.contains_key(&address)
    }

    /// Whether any node is listed.
    pub(super) fn is_listed(&self) -> bool {
        !self.nodes.is_empty()
    }

    /// A node's name, for people.
    pub(super) fn name(&self, address: SocketAddr) -> String {
        let node = self.nodes.get(&address);
        node.map_or_else(|| address.to_string(), |node| node.listed.name.clone())
    }

    /// What is known of each node: its name, address, and what it is.
    pub(super) fn describe(&self, now: At) -> Vec<(String, SocketAddr, String)> {
        let primary = self.primary(now).ok();
        let word = |address: SocketAddr, node: &Node| match (&node.silence, &node.heard) {
            (Some(why), _) => format!("silent: {why}"),
            (None, None) if self.rules.proof => "not asked yet".to_owned(),
            (None, None) => "listed".to_owned(),
            (None, Some((_, Answer::Primary { .. }))) if primary == Some(address) => {
                "primary".to_owned()
            }
            (None, Some((_, Answer::Primary { .. }))) => {
                "calls itself primary, and is not believed".to_owned()
            }
            (None, Some((_, Answer::Replica { following, .. }))) => {
                let how = if *following { "replica" } else { "replica without its primary" };
                match self.lag(address, node) {
                    Some(lag) => format!("{how}, {lag} bytes behind"),
                    None => how.to_owned(),
                }
            }
            (None, Some((_, Answer::Neither(what)))) => what.clone(),
            (None, Some((_, Answer::Silent(why)))) => format!("silent: {why}"),
        };
        let all = self.nodes.iter();
        all.map(|(a, n)| (n.listed.name.clone(), *a, word(*a, n))).collect()
    }
}

/// Whether Consul calls it the primary, and healthy enough to be one.
fn is_tagged(listed: &Listed) -> bool {
    listed.tagged && listed.health != Health::Critical
}
