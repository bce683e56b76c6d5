//! Who sent a request.

use std::net::IpAddr;

use http::HeaderMap;
use ipnet::IpNet;

/// What a proxy adds to say whom it speaks for.
const FORWARDED_FOR: &str = "x-forwarded-for";
/// The address of the sender: the peer, or, when that is a trusted proxy, the last address before the trusted ones.
pub fn address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let peer = peer.to_canonical();
    let is_trusted = |address: &IpAddr| trusted.iter().any(|net| net.contains(address));
    if trusted.is_empty() || !is_trusted(&peer) {
        return peer;
    }
    let mut sender = peer;
    let values: Vec<&[u8]> = headers.get_all(FORWARDED_FOR).iter().map(|value| value.as_bytes()).collect();
    for part in values.iter().rev().flat_map(|value| value.rsplit(|byte| *byte == b',')) {
        let address = str::from_utf8(part).ok().and_then(|text| text.trim().parse::<IpAddr>().ok());
        // What is no address was not written by a proxy we trust, and nothing before it is believed.
        let Some(address) = address else { return sender };
        sender = address.to_canonical();
        if !is_trusted(&sender) {
            return sender;
        }
    }
    sender
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_forwarded_address_is_believed_from_a_trusted_proxy_only() {
        let headers = headers(&[("x-forwarded-for", "6.6.6.6, 92.118.66.7, 10.0.0.2")]);
        let proxy: IpAddr = "10.0.0.1".parse().unwrap();
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        assert_eq!(address(proxy, &headers, &trusted).to_string(), "92.118.66.7");
        assert_eq!(address(proxy, &headers, &[]), proxy);
        let stranger: IpAddr = "5.5.5.5".parse().unwrap();
        assert_eq!(address(stranger, &headers, &trusted), stranger);
        assert_eq!(
            address("::ffff:10.0.0.1".parse().unwrap(), &headers, &trusted).to_string(),
            "92.118.66.7"
        );
    }

    #[test]
    fn a_broken_forwarded_list_is_believed_up_to_the_break() {
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        let headers = headers(&[("x-forwarded-for", "92.118.66.7, unknown, 10.0.0.2")]);
        assert_eq!(address("10.0.0.1".parse().unwrap(), &headers, &trusted).to_string(), "10.0.0.2");
    }

    #[test]
    fn a_forwarded_line_that_is_no_text_ends_what_is_believed() {
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        let proxy: IpAddr = "10.0.0.1".parse().unwrap();
        for (line, sender) in
            [(b"\xff".as_slice(), "10.0.0.1"), (b"\xff, 10.0.0.2", "10.0.0.2"), (b"\xff, 5.5.5.5", "5.5.5.5")]
        {
            let mut headers = headers(&[("x-forwarded-for", "92.118.66.7")]);
            headers.append("x-forwarded-for", http::HeaderValue::from_bytes(line).unwrap());
            assert_eq!(address(proxy, &headers, &trusted).to_string(), sender, "{line:?}");
        }
    }
}
