//! Which addresses may be called.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The kind of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AddressKind {
    /// An address on the internet.
    Public,
    /// This machine or a private network: allowed only if the operator configures it.
    Private,
    /// Never a valid receiver: metadata services, link-local, multicast, reserved.
    Never,
}

/// The kind of `address` (IANA special-purpose address registries).
pub(super) fn kind_of(address: IpAddr) -> AddressKind {
    match address {
        IpAddr::V4(address) => kind_of_v4(address),
        IpAddr::V6(address) => kind_of_v6(address),
    }
}

fn kind_of_v4(address: Ipv4Addr) -> AddressKind {
    /// A metadata service in the shared range of carriers.
    const METADATA: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);
    match address.octets() {
        _ if address == METADATA => AddressKind::Never,
        [10 | 127, ..] | [192, 168, ..] => AddressKind::Private,
        [100, second, ..] if (64..128).contains(&second) => AddressKind::Private,
        [172, second, ..] if (16..32).contains(&second) => AddressKind::Private,
        // "This network"; link-local, where clouds have their metadata services; protocol
        // assignments, documentation, relays and benchmarks; multicast, reserved, broadcast.
        [0 | 224..=255, ..]
        | [169, 254, ..]
        | [192, 0, 0 | 2, _]
        | [192, 88, 99, _]
        | [198, 18 | 19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _] => AddressKind::Never,
        _ => AddressKind::Public,
    }
}

fn kind_of_v6(address: Ipv6Addr) -> AddressKind {
    /// A metadata service in the range of unique local addresses.
    const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        kind_of_v4(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        _ if address == METADATA => AddressKind::Never,
        [0, 0, 0, 0, 0, 0, 0, 1] => AddressKind::Private,
        // An address that embeds an IPv4 address (mapped, NAT64, 6to4) counts as that address.
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => v4(high, low),
        [first, ..] if first & 0xfe00 == 0xfc00 => AddressKind::Private,
        // Protocol assignments (Teredo among them) and documentation.
        [0x2001, second, ..] if second < 0x200 || second == 0xdb8 => AddressKind::Never,
        [0x3fff, second, ..] if second < 0x1000 => AddressKind::Never,
        // Everything that is routed today; the rest is link-local, multicast or reserved.
        [first, ..] if first & 0xe000 == 0x2000 => AddressKind::Public,
        _ => AddressKind::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(address: &str) -> AddressKind {
        kind_of(address.parse().unwrap())
    }

    #[test]
    fn only_public_addresses_are_public() {
        for public in [
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "223.255.255.255",
            "2606:4700::1111",
            "::ffff:1.1.1.1",
            "64:ff9b::1.1.1.1",
        ] {
            assert_eq!(of(public), AddressKind::Public, "{public}");
        }
        for private in [
            "10.0.0.1",
            "127.0.0.1",
            "127.255.255.254",
            "100.64.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "::1",
            "fc00::1",
            "fdff::1",
            "::ffff:127.0.0.1",
            "::ffff:10.1.2.3",
            "64:ff9b::10.0.0.1",
            "2002:7f00:1::",
        ] {
            assert_eq!(of(private), AddressKind::Private, "{private}");
        }
        for never in [
            "0.0.0.0",
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "100.100.100.200",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::127.0.0.1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "fd00:ec2::254",
            "2001::1",
            "2001:db8::1",
            "3fff::1",
            "4000::1",
        ] {
            assert_eq!(of(never), AddressKind::Never, "{never}");
        }
    }
}
