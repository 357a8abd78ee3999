//! Ethernet addresses.

use std::fmt;
use std::str::FromStr;

/// An Ethernet address of six bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

/// The text is not six pairs of hexadecimal digits with colons between, or a multicast address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a MAC is six pairs of hex digits with colons between, with an even first byte")]
pub struct MacError;

impl FromStr for Mac {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, MacError> {
        let mut bytes = [0u8; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts
                .next()
                .filter(|part| part.len() == 2)
                .ok_or(MacError)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| MacError)?;
        }
        if parts.next().is_some() || bytes[0] & 1 == 1 {
            return Err(MacError);
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(formatter, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

super::text_form!(
    Mac,
    "Ethernet address",
    "^([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}$",
    "an Ethernet address"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_round_trip_and_multicast_is_refused() {
        let mac: Mac = "52:54:00:aB:0c:01".parse().expect("valid");
        assert_eq!(mac.to_string(), "52:54:00:ab:0c:01");
        assert_eq!("01:00:5e:00:00:01".parse::<Mac>(), Err(MacError));
        assert_eq!("52:54:00:ab:0c".parse::<Mac>(), Err(MacError));
        assert_eq!("52:54:00:ab:0c:01:02".parse::<Mac>(), Err(MacError));
    }
}
