//! Which addresses a redirect may lead to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether `address` is a unicast address of the public internet.
///
/// Everything that reaches the machine itself, its neighbours or a private network says no, also where an
/// IPv6 address only wraps such an IPv4 one (mapped, compatible, NAT64, 6to4, Teredo).
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// The special-purpose registry of RFC 6890, as far as it is not globally reachable.
fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !matches!(
        (a, b, c),
        (0 | 10 | 127, _, _)             // this network, private, loopback
            | (100, 64..=127, _)         // carrier-grade NAT
            | (169, 254, _)              // link-local, the metadata services of clouds
            | (172, 16..=31, _)          // private
            | (192, 0, 0 | 2)            // protocol assignments, documentation
            | (192, 88, 99)              // 6to4 relays
            | (192, 168, _)              // private
            | (198, 18..=19, _)          // benchmarks
            | (198, 51, 100)             // documentation
            | (203, 0, 113)              // documentation
            | (224..=255, _, _) // multicast, reserved, broadcast
    )
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let words = address.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match words {
        // ::, ::1, and IPv4 addresses in the two old wrappings.
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] => {
            words[5] == 0xffff && is_public_v4(v4(words[6], words[7]))
        }
        // IPv4-translated (RFC 2765).
        [0, 0, 0, 0, 0xffff, 0, high, low] => is_public_v4(v4(high, low)),
        // NAT64 (RFC 6052) and its local prefix (RFC 8215), of which any part may be a local choice.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => is_public_v4(v4(high, low)),
        [0x64, 0xff9b, ..] => false,
        // Teredo holds its IPv4 address inverted; nobody serves media over it.
        [0x2001, 0, ..] => false,
        // Documentation.
        [0x2001, 0xdb8, ..] => false,
        // 6to4.
        [0x2002, high, low, ..] => is_public_v4(v4(high, low)),
        // Global unicast is 2000::/3; all else is local, multicast or unassigned.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault41_private_addresses_in_every_wrapping_are_known() {
        for text in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:0:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2001::1",
            "2002:a00:1::",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "100::1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn public_addresses_are_known() {
        for text in [
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.167.1.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450::1",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
            "2002:808:808::1",
        ] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }
}
