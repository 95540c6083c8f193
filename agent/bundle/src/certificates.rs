//! A node's certificate: it must be of the site's authority, for this node, still valid, and fit its key.

use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::{Pem, parse_x509_pem};
use x509_parser::time::ASN1Time;

use crate::{Error, NodeConfig};

pub(crate) const CA: &str = "consul/ca.pem";
pub(crate) const CERT: &str = "consul/cert.pem";
pub(crate) const KEY: &str = "consul/key.pem";

const CA_NAME: &str = "ca.pem";
const CERT_NAME: &str = "cert.pem";
const KEY_NAME: &str = "key.pem";

/// Checks a node's certificate, its key and the authority it comes from.
///
/// A certificate that is not valid *yet* is taken: a machine without a battery for its clock starts in the past and
/// sets it right over the network that the bundle describes.
pub(crate) fn check(
    node: &NodeConfig,
    ca: &[u8],
    cert: &[u8],
    key: &[u8],
    now: SystemTime,
) -> Result<(), Error> {
    let ca = read_pem(CA_NAME, ca)?;
    let ca = read_certificate(CA_NAME, &ca)?;
    let pem = read_pem(CERT_NAME, cert)?;
    let cert = read_certificate(CERT_NAME, &pem)?;
    if !ca.is_ca() || ca.verify_signature(None).is_err() {
        return Err(refuse(CA_NAME, "is not a certificate authority's own certificate"));
    }
    if cert.issuer() != ca.subject() || cert.verify_signature(Some(ca.public_key())).is_err() {
        return Err(refuse(CERT_NAME, "is not a certificate of the bundle's authority"));
    }
    for (file, certificate) in [(CA_NAME, &ca), (CERT_NAME, &cert)] {
        let until = certificate.validity().not_after;
        if until.timestamp() < seconds(now) {
            return Err(Error::Expired { file, at: day(until) });
        }
    }
    let dns = node.dns_name();
    let address = node.network.address.addr();
    let names = names(&cert)?;
    if !names.iter().any(|n| matches!(n, Name::Dns(name) if *name == dns)) {
        return Err(refuse(CERT_NAME, format!("is not for {dns}")));
    }
    if !names.iter().any(|n| matches!(n, Name::Address(a) if *a == address)) {
        return Err(refuse(CERT_NAME, format!("is not for the address {address}")));
    }
    check_key(&cert, key)
}

fn check_key(cert: &X509Certificate<'_>, key: &[u8]) -> Result<(), Error> {
    let pem = read_pem(KEY_NAME, key)?;
    let pair = EcdsaKeyPair::from_pkcs8(
        &ECDSA_P256_SHA256_ASN1_SIGNING,
        &pem.contents,
        &SystemRandom::new(),
    )
    .map_err(|_| refuse(KEY_NAME, "is not a P-256 private key in PKCS #8"))?;
    if pair.public_key().as_ref() == cert.public_key().subject_public_key.data.as_ref() {
        Ok(())
    } else {
        Err(refuse(KEY_NAME, "is not the key of cert.pem"))
    }
}

enum Name {
    Dns(String),
    Address(IpAddr),
}

/// The names in a certificate's subjectAltName extension (RFC 5280, 4.2.1.6).
fn names(cert: &X509Certificate<'_>) -> Result<Vec<Name>, Error> {
    let extension = cert
        .subject_alternative_name()
        .map_err(|_| refuse(CERT_NAME, "names its subject twice"))?;
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(dns) => Some(Name::Dns((*dns).to_owned())),
        GeneralName::IPAddress(bytes) => <[u8; 4]>::try_from(*bytes)
            .map(IpAddr::from)
            .or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from))
            .ok()
            .map(Name::Address),
        _ => None,
    };
    Ok(extension
        .map(|e| e.value.general_names.iter().filter_map(name).collect())
        .unwrap_or_default())
}

/// The one PEM block of a file.
fn read_pem(file: &'static str, bytes: &[u8]) -> Result<Pem, Error> {
    match parse_x509_pem(bytes) {
        Ok((rest, pem)) if rest.trim_ascii().is_empty() => Ok(pem),
        _ => Err(refuse(file, "is not one PEM block")),
    }
}

fn read_certificate<'a>(file: &'static str, pem: &'a Pem) -> Result<X509Certificate<'a>, Error> {
    match pem.parse_x509() {
        Ok(certificate) => Ok(certificate),
        Err(_) => Err(refuse(file, "is not an X.509 certificate")),
    }
}

fn refuse(file: &'static str, reason: impl Into<String>) -> Error {
    Error::Certificate { file, reason: reason.into() }
}

/// Seconds since the epoch; a clock before it counts as the epoch.
fn seconds(now: SystemTime) -> i64 {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn day(time: ASN1Time) -> String {
    time.to_rfc2822().unwrap_or_else(|_| time.to_string())
}
