//! What kind of place an address is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Who may be sent to an address. Ordered: the later, the fewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    /// Everybody.
    Public,
    /// Resources that may reach private addresses: loopback, private networks, link-local, carriers' and benchmarks' ranges,
    /// and IPv6 addresses that only stand for an IPv4 address.
    Private,
    /// Nobody: no address of one machine (unspecified, multicast, broadcast), documentation, reserved ranges.
    Nobody,
}

impl Reach {
    /// Whether a resource may reach it.
    pub(crate) fn permits(self, allow_private: bool) -> bool {
        match self {
            Self::Public => true,
            Self::Private => allow_private,
            Self::Nobody => false,
        }
    }
}

/// Who may be sent to `address`.
pub(crate) fn reach(address: IpAddr) -> Reach {
    match address {
        IpAddr::V4(address) => reach_v4(address),
        IpAddr::V6(address) => reach_v6(address),
    }
}

fn reach_v4(address: Ipv4Addr) -> Reach {
    match address.octets() {
        // Loopback, private networks, link-local (where clouds keep their metadata), carriers (RFC 6598), benchmarks (RFC 2544).
        [127 | 10, ..]
        | [172, 16..=31, ..]
        | [192, 168, ..]
        | [169, 254, ..]
        | [100, 64..=127, ..]
        | [198, 18..=19, ..] => Reach::Private,
        // This network, protocol assignments, documentation, 6to4 relays, multicast, reserved, broadcast.
        [0, ..] | [192, 0, 0 | 2, _] | [192, 88, 99, _] | [198, 51, 100, _] | [203, 0, 113, _] | [224..=255, ..] => {
            Reach::Nobody
        }
        _ => Reach::Public,
    }
}

fn reach_v6(address: Ipv6Addr) -> Reach {
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        reach_v4(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Reach::Nobody,
        [0, 0, 0, 0, 0, 0, 0, 1] => Reach::Private,
        // IPv4-compatible and IPv4-mapped: nobody writes a public address so, but to get past a list.
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] => embedded(high, low).max(Reach::Private),
        // NAT64 (RFC 6052). On a network of IPv6 alone every IPv4 host has such an address, so it is what it stands for.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low),
        [0x64, 0xff9b, 1, 0, 0, 0, high, low] => embedded(high, low).max(Reach::Private),
        // Other NAT64 of a network's own (RFC 8215), unique local, link-local, site-local.
        [0x64, 0xff9b, 1, ..] | [0xfc00..=0xfdff | 0xfe80..=0xfeff, ..] => Reach::Private,
        // Teredo: the client's address, inverted.
        [0x2001, 0, .., high, low] => embedded(!high, !low).max(Reach::Private),
        // Benchmarks (RFC 5180).
        [0x2001, 2, 0, ..] => Reach::Private,
        // The other protocol assignments, documentation.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Reach::Nobody,
        // 6to4.
        [0x2002, high, low, ..] => embedded(high, low).max(Reach::Private),
        // What is given out at all.
        [0x2000..=0x3fff, ..] => Reach::Public,
        _ => Reach::Nobody,
    }
}
