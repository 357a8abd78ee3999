//! How many times smaller than asked a lab is.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Mib;

/// The divisor of payload sizes: a power of two, 1 to 64.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct Scale(u32);

/// The number is no power of two between 1 and 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a scale is 1, 2, 4, 8, 16, 32 or 64")]
pub struct ScaleError;

impl Scale {
    /// Full size.
    pub const FULL: Self = Self(1);
    /// The smallest lab.
    pub const LARGEST: Self = Self(64);

    /// Makes a scale.
    pub const fn new(divisor: u32) -> Result<Self, ScaleError> {
        if divisor.is_power_of_two() && divisor <= Self::LARGEST.0 {
            Ok(Self(divisor))
        } else {
            Err(ScaleError)
        }
    }

    /// Returns the divisor.
    pub const fn divisor(self) -> u32 {
        self.0
    }

    /// Returns what runs where `full` was asked for.
    pub const fn effective(self, full: Mib) -> Mib {
        full.divided(self.0)
    }

    /// Chooses full size where `need` (by scale) fits `available`, else the largest scale that takes at most 60 % of it.
    pub fn choose(available: Mib, need: impl Fn(Self) -> Mib) -> Option<Self> {
        const SHARE_PERCENT: u64 = 60;
        let share = Mib(available.0 * SHARE_PERCENT / 100);
        (0..=6)
            .map(|power| Self(1 << power))
            .find(|scale| need(*scale) <= share)
    }
}

impl FromStr for Scale {
    type Err = ScaleError;
    fn from_str(text: &str) -> Result<Self, ScaleError> {
        Self::new(text.parse().map_err(|_| ScaleError)?)
    }
}

impl fmt::Display for Scale {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_is_full_where_it_fits_and_else_takes_at_most_sixty_percent() {
        let need = |scale: Scale| scale.effective(Mib(136 * 1024)) + Mib(5 * 120);
        assert_eq!(Scale::choose(Mib(512 * 1024), need), Some(Scale::FULL));
        assert_eq!(
            Scale::choose(Mib(22 * 1024), need).map(Scale::divisor),
            Some(16)
        );
        assert_eq!(Scale::choose(Mib(1024), need), None);
    }

    #[test]
    fn only_powers_of_two_are_scales() {
        assert!("16".parse::<Scale>().is_ok());
        for bad in ["0", "3", "128", "x", "-1"] {
            assert_eq!(bad.parse::<Scale>(), Err(ScaleError), "{bad}");
        }
    }
}
