//! Names to checked addresses. What this returns is what is connected to: there is no second look-up.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use futures_util::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::address::{Allowed, Refusal, refusal};

/// Something that knows the addresses of a name.
pub trait Names: Send + Sync + 'static {
    /// All addresses of the name, unchecked.
    fn look_up(&self, name: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// The operating system's resolver.
pub struct SystemNames;

impl Names for SystemNames {
    fn look_up(&self, name: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// Every address of a name was refused; holds the first and why.
#[derive(Debug)]
pub struct AllRefused {
    address: IpAddr,
    why: Refusal,
}

impl fmt::Display for AllRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the name points to {} ({})", self.address, self.why.as_str())
    }
}

impl std::error::Error for AllRefused {}

/// The name could not be resolved.
#[derive(Debug)]
pub struct NotResolved(pub io::Error);

impl fmt::Display for NotResolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the name was not resolved: {}", self.0)
    }
}

impl std::error::Error for NotResolved {}

/// The resolver that the HTTP client uses. A client asks it for a name only, so the allowed networks it holds are
/// those of one port, and there is one client for each such port.
pub struct CheckedNames {
    names: Arc<dyn Names>,
    allowed: Vec<Allowed>,
    port: u16,
}

impl CheckedNames {
    /// Checks what `names` says; `allowed` networks count for `port` only.
    pub fn new(names: Arc<dyn Names>, allowed: Vec<Allowed>, port: u16) -> Self {
        CheckedNames { names, allowed, port }
    }
}

impl Resolve for CheckedNames {
    fn resolve(&self, name: Name) -> Resolving {
        let found = self.names.look_up(name.as_str().to_owned());
        let (allowed, port) = (self.allowed.clone(), self.port);
        Box::pin(async move {
            let addresses = found.await.map_err(NotResolved)?;
            let checked = checked(&addresses, &allowed, port)?;
            Ok(Box::new(checked.into_iter()) as Addrs)
        })
    }
}

/// The addresses that may be connected to. Port 0 means "the URL's port" to the client.
pub(super) fn checked(
    addresses: &[IpAddr],
    allowed: &[Allowed],
    port: u16,
) -> Result<Vec<SocketAddr>, Box<dyn std::error::Error + Send + Sync>> {
    let mut refused = None;
    let mut passed = Vec::with_capacity(addresses.len());
    for &address in addresses {
        match judge(address, port, allowed) {
            None => passed.push(SocketAddr::new(address.to_canonical(), 0)),
            Some(why) => refused = refused.or(Some(AllRefused { address, why })),
        }
    }
    match (passed.is_empty(), refused) {
        (false, _) => Ok(passed),
        (true, Some(refused)) => Err(Box::new(refused)),
        (true, None) => Err(Box::new(NotResolved(io::Error::other("the name has no addresses")))),
    }
}

/// Why this address may not be connected to on this port, allowed networks considered.
pub fn judge(address: IpAddr, port: u16, allowed: &[Allowed]) -> Option<Refusal> {
    if allowed.iter().any(|allowed| allowed.covers(address, port)) { None } else { refusal(address) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_mixed_answer_only_the_public_addresses_are_used() {
        let addresses = ["127.0.0.1".parse().unwrap(), "1.1.1.1".parse().unwrap()];
        assert_eq!(checked(&addresses, &[], 443).unwrap(), ["1.1.1.1:0".parse().unwrap()]);
    }

    #[test]
    fn an_answer_without_a_public_address_is_an_error_that_names_the_first() {
        let addresses = ["::ffff:127.0.0.1".parse().unwrap()];
        let error = checked(&addresses, &[], 443).unwrap_err();
        assert!(error.to_string().contains("loopback"), "{error}");
    }
}
