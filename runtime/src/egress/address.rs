//! Which addresses may be connected to: the public ones, and what an operator allows by name.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Why an address is refused. The texts are for the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// `0.0.0.0`, `::` and the rest of "this network".
    Unspecified,
    /// The machine itself.
    Loopback,
    /// A private or unique local network.
    Private,
    /// Reachable on one link only; cloud metadata services live here.
    LinkLocal,
    /// A metadata service on an address that otherwise looks public.
    Metadata,
    /// Shared space of carrier-grade NAT.
    SharedNat,
    /// An IPv6 address that carries an IPv4 one through a translator or tunnel (NAT64, 6to4, Teredo, compatible).
    Tunnel,
    /// A group, not a host.
    Multicast,
    /// Documentation, benchmarks, or not assigned to anybody.
    Reserved,
}

impl Refusal {
    /// A short English text.
    pub fn as_str(self) -> &'static str {
        match self {
            Refusal::Unspecified => "unspecified",
            Refusal::Loopback => "loopback",
            Refusal::Private => "private",
            Refusal::LinkLocal => "link-local",
            Refusal::Metadata => "metadata",
            Refusal::SharedNat => "carrier-grade NAT",
            Refusal::Tunnel => "tunnel or translator",
            Refusal::Multicast => "multicast",
            Refusal::Reserved => "reserved",
        }
    }
}

/// IANA's special-purpose IPv4 registry, and one metadata service that sits on a public address (Azure).
const V4: &[(Ipv4Net, Refusal)] = &[
    (v4([0, 0, 0, 0], 8), Refusal::Unspecified),
    (v4([10, 0, 0, 0], 8), Refusal::Private),
    (v4([100, 64, 0, 0], 10), Refusal::SharedNat),
    (v4([127, 0, 0, 0], 8), Refusal::Loopback),
    (v4([168, 63, 129, 16], 32), Refusal::Metadata),
    (v4([169, 254, 0, 0], 16), Refusal::LinkLocal),
    (v4([172, 16, 0, 0], 12), Refusal::Private),
    (v4([192, 0, 0, 0], 24), Refusal::Reserved),
    (v4([192, 0, 2, 0], 24), Refusal::Reserved),
    (v4([192, 31, 196, 0], 24), Refusal::Reserved),
    (v4([192, 52, 193, 0], 24), Refusal::Reserved),
    (v4([192, 88, 99, 0], 24), Refusal::Tunnel),
    (v4([192, 168, 0, 0], 16), Refusal::Private),
    (v4([192, 175, 48, 0], 24), Refusal::Reserved),
    (v4([198, 18, 0, 0], 15), Refusal::Reserved),
    (v4([198, 51, 100, 0], 24), Refusal::Reserved),
    (v4([203, 0, 113, 0], 24), Refusal::Reserved),
    (v4([224, 0, 0, 0], 4), Refusal::Multicast),
    (v4([240, 0, 0, 0], 4), Refusal::Reserved),
];

/// What is refused by name; anything else outside `2000::/3` is refused as reserved.
const V6: &[(Ipv6Net, Refusal)] = &[
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 128), Refusal::Unspecified),
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), Refusal::Loopback),
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 96), Refusal::Tunnel),
    (v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96), Refusal::Tunnel),
    (v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48), Refusal::Tunnel),
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32), Refusal::Tunnel),
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), Refusal::Reserved),
    (v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), Refusal::Reserved),
    (v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), Refusal::Tunnel),
    (v6([0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0], 48), Refusal::Reserved),
    (v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), Refusal::Reserved),
    (v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), Refusal::Private),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), Refusal::LinkLocal),
    (v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), Refusal::Private),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), Refusal::Multicast),
];

/// The only part of IPv6 that is given out for use on the internet.
const V6_GLOBAL: Ipv6Net = v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);

const fn v4(octets: [u8; 4], prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]), prefix)
}

const fn v6(parts: [u16; 8], prefix: u8) -> Ipv6Net {
    let [a, b, c, d, e, f, g, h] = parts;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), prefix)
}

/// Why this address may not be connected to; `None` for a public one. An IPv4-mapped address is judged as the IPv4
/// address that the kernel would connect to.
pub fn refusal(address: IpAddr) -> Option<Refusal> {
    match address.to_canonical() {
        IpAddr::V4(address) => V4.iter().find(|(net, _)| net.contains(&address)).map(|(_, why)| *why),
        IpAddr::V6(address) => match V6.iter().find(|(net, _)| net.contains(&address)) {
            Some((_, why)) => Some(*why),
            None if V6_GLOBAL.contains(&address) => None,
            None => Some(Refusal::Reserved),
        },
    }
}

/// A network and port that an operator allows although it is not public: `10.1.0.0/16:8443`, `[fd00::/8]:443`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowed {
    /// The network.
    pub network: IpNet,
    /// The port; there is no "any".
    pub port: u16,
}

