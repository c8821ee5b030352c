//! Addresses and the networks that they are in.

use std::net::IpAddr;

/// How many bits an address of this family has.
pub fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The network of `prefix` bits that an address is in, by its first address.
pub fn network(address: IpAddr, prefix: u8) -> IpAddr {
    let rest = u32::from(bits(address).saturating_sub(prefix));
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(rest).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(rest).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

/// A network as it is written: `10.12.2.0/24`, and one address without its bits.
pub fn network_text(first: IpAddr, prefix: u8) -> String {
    if prefix < bits(first) { format!("{first}/{prefix}") } else { first.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_begin_with_their_first_address() {
        for (address, prefix, first, text) in [
            ("10.12.1.77", 24, "10.12.1.0", "10.12.1.0/24"),
            ("10.12.1.77", 32, "10.12.1.77", "10.12.1.77"),
            ("10.12.1.77", 128, "10.12.1.77", "10.12.1.77"),
            ("10.12.1.77", 0, "0.0.0.0", "0.0.0.0/0"),
            ("fd12::1:77", 112, "fd12::1:0", "fd12::1:0/112"),
            ("fd12::77", 128, "fd12::77", "fd12::77"),
            ("fd12::77", 0, "::", "::/0"),
        ] {
            let found = network(address.parse().unwrap(), prefix);
            assert_eq!(found, first.parse::<IpAddr>().unwrap());
            assert_eq!(network_text(found, prefix), text);
        }
    }
}
