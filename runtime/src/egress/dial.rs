//! Checked addresses for those who speak no HTTP (mail): the same guard, and the caller connects to what it gives.

use std::net::{IpAddr, SocketAddr};

use sheaf_bundles::request::{TransportError, TransportErrorKind};

use super::{Egress, resolver};

impl Egress {
    /// The addresses of a host that may be connected to on that port, at least one.
    ///
    /// # Errors
    /// `Dns` when the name has none, `Blocked` when none of them may be connected to.
    pub async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, TransportError> {
        let found = match host.parse::<IpAddr>() {
            Ok(literal) => vec![literal],
            Err(_) => self.names.look_up(host.to_owned()).await.map_err(|error| TransportError {
                kind: TransportErrorKind::Dns,
                detail: resolver::NotResolved(error).to_string(),
            })?,
        };
        let checked = resolver::checked(&found, &self.rules.allowed, port).map_err(|error| {
            TransportError { kind: TransportErrorKind::Blocked, detail: error.to_string() }
        })?;
        Ok(checked.into_iter().map(|address| SocketAddr::new(address.ip(), port)).collect())
    }
}