impl Allowed {
    /// Whether the address and port are inside. An IPv4-mapped address counts as its IPv4 address.
    pub fn covers(&self, address: IpAddr, port: u16) -> bool {
        self.port == port && self.network.contains(&address.to_canonical())
    }
}

/// The text is not `CIDR:port`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a network and a port like 10.1.0.0/16:8443 or [fd00::/8]:443, got {0:?}")]
pub struct AllowedError(String);

impl FromStr for Allowed {
    type Err = AllowedError;

    fn from_str(text: &str) -> Result<Self, AllowedError> {
        let error = || AllowedError(text.to_owned());
        let (network, port) = text.rsplit_once(':').ok_or_else(error)?;
        let network = network.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(network);
        let network = network
            .parse::<IpNet>()
            .or_else(|_| network.parse::<IpAddr>().map(IpNet::from))
            .map_err(|_| error())?;
        let port = port.parse().map_err(|_| error())?;
        Ok(Allowed { network, port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(text: &str) -> Option<Refusal> {
        refusal(text.parse().unwrap())
    }

    #[test]
    fn every_kind_of_address_that_is_not_public_is_refused() {
        for (text, why) in [
            ("0.0.0.0", Refusal::Unspecified),
            ("0.1.2.3", Refusal::Unspecified),
            ("127.0.0.1", Refusal::Loopback),
            ("127.255.255.254", Refusal::Loopback),
            ("10.0.0.1", Refusal::Private),
            ("172.16.0.1", Refusal::Private),
            ("172.31.255.255", Refusal::Private),
            ("192.168.1.1", Refusal::Private),
            ("169.254.169.254", Refusal::LinkLocal),
            ("168.63.129.16", Refusal::Metadata),
            ("100.64.0.1", Refusal::SharedNat),
            ("100.100.100.200", Refusal::SharedNat),
            ("192.0.0.192", Refusal::Reserved),
            ("198.18.0.1", Refusal::Reserved),
            ("203.0.113.9", Refusal::Reserved),
            ("192.88.99.1", Refusal::Tunnel),
            ("224.0.0.1", Refusal::Multicast),
            ("240.0.0.1", Refusal::Reserved),
            ("255.255.255.255", Refusal::Reserved),
            ("::", Refusal::Unspecified),
            ("::1", Refusal::Loopback),
            ("::127.0.0.1", Refusal::Tunnel),
            ("::ffff:127.0.0.1", Refusal::Loopback),
            ("::ffff:10.0.0.1", Refusal::Private),
            ("::ffff:169.254.169.254", Refusal::LinkLocal),
            ("::ffff:0:127.0.0.1", Refusal::Reserved),
            ("64:ff9b::7f00:1", Refusal::Tunnel),
            ("64:ff9b:1::1", Refusal::Tunnel),
            ("2002:7f00:1::", Refusal::Tunnel),
            ("2001::1", Refusal::Tunnel),
            ("2001:20::1", Refusal::Reserved),
            ("2001:db8::1", Refusal::Reserved),
            ("3fff::1", Refusal::Reserved),
            ("5f00::1", Refusal::Reserved),
            ("100::1", Refusal::Reserved),
            ("fc00::1", Refusal::Private),
            ("fd00:ec2::254", Refusal::Private),
            ("fe80::1", Refusal::LinkLocal),
            ("fec0::1", Refusal::Private),
            ("ff02::1", Refusal::Multicast),
            ("4000::1", Refusal::Reserved),
        ] {
            assert_eq!(judged(text), Some(why), "{text}");
        }
    }

    #[test]
    fn public_addresses_pass() {
        for text in [
            "1.1.1.1",
            "8.8.8.8",
            "92.118.66.1",
            "172.32.0.1",
            "100.128.0.1",
            "2a02:6b8::2:242",
            "2606:4700::1111",
        ] {
            assert_eq!(judged(text), None, "{text}");
        }
        assert_eq!(judged("::ffff:1.1.1.1"), None);
    }

    #[test]
    fn an_allowed_network_covers_its_own_port_only() {
        let allowed: Allowed = "10.1.0.0/16:8443".parse().unwrap();
        assert!(allowed.covers("10.1.2.3".parse().unwrap(), 8443));
        assert!(allowed.covers("::ffff:10.1.2.3".parse().unwrap(), 8443));
        assert!(!allowed.covers("10.1.2.3".parse().unwrap(), 443));
        assert!(!allowed.covers("10.2.2.3".parse().unwrap(), 8443));
        let single: Allowed = "[fd00::7]:443".parse().unwrap();
        assert!(single.covers("fd00::7".parse().unwrap(), 443));
        for wrong in ["10.0.0.0/8", "10.0.0.0/8:*", "host:80", "10.0.0.0/99:80", ""] {
            assert!(wrong.parse::<Allowed>().is_err(), "{wrong}");
        }
    }
}
