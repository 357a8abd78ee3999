//! Memory and disk sizes.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::str::FromStr;

/// A size in mebibytes (2^20 bytes), the unit in which Nova and libvirt count memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mib(pub u64);

/// Why a text is not a size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MibError {
    /// The text has no unit, or one other than MiB, GiB, TiB.
    #[error("a size ends in MiB, GiB or TiB")]
    Unit,
    /// The part before the unit is no number, or negative.
    #[error("the part before the unit is not a number")]
    Number,
    /// More than 2^40 MiB.
    #[error("the size is too large")]
    TooLarge,
}

/// 2^40 MiB.
const LARGEST_MIB: f64 = 1_099_511_627_776.0;

impl Mib {
    /// Returns the size in bytes.
    pub const fn bytes(self) -> u64 {
        self.0 << 20
    }

    /// Returns the size that holds `bytes`, rounded up.
    pub const fn from_bytes_ceil(bytes: u64) -> Self {
        Self(bytes.div_ceil(1 << 20))
    }

    /// Subtracts, stopping at zero.
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// Divides by `divisor`, rounded to nearest and never below 1 MiB unless the size was zero.
    pub const fn divided(self, divisor: u32) -> Self {
        if self.0 == 0 {
            return self;
        }
        let quotient = (self.0 + divisor as u64 / 2) / divisor as u64;
        Self(if quotient == 0 { 1 } else { quotient })
    }
}

impl FromStr for Mib {
    type Err = MibError;

    fn from_str(text: &str) -> Result<Self, MibError> {
        let text = text.trim();
        let (number, factor) = [("MiB", 1.0), ("GiB", 1024.0), ("TiB", 1024.0 * 1024.0)]
            .into_iter()
            .find_map(|(unit, factor)| {
                text.strip_suffix(unit)
                    .map(|number| (number.trim_end(), factor))
            })
            .ok_or(MibError::Unit)?;
        if number.is_empty()
            || !number
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte == b'.')
        {
            return Err(MibError::Number);
        }
        let mib = number.parse::<f64>().map_err(|_| MibError::Number)? * factor;
        if mib > LARGEST_MIB {
            return Err(MibError::TooLarge);
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "bounded above and non-negative by the checks before"
        )]
        Ok(Self(mib.round() as u64))
    }
}

impl fmt::Display for Mib {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 != 0 && self.0.is_multiple_of(1024) {
            formatter.pad(&format!("{}GiB", self.0 / 1024))
        } else {
            formatter.pad(&format!("{}MiB", self.0))
        }
    }
}

impl Add for Mib {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl Sub for Mib {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

impl AddAssign for Mib {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

impl std::iter::Sum for Mib {
    fn sum<I: Iterator<Item = Self>>(sizes: I) -> Self {
        sizes.fold(Self(0), Add::add)
    }
}

super::text_form!(
    Mib,
    "size",
    r"^[0-9]+(\.[0-9]+)? *(MiB|GiB|TiB)$",
    "a size: a number and MiB, GiB or TiB"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_parse_and_print_in_the_largest_whole_unit() {
        assert_eq!("32GiB".parse(), Ok(Mib(32768)));
        assert_eq!("2.9 GiB".parse(), Ok(Mib(2970)));
        assert_eq!(Mib(32768).to_string(), "32GiB");
        assert_eq!(Mib(8193).to_string(), "8193MiB");
        assert_eq!(Mib(0).to_string(), "0MiB");
    }

    #[test]
    fn what_is_no_size_is_refused() {
        assert_eq!("32".parse::<Mib>(), Err(MibError::Unit));
        assert_eq!("32GB".parse::<Mib>(), Err(MibError::Unit));
        assert_eq!("-1GiB".parse::<Mib>(), Err(MibError::Number));
        assert_eq!("1e3GiB".parse::<Mib>(), Err(MibError::Number));
        assert_eq!("99999999999TiB".parse::<Mib>(), Err(MibError::TooLarge));
    }

    #[test]
    fn dividing_never_makes_something_nothing() {
        assert_eq!(Mib(3).divided(64), Mib(1));
        assert_eq!(Mib(0).divided(64), Mib(0));
        assert_eq!(Mib(32768).divided(16), Mib(2048));
    }
}
