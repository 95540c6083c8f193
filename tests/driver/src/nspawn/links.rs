//! Which links of the bridge are cut or lossy, and the rules that make them so.
//!
//! One table holds it all and is replaced as a whole, so every change is one step for the kernel, and making it twice changes
//! nothing. Frames vanish; no interface goes down, so no machine is told.

use std::collections::{BTreeMap, BTreeSet};

use crate::machine::CLIENTS;

/// The state of all links.
#[derive(Debug, Default)]
pub struct Links {
    cut: BTreeSet<(String, String)>,
    isolated: BTreeSet<String>,
    /// Percent of frames lost.
    loss: BTreeMap<(String, String), u8>,
}

impl Links {
    /// Cuts a pair.
    pub fn cut(&mut self, a: &str, b: &str) {
        self.cut.insert(pair(a, b));
    }

    /// Joins a pair again.
    pub fn restore(&mut self, a: &str, b: &str) {
        self.cut.remove(&pair(a, b));
    }

    /// Loses this percentage between a pair.
    pub fn lose(&mut self, a: &str, b: &str, percent: u8) {
        if percent == 0 {
            self.loss.remove(&pair(a, b));
        } else {
            self.loss.insert(pair(a, b), percent);
        }
    }

    /// Cuts one from everyone.
    pub fn isolate(&mut self, machine: &str) {
        self.isolated.insert(machine.to_owned());
    }

    /// Joins it to everyone again.
    pub fn rejoin(&mut self, machine: &str) {
        self.isolated.remove(machine);
    }

    /// The rules, for nft(8): frames between ports are forwarded; the clients are the bridge itself, where frames come in
    /// and go out.
    pub fn rules(&self) -> String {
        let mut chains = Chains::default();
        for machine in &self.isolated {
            let port = port(machine);
            chains.forward.push(format!("iifname {port} drop"));
            chains.forward.push(format!("oifname {port} drop"));
            chains.input.push(format!("iifname {port} drop"));
            chains.output.push(format!("oifname {port} drop"));
        }
        for (a, b) in &self.cut {
            chains.add(a, b, "drop");
        }
        for ((a, b), percent) in &self.loss {
            chains.add(a, b, &format!("numgen random mod 100 < {percent} drop"));
        }
        // Declared first, so that there is one to delete.
        let mut text =
            "table bridge links\ndelete table bridge links\ntable bridge links {\n".to_owned();
        for (hook, rules) in
            [("forward", &chains.forward), ("input", &chains.input), ("output", &chains.output)]
        {
            text.push_str(&format!(" chain {hook} {{\n  type filter hook {hook} priority 0\n"));
            for rule in rules {
                text.push_str(&format!("  {rule}\n"));
            }
            text.push_str(" }\n");
        }
        text.push_str("}\n");
        text
    }
}

#[derive(Default)]
struct Chains {
    forward: Vec<String>,
    input: Vec<String>,
    output: Vec<String>,
}

impl Chains {
    /// What becomes of frames between two, either way.
    fn add(&mut self, a: &str, b: &str, what: &str) {
        let machine = if a == CLIENTS { b } else { a };
        if a == CLIENTS || b == CLIENTS {
            self.input.push(format!("iifname {} {what}", port(machine)));
            self.output.push(format!("oifname {} {what}", port(machine)));
            return;
        }
        let (a, b) = (port(a), port(b));
        self.forward.push(format!("iifname {a} oifname {b} {what}"));
        self.forward.push(format!("iifname {b} oifname {a} {what}"));
    }
}

/// A machine's end of its link, named by systemd-nspawn(1).
fn port(machine: &str) -> String {
    format!("\"vb-{machine}\"")
}

fn pair(a: &str, b: &str) -> (String, String) {
    if a < b { (a.to_owned(), b.to_owned()) } else { (b.to_owned(), a.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_that_is_cut_and_restored_in_any_order_leaves_no_rule() {
        let untouched = Links::default().rules();
        let mut links = Links::default();
        links.cut("b", "a");
        links.cut("a", "b");
        links.lose("a", CLIENTS, 5);
        links.isolate("c");
        assert_eq!(links.rules().matches("drop").count(), 2 + 2 + 4);
        links.restore("a", "b");
        links.lose(CLIENTS, "a", 0);
        links.rejoin("c");
        assert_eq!(links.rules(), untouched);
    }

    #[test]
    fn a_cut_drops_both_ways_and_nothing_of_a_third() {
        let mut links = Links::default();
        links.cut("a", "b");
        let rules = links.rules();
        assert!(rules.contains("iifname \"vb-a\" oifname \"vb-b\" drop"), "{rules}");
        assert!(rules.contains("iifname \"vb-b\" oifname \"vb-a\" drop"), "{rules}");
        assert_eq!(rules.matches("drop").count(), 2);
    }
}
