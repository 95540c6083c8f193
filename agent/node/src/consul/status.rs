//! `/v1/status`: the Raft leader. Needs no token.

use super::{Consul, Error};

impl Consul {
    /// The leader's address as the local agent knows it, if it knows one.
    pub(crate) async fn leader(&self) -> Result<Option<String>, Error> {
        let leader: String = self.get("/v1/status/leader").await?.json()?;
        Ok(Some(leader).filter(|l| !l.is_empty()))
    }
}
