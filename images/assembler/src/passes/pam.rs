//! Pass: writes `/etc/pam.d/common-*` from the profiles that packages bring and enable by default.
//!
//! Stands for: `pam-auth-update` in libpam-runtime's postinst. Profiles and templates are described in Debian's
//! pam-auth-update(8).

use super::Context;
use crate::error::AssembleError;
use crate::read::Paragraph;
use crate::tree::{Node, Tree};

const TEMPLATES: &str = "usr/share/pam";
const PROFILES: &str = "usr/share/pam-configs";
/// A file, the profile fields that fill it, and the word its template's placeholders begin with.
const FILES: [(&str, &str, &str); 5] = [
    ("common-auth", "Auth", "auth"),
    ("common-account", "Account", "account"),
    ("common-password", "Password", "password"),
    ("common-session", "Session", "session"),
    ("common-session-noninteractive", "Session", "session_nonint"),
];

/// Fills every template that is there.
pub fn pass(tree: &mut Tree, _: &Context<'_>) -> Result<(), AssembleError> {
    let mut profiles: Vec<(i64, String, Paragraph)> = tree
        .children(PROFILES)
        .filter_map(|(name, node)| {
            let profile = Paragraph::read(&String::from_utf8_lossy(node.bytes()?));
            let priority = profile.get("Priority").and_then(|text| text.parse().ok()).unwrap_or(0);
            (profile.get("Default") == Some("yes")).then(|| (priority, name.to_owned(), profile))
        })
        .collect();
    profiles.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    for (file, field, word) in FILES {
        let Some(template) = tree.text(&format!("{TEMPLATES}/{file}")) else { continue };
        let interactive = file != "common-session-noninteractive";
        let usable = profiles.iter().map(|(_, _, profile)| profile).filter(|profile| {
            interactive || profile.get("Session-Interactive-Only") != Some("yes")
        });
        let (mut primary, mut additional) = (Vec::new(), Vec::new());
        for profile in usable {
            let list = if profile.get(&format!("{field}-Type")) == Some("Primary") {
                &mut primary
            } else {
                &mut additional
            };
            // The first of a stack may be told differently: there is no earlier module's password to use.
            let initial =
                list.is_empty().then(|| profile.get(&format!("{field}-Initial"))).flatten();
            if let Some(lines) = initial.or_else(|| profile.get(field)) {
                list.push(
                    lines
                        .lines()
                        .map(str::trim)
                        .filter(|l| !l.is_empty())
                        .map(|l| format!("{}\t{l}", field.to_lowercase()))
                        .collect(),
                );
            }
        }
        let primary = if primary.is_empty() {
            // Nobody decides: step over the template's refusal.
            vec![format!("{}\t[default=1]\t\t\tpam_permit.so", field.to_lowercase())]
        } else {
            number(primary)
        };
        let additional: Vec<String> = additional.into_iter().flatten().collect();
        let text: String = template
            .lines()
            .map(|line| match line.trim() {
                l if l == format!("${word}_primary") => lines(&primary),
                l if l == format!("${word}_additional") => lines(&additional),
                _ => format!("{line}\n"),
            })
            .collect();
        tree.put(&format!("etc/pam.d/{file}"), Node::file(0o644, text))?;
    }
    Ok(())
}

/// A success skips what is left of the stack: `success=end` becomes the number of lines to jump.
fn number(blocks: Vec<Vec<String>>) -> Vec<String> {
    let all: Vec<String> = blocks.into_iter().flatten().collect();
    let count = all.len();
    all.into_iter()
        .enumerate()
        .map(|(at, line)| line.replace("=end", &format!("={}", count - at)))
        .collect()
}

fn lines(block: &[String]) -> String {
    block.iter().map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_success_jumps_over_the_rest_of_the_stack() {
        let blocks =
            vec![vec!["auth [success=end] a".to_owned()], vec!["auth [success=end] b".to_owned()]];
        assert_eq!(number(blocks), ["auth [success=2] a", "auth [success=1] b"]);
    }
}
