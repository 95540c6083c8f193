//! The Consul servers of a database's data centre, of which any answers for all: keys that the operator reads and writes.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use ballast_bundle::Member;

use crate::cluster::Cluster;
use crate::consul::Client;
use crate::error::Error;
use crate::https;
use crate::state::State;

/// The servers, asked with the operator's certificate and token.
pub struct Servers {
    addresses: Vec<IpAddr>,
    client: Client,
}

impl Servers {
    /// Those of the data centre that these members are in. Reads who the operator is from the state folder.
    pub fn open(
        cluster: &Cluster,
        members: &[Member],
        state: &Path,
        timeout: Duration,
    ) -> Result<Self, Error> {
        let folder = State::open_existing(state)?;
        let Some(site) = folder.load_site(&cluster.site)? else {
            return Err(Error::NoState { path: state.to_owned() });
        };
        let (operator, ca_pem) = folder.load_operator()?;
        let agent = https::agent(&operator, &ca_pem, timeout)
            .map_err(|_| Error::Damaged { path: state.to_owned() })?;
        let client = Client::new(agent, site.operator.secret_id);
        let of = |name: &str| cluster.nodes.iter().find(|n| n.name == name);
        let member = members.first().and_then(|m| of(&m.name));
        let datacenter = member.map_or("", |n| n.datacenter.as_str());
        let addresses = cluster.servers(datacenter).map(|n| n.address.addr()).collect();
        Ok(Self { addresses, client })
    }

    /// A key's value; none where there is no such key.
    pub fn key(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.each(|server| self.client.key(server, key))
    }

    /// Writes a key.
    pub fn put_key(&self, key: &str, value: &[u8]) -> Result<(), Error> {
        self.each(|server| self.client.put_key(server, key, value))
    }

    /// The first server's answer.
    fn each<T>(&self, ask: impl Fn(IpAddr) -> Result<T, String>) -> Result<T, Error> {
        let mut silence = Vec::new();
        for server in &self.addresses {
            match ask(*server) {
                Ok(answer) => return Ok(answer),
                Err(reason) => silence.push(format!("{server}: {reason}")),
            }
        }
        Err(Error::NoServer { reasons: silence.join("; ") })
    }
}

/// A word for a request that no other request has.
pub fn request_id() -> Result<String, Error> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(Error::Random)?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}
