//! Addresses and the networks that they are in.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A network, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    first: IpAddr,
    prefix: u8,
}

/// Why text is no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    #[error("{0:?} is neither an address nor a network: use one such as 10.12.1.7 or 10.12.0.0/16")]
    Form(String),
    #[error("{0} is an address within the network {1}: write that, or the address alone")]
    Host(String, Network),
}

impl Network {
    pub fn holds(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.first.is_ipv4() && network(address, self.prefix) == self.first
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let form = || NetworkError::Form(text.chars().take(60).collect());
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| form())?;
        let most = bits(address);
        let prefix = prefix.map_or(Ok(most), str::parse).map_err(|_| form())?;
        if prefix > most {
            return Err(form());
        }
        let found = Self { first: network(address, prefix), prefix };
        if found.first == address {
            Ok(found)
        } else {
            Err(NetworkError::Host(text.to_owned(), found))
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&network_text(self.first, self.prefix))
    }
}

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
    fn networks_are_read_and_hold_their_addresses() {
        for (text, inside, outside) in [
            ("10.12.0.0/16", "10.12.255.1", "10.13.0.0"),
            ("10.12.1.7", "10.12.1.7", "10.12.1.8"),
            ("10.12.0.0/16", "::ffff:10.12.0.1", "::"),
            ("0.0.0.0/0", "1.2.3.4", "::1"),
            ("fd12::/64", "fd12::9", "fd12:0:0:1::9"),
        ] {
            let network: Network = text.parse().unwrap();
            assert_eq!(network.to_string(), text);
            let holds = |text: &str| network.holds(text.parse().unwrap());
            assert!(holds(inside) && !holds(outside), "{text}");
        }
        for text in ["", "ct1", "10.12.0.0/33", "10.12.0.0/", "10.12.0.0/-1", "/8", "fd12::/129"] {
            assert!(matches!(text.parse::<Network>(), Err(NetworkError::Form(_))), "{text}");
        }
        let host = "10.12.1.7/16".parse::<Network>().unwrap_err().to_string();
        assert!(host.contains("10.12.0.0/16"), "{host}");
    }

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
