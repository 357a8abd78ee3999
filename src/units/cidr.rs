//! IPv4 networks and address ranges.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// An IPv4 network: base address and prefix length, with no host bits set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    base: u32,
    prefix: u8,
}

/// An inclusive range of IPv4 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddrRange {
    /// The lowest address.
    pub first: Ipv4Addr,
    /// The highest address, not below `first`.
    pub last: Ipv4Addr,
}

/// Why a text is no network or range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// Not ADDRESS/PREFIX.
    #[error("a network is written ADDRESS/PREFIX, like 10.12.4.0/22")]
    Form,
    /// The prefix is not between 8 and 30.
    #[error("the prefix length must be between 8 and 30")]
    Prefix,
    /// Bits beyond the prefix are set.
    #[error("the address has bits set beyond the prefix; the network is {0}")]
    HostBits(Cidr),
    /// Not FIRST-LAST.
    #[error("a range is written FIRST-LAST, like 10.12.4.10-10.12.4.223")]
    Range,
    /// The first address is above the last.
    #[error("the range ends before it starts")]
    Backwards,
}

impl Cidr {
    /// Makes the network of `prefix` bits that holds `address`.
    pub fn holding(address: Ipv4Addr, prefix: u8) -> Self {
        Self {
            base: u32::from(address) & mask(prefix),
            prefix,
        }
    }

    /// Returns the network's base address.
    pub fn base(self) -> Ipv4Addr {
        self.base.into()
    }

    /// Returns the prefix length in bits.
    pub const fn prefix(self) -> u8 {
        self.prefix
    }

    /// Returns the netmask.
    pub fn netmask(self) -> Ipv4Addr {
        mask(self.prefix).into()
    }

    /// Returns the broadcast address.
    pub fn broadcast(self) -> Ipv4Addr {
        (self.base | !mask(self.prefix)).into()
    }

    /// Tells whether `address` lies in the network.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & mask(self.prefix) == self.base
    }

    /// Tells whether `address` can be given to a host: inside, and neither base nor broadcast.
    pub fn is_host(self, address: Ipv4Addr) -> bool {
        self.contains(address) && address != self.base() && address != self.broadcast()
    }

    /// Tells whether the two networks share an address.
    pub fn overlaps(self, other: Self) -> bool {
        let shorter = self.prefix.min(other.prefix);
        self.base & mask(shorter) == other.base & mask(shorter)
    }

    /// Returns the network moved up by `offset` addresses, or nothing when it would leave the address space.
    pub fn shifted(self, offset: u32) -> Option<Self> {
        let base = self.base.checked_add(offset)?;
        (base & !mask(self.prefix) == 0).then_some(Self {
            base,
            prefix: self.prefix,
        })
    }
}

const fn mask(prefix: u8) -> u32 {
    if prefix == 0 {
        0
    } else {
        u32::MAX << (32 - prefix)
    }
}

impl AddrRange {
    /// Tells whether `address` lies in the range.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&address)
    }

    /// Tells whether the two ranges share an address.
    pub fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// Returns the range moved up by `offset` addresses, wrapping at the end of the address space.
    pub fn shifted(self, offset: u32) -> Self {
        let shift = |address: Ipv4Addr| Ipv4Addr::from(u32::from(address).wrapping_add(offset));
        Self {
            first: shift(self.first),
            last: shift(self.last),
        }
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let (address, prefix) = text.split_once('/').ok_or(CidrError::Form)?;
        let address: Ipv4Addr = address.parse().map_err(|_| CidrError::Form)?;
        let prefix: u8 = prefix.parse().map_err(|_| CidrError::Form)?;
        if !(8..=30).contains(&prefix) {
            return Err(CidrError::Prefix);
        }
        let network = Self::holding(address, prefix);
        if network.base() != address {
            return Err(CidrError::HostBits(network));
        }
        Ok(network)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&format!("{}/{}", self.base(), self.prefix))
    }
}

impl FromStr for AddrRange {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let (first, last) = text.split_once('-').ok_or(CidrError::Range)?;
        let parse = |part: &str| {
            part.trim()
                .parse::<Ipv4Addr>()
                .map_err(|_| CidrError::Range)
        };
        let range = Self {
            first: parse(first)?,
            last: parse(last)?,
        };
        if range.last < range.first {
            return Err(CidrError::Backwards);
        }
        Ok(range)
    }
}

impl fmt::Display for AddrRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.first, self.last)
    }
}

super::text_form!(
    Cidr,
    "subnet",
    r"^[0-9.]+/[0-9]+$",
    "an IPv4 network, ADDRESS/PREFIX"
);
super::text_form!(
    AddrRange,
    "range",
    r"^[0-9.]+ *- *[0-9.]+$",
    "an inclusive IPv4 range, FIRST-LAST"
);

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().expect("valid network")
    }

    #[test]
    fn networks_know_their_hosts() {
        let provider = cidr("10.12.4.0/22");
        assert_eq!(provider.netmask(), Ipv4Addr::new(255, 255, 252, 0));
        assert_eq!(provider.broadcast(), Ipv4Addr::new(10, 12, 7, 255));
        assert!(provider.is_host(Ipv4Addr::new(10, 12, 7, 40)));
        assert!(!provider.is_host(provider.broadcast()));
        assert!(!provider.contains(Ipv4Addr::new(10, 12, 8, 1)));
    }

    #[test]
    fn overlap_is_symmetric_and_sees_containment() {
        assert!(cidr("10.0.0.0/8").overlaps(cidr("10.12.4.0/22")));
        assert!(cidr("10.12.4.0/22").overlaps(cidr("10.0.0.0/8")));
        assert!(!cidr("10.12.4.0/22").overlaps(cidr("10.12.8.0/22")));
    }

    #[test]
    fn host_bits_are_named_with_the_network_meant() {
        assert_eq!(
            "10.12.5.0/22".parse::<Cidr>(),
            Err(CidrError::HostBits(cidr("10.12.4.0/22")))
        );
        assert_eq!("10.12.4.0/31".parse::<Cidr>(), Err(CidrError::Prefix));
        assert_eq!("10.12.4.0".parse::<Cidr>(), Err(CidrError::Form));
        assert_eq!(
            "10.12.4.9-10.12.4.3".parse::<AddrRange>(),
            Err(CidrError::Backwards)
        );
    }

    #[test]
    fn shifting_keeps_the_shape() {
        assert_eq!(
            cidr("10.12.4.0/22").shifted(1 << 16),
            Some(cidr("10.13.4.0/22"))
        );
        assert_eq!(cidr("255.12.4.0/22").shifted(u32::MAX), None);
    }
}
