//! Writes what went into an image: the manifest, and the same as an SBOM (SPDX 2.3, JSON).

use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::erofs::uuid_from;
use super::verity::RootHash;
use crate::error::AssembleError;
use crate::read::Package;

/// What went into one image, and what came out.
#[derive(Debug)]
pub struct Contents<'a> {
    pub name: &'a str,
    pub version: &'a str,
    /// The digest of the whole tree.
    pub tree: [u8; 32],
    pub root_hash: RootHash,
    pub kernel: &'a str,
    pub command_line: &'a str,
    /// Seconds since 1970: the time every file carries.
    pub epoch: u64,
    pub packages: &'a [Package],
    /// Name, size and digest of each file that is shipped.
    pub outputs: Vec<Output>,
}

/// One shipped file.
#[derive(Debug, Serialize)]
pub struct Output {
    pub name: String,
    pub size_bytes: u64,
    pub sha256: String,
}

impl Output {
    /// Describes a file from its bytes.
    pub fn of(name: &str, bytes: &[u8]) -> Self {
        Self {
            name: name.to_owned(),
            size_bytes: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            sha256: hex::encode(Sha256::digest(bytes)),
        }
    }
}

/// The manifest: JSON, keys in snake_case.
pub fn write_manifest(contents: &Contents<'_>) -> Result<Vec<u8>, AssembleError> {
    let packages: Vec<_> = contents
        .packages
        .iter()
        .map(|p| {
            json!({
                "name": p.name, "version": p.version, "architecture": p.architecture,
                "sha256": hex::encode(p.sha256), "size_bytes": p.size,
            })
        })
        .collect();
    pretty(&json!({
        "version": 1,
        "image": { "name": contents.name, "version": contents.version },
        "built_from": timestamp(contents.epoch),
        "tree_sha256": hex::encode(contents.tree),
        "root_hash": contents.root_hash.to_string(),
        "kernel": contents.kernel,
        "command_line": contents.command_line,
        "packages": packages,
        "outputs": contents.outputs,
    }))
}

/// The SBOM.
pub fn write_sbom(contents: &Contents<'_>) -> Result<Vec<u8>, AssembleError> {
    const UNKNOWN: &str = "NOASSERTION";
    let image = "SPDXRef-image";
    let mut packages = vec![json!({
        "SPDXID": image, "name": contents.name, "versionInfo": contents.version,
        "downloadLocation": UNKNOWN, "filesAnalyzed": false, "primaryPackagePurpose": "OPERATING-SYSTEM",
        "licenseConcluded": UNKNOWN, "licenseDeclared": UNKNOWN, "copyrightText": UNKNOWN,
    })];
    let mut relationships = vec![relation("SPDXRef-DOCUMENT", "DESCRIBES", image)];
    for package in contents.packages {
        let id = format!("SPDXRef-deb-{}-{}", plain(&package.name), plain(&package.architecture));
        let source = package.control.get("Maintainer").map(|m| format!("Organization: {m}"));
        packages.push(json!({
            "SPDXID": id, "name": package.name, "versionInfo": package.version,
            "supplier": source.unwrap_or_else(|| UNKNOWN.to_owned()),
            "downloadLocation": UNKNOWN, "filesAnalyzed": false,
            "licenseConcluded": UNKNOWN, "licenseDeclared": UNKNOWN, "copyrightText": UNKNOWN,
            "checksums": [{ "algorithm": "SHA256", "checksumValue": hex::encode(package.sha256) }],
            "externalRefs": [{
                "referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl",
                "referenceLocator": format!(
                    "pkg:deb/debian/{}@{}?arch={}",
                    escape(&package.name), escape(&package.version), escape(&package.architecture)
                ),
            }],
        }));
        relationships.push(relation(image, "CONTAINS", &id));
    }
    pretty(&json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": format!("{}-{}", contents.name, contents.version),
        "documentNamespace": format!("urn:uuid:{}", uuid_from(&contents.tree, "sbom")),
        "creationInfo": {
            "created": timestamp(contents.epoch),
            "creators": [format!("Tool: ballast-assemble-{}", env!("CARGO_PKG_VERSION"))],
        },
        "packages": packages,
        "relationships": relationships,
    }))
}

fn relation(from: &str, kind: &str, to: &str) -> serde_json::Value {
    json!({ "spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to })
}

fn pretty(value: &serde_json::Value) -> Result<Vec<u8>, AssembleError> {
    let mut bytes = serde_json::to_vec_pretty(value)
        .map_err(|e| AssembleError::Format { format: "manifest", reason: e.to_string() })?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// SPDX ids hold letters, digits, dots and hyphens.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect()
}

/// Percent-encodes what a package URL may not hold as it is.
fn escape(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' => {
                char::from(b).to_string()
            }
            _ => format!("%{b:02X}"),
        })
        .collect()
}

/// Seconds since 1970 as RFC 3339 has them, in UTC (days to dates after Howard Hinnant's `civil_from_days`).
fn timestamp(epoch: u64) -> String {
    let (days, secs) = (epoch / 86400, epoch % 86400);
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        secs / 3600,
        secs / 60 % 60,
        secs % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_dates() {
        assert_eq!(timestamp(0), "1970-01-01T00:00:00Z");
        assert_eq!(timestamp(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(timestamp(1_700_000_000), "2023-11-14T22:13:20Z");
    }

    #[test]
    fn versions_are_escaped_as_package_urls_want_it() {
        assert_eq!(escape("1:2.3+dfsg~rc1"), "1%3A2.3%2Bdfsg~rc1");
    }
}
