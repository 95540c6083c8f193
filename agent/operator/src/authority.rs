//! The site's certificate authority, and the certificates it issues: ECDSA P-256, in PEM.

use std::net::{IpAddr, Ipv4Addr};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, SerialNumber,
};
use time::{Duration, OffsetDateTime};
use x509_parser::extensions::GeneralName;
use x509_parser::pem::parse_x509_pem;

use crate::cluster::Node;
use crate::error::Error;
use crate::secret::random;

/// How long the authority lives.
const AUTHORITY_LIFETIME: Duration = Duration::days(10 * 365);
/// How long a certificate lives, at most as long as its authority.
const LIFETIME: Duration = Duration::days(2 * 365);
/// A certificate with less left than this is issued anew.
pub const RENEW_BEFORE: Duration = Duration::days(90);
/// How far a certificate reaches into the past, for machines whose clocks are behind.
const BACKDATED: Duration = Duration::hours(1);

/// Whom a certificate is for, and what for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    pub common_name: String,
    pub dns: Vec<String>,
    pub addresses: Vec<IpAddr>,
    /// Whether it may serve, beside being a client.
    pub serves: bool,
}

impl Subject {
    /// The certificate of a node: of its Consul agent, whose servers are told from the rest by the name that
    /// `verify_server_hostname` asks for, and of the database that clients find by its service's names.
    pub fn node(node: &Node, domain: &str) -> Self {
        let Node { name, datacenter, .. } = node;
        let own = format!("{name}.node.{datacenter}.{domain}");
        let kind = if node.is_server() { "server" } else { "client" };
        let mut dns =
            vec![own.clone(), format!("{kind}.{datacenter}.{domain}"), "localhost".to_owned()];
        if node.is_database() {
            for service in &node.services {
                for tag in ["primary.", "replica.", ""] {
                    dns.push(format!("{tag}{service}.service.{domain}"));
                    dns.push(format!("{tag}{service}.service.{datacenter}.{domain}"));
                }
            }
        }
        Self {
            common_name: own,
            dns,
            addresses: vec![node.address.addr(), IpAddr::V4(Ipv4Addr::LOCALHOST)],
            serves: true,
        }
    }

    /// The operator's certificate, with which `ballast status` asks.
    pub fn operator() -> Self {
        Self {
            common_name: "operator".to_owned(),
            dns: vec!["operator".to_owned()],
            addresses: Vec::new(),
            serves: false,
        }
    }
}

/// The authority, ready to issue.
pub struct Authority {
    pub cert_pem: String,
    until: OffsetDateTime,
    issuer: Issuer<'static, KeyPair>,
}

/// A new private key, PKCS #8 in PEM.
pub fn make_key() -> Result<String, Error> {
    let pair = KeyPair::generate().map_err(failed("a private key"))?;
    Ok(pair.serialize_pem())
}

/// The certificate of a new authority with this key.
pub fn make_authority(site: &str, key_pem: &str, now: OffsetDateTime) -> Result<String, Error> {
    let what = "the site's authority";
    let key = KeyPair::from_pem(key_pem).map_err(failed(what))?;
    let mut params = params(&format!("Ballast site {site}"), now, now + AUTHORITY_LIFETIME)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params.self_signed(&key).map_err(failed(what))?.pem())
}

impl Authority {
    /// The authority of a certificate and its key, if that is what they are.
    pub fn read(cert_pem: String, key_pem: &str) -> Option<Self> {
        let until = read_certificate(&cert_pem)?.until;
        let key = KeyPair::from_pem(key_pem).ok()?;
        let issuer = Issuer::from_ca_cert_pem(&cert_pem, key).ok()?;
        Some(Self { cert_pem, until, issuer })
    }

    /// A certificate for a subject, and its new key behind it.
    pub fn issue(&self, subject: &Subject, now: OffsetDateTime) -> Result<Identity, Error> {
        if self.until - now < RENEW_BEFORE {
            return Err(Error::AuthorityExpires { at: date(self.until) });
        }
        let what = format!("the certificate of {}", subject.common_name);
        let mut params = params(&subject.common_name, now, self.until.min(now + LIFETIME))?;
        for name in &subject.dns {
            let name = name.as_str().try_into().map_err(failed(&what))?;
            params.subject_alt_names.push(SanType::DnsName(name));
        }
        params.subject_alt_names.extend(subject.addresses.iter().copied().map(SanType::IpAddress));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if subject.serves {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        params.use_authority_key_identifier_extension = true;
        let key_pem = make_key()?;
        let key = KeyPair::from_pem(&key_pem).map_err(failed(&what))?;
        let cert = params.signed_by(&key, &self.issuer).map_err(failed(&what))?;
        Ok(Identity { cert_pem: cert.pem(), key_pem })
    }
}

/// A certificate and its private key.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    pub cert_pem: String,
    pub key_pem: String,
}

impl Identity {
    /// Both in one file, the certificate first, as `curl --cert` takes it.
    pub fn to_pem(&self) -> String {
        format!("{}{}", self.cert_pem, self.key_pem)
    }

    /// Reads what [`Self::to_pem`] wrote.
    pub fn from_pem(text: &str) -> Option<Self> {
        let (cert_pem, key_pem) = text.split_at(text.find("-----BEGIN PRIVATE KEY-----")?);
        KeyPair::from_pem(key_pem).ok()?;
        Some(Self { cert_pem: cert_pem.to_owned(), key_pem: key_pem.to_owned() })
    }

    /// Why this certificate may not be kept for a subject, if it may not.
    pub fn outdated(&self, subject: &Subject, now: OffsetDateTime) -> Option<String> {
        let Some(found) = read_certificate(&self.cert_pem) else {
            return Some("unreadable before".to_owned());
        };
        if found.dns != subject.dns || found.addresses != subject.addresses {
            return Some("name, address or role changed".to_owned());
        }
        (found.until - now < RENEW_BEFORE)
            .then(|| format!("the old one ends on {}", date(found.until)))
    }

    /// When the certificate ends.
    pub fn until(&self) -> Option<OffsetDateTime> {
        Some(read_certificate(&self.cert_pem)?.until)
    }
}

struct Found {
    dns: Vec<String>,
    addresses: Vec<IpAddr>,
    until: OffsetDateTime,
}

fn read_certificate(pem: &str) -> Option<Found> {
    let (_, pem) = parse_x509_pem(pem.as_bytes()).ok()?;
    let cert = pem.parse_x509().ok()?;
    let until = cert.validity().not_after.to_datetime();
    let mut found = Found { dns: Vec::new(), addresses: Vec::new(), until };
    let names = cert.subject_alternative_name().ok()?;
    for name in names.iter().flat_map(|names| &names.value.general_names) {
        match name {
            GeneralName::DNSName(name) => found.dns.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => {
                let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                found
                    .addresses
                    .push(v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from)).ok()?);
            }
            _ => return None,
        }
    }
    Some(found)
}

fn params(
    name: &str,
    now: OffsetDateTime,
    until: OffsetDateTime,
) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = now - BACKDATED;
    params.not_after = until;
    // A serial number is a positive integer of 20 bytes at most (RFC 5280, 4.1.2.2).
    let mut serial: [u8; 16] = random()?;
    if let Some(first) = serial.first_mut() {
        *first = *first & 0x7f | 0x40;
    }
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

fn failed(what: impl Into<String>) -> impl FnOnce(rcgen::Error) -> Error {
    let what = what.into();
    move |source| Error::Certificate { what, source }
}

/// A day, `2036-11-20`.
pub fn date(time: OffsetDateTime) -> String {
    time.date().to_string()
}
