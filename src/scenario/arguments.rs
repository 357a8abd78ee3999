//! Arguments of faults and probes: how they are read, and the types that several of them have.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;
use std::time::Duration;

use regex::Regex;
use schemars::{JsonSchema, Schema};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::FaultError;
use crate::diagnostics::{Keys, Node, Reader};
use crate::units::{Cidr, text_form};

pub(super) fn duration(reader: &mut Reader, node: Option<&Node>, otherwise: Duration) -> Duration {
    let Some(node) = node else { return otherwise };
    let Some(text) = reader.scalar::<String>(node, "duration") else {
        return otherwise;
    };
    let parsed = text
        .parse::<jiff::SignedDuration>()
        .ok()
        .and_then(|signed| Duration::try_from(signed).ok());
    if parsed.is_none() {
        reader.bad_value(
            node,
            &text,
            "duration",
            &"it is written like 90s, 5m or 1h30m",
        );
    }
    parsed.unwrap_or(otherwise)
}

/// What the arguments of a fault or a probe are.
pub(super) struct Arguments {
    /// Its name.
    pub(super) name: &'static str,
    /// Their keys, in the order of the documentation.
    pub(super) keys: Keys,
    pub(super) schema: Schema,
}

/// Why arguments do not go together.
pub(super) struct Mistake {
    /// The key whose value is wrong; all of them where there is none.
    pub(super) key: Option<&'static str>,
    /// The value, where it is not that of the key.
    pub(super) text: Option<String>,
    /// What the value is not.
    pub(super) wanted: &'static str,
    /// Why.
    pub(super) why: String,
}

impl Mistake {
    /// Of the value of a key.
    pub(super) fn of(key: &'static str, wanted: &'static str, why: impl Into<String>) -> Self {
        Self {
            key: Some(key),
            text: None,
            wanted,
            why: why.into(),
        }
    }

    /// At the value of a key, where it is given.
    pub(super) fn at(mut self, key: &'static str) -> Self {
        self.key = Some(key);
        self
    }

    /// Of all of them together.
    pub(super) fn of_all(text: &str, wanted: &'static str, why: impl Into<String>) -> Self {
        Self {
            key: None,
            text: Some(text.to_owned()),
            wanted,
            why: why.into(),
        }
    }
}

/// Reads the arguments of a fault or a probe.
pub(super) fn read<T: DeserializeOwned + JsonSchema>(
    name: &str,
    node: &Node,
    check: fn(&T) -> Result<(), Mistake>,
    reader: &mut Reader,
) -> Option<T> {
    let arguments: T = reader.typed(node, name)?;
    let Err(mistake) = check(&arguments) else {
        return Some(arguments);
    };
    let at = mistake.key.and_then(|key| node.entry(key)).unwrap_or(node);
    let text = mistake.text.or_else(|| at.text()).unwrap_or_default();
    reader.bad_value(at, &text, mistake.wanted, &mistake.why);
    // The file is refused; what else is wrong in it is found all the same.
    Some(arguments)
}

/// Arguments from a value, with what [`read`] checks of a file.
pub(super) fn from_value<T: DeserializeOwned + JsonSchema>(
    name: &str,
    value: Value,
    check: fn(&T) -> Result<(), Mistake>,
) -> Result<T, FaultError> {
    let wrong = |why: String| FaultError::Target(format!("{name}: {why}"));
    let known = Keys::of::<T>().known;
    let mut given = value
        .as_object()
        .into_iter()
        .flat_map(|entries| entries.keys());
    if let Some(key) = given.find(|key| !known.contains(&key.as_str())) {
        return Err(wrong(format!("{key} means nothing here")));
    }
    let arguments = serde_json::from_value(value).map_err(|error| wrong(error.to_string()))?;
    check(&arguments).map_err(|mistake| wrong(mistake.why))?;
    Ok(arguments)
}

/// Arguments as a scenario file has them; what is not given is left out.
pub(super) fn value(arguments: &impl Serialize) -> Value {
    // They are texts, numbers, lists and mappings by name.
    let mut value = serde_json::to_value(arguments).unwrap_or_default();
    if let Some(entries) = value.as_object_mut() {
        entries.retain(|_, value| !value.is_null());
    }
    value
}

/// What a count is where nothing is said.
pub(super) const fn one() -> u64 {
    1
}

/// A share in percent, from 0 to 100.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Percent(pub(super) f64);

/// Why a text is no share.
#[derive(Debug, thiserror::Error)]
#[error("it is written like 10%")]
pub(super) struct PercentError;

impl FromStr for Percent {
    type Err = PercentError;

    fn from_str(text: &str) -> Result<Self, PercentError> {
        let share: Option<f64> = text.strip_suffix('%').and_then(|text| text.parse().ok());
        let share = share.filter(|share| (0.0..=100.0).contains(share));
        share.map(Self).ok_or(PercentError)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}%", self.0)
    }
}

text_form!(
    Percent,
    "share",
    r"^[0-9]+(\.[0-9]+)?%$",
    "a share, such as 10%"
);

/// Packets of one address, or of a subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AddressOrSubnet(String);

/// Why a text is neither.
#[derive(Debug, thiserror::Error)]
#[error("it is written like 10.12.4.60 or 10.12.4.0/22")]
pub(super) struct AddressOrSubnetError;

impl FromStr for AddressOrSubnet {
    type Err = AddressOrSubnetError;

    fn from_str(text: &str) -> Result<Self, AddressOrSubnetError> {
        let is = text.parse::<Ipv4Addr>().is_ok() || text.parse::<Cidr>().is_ok();
        is.then(|| Self(text.to_owned()))
            .ok_or(AddressOrSubnetError)
    }
}

impl fmt::Display for AddressOrSubnet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

text_form!(
    AddressOrSubnet,
    "address or subnet",
    "^[0-9.]+(/[0-9]+)?$",
    "an IPv4 address, or ADDRESS/PREFIX"
);

/// A duration, with a sign where it may be one into the past.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Period(pub(super) jiff::SignedDuration);

/// Why a text is no duration.
#[derive(Debug, thiserror::Error)]
#[error("it is written like 90s, -5m or 1h30m")]
pub(super) struct PeriodError;

impl From<Duration> for Period {
    fn from(duration: Duration) -> Self {
        Self(duration.try_into().unwrap_or(jiff::SignedDuration::MAX))
    }
}

impl Period {
    /// Microseconds, as far as they can be counted.
    pub(super) fn micros(self) -> i64 {
        let micros = self.0.as_micros();
        i64::try_from(micros).unwrap_or(if micros < 0 { i64::MIN } else { i64::MAX })
    }

    /// As a time that passes; none where it is one into the past.
    pub(super) fn duration(self) -> Duration {
        Duration::try_from(self.0).unwrap_or_default()
    }

    /// That it is no time into the past.
    pub(super) fn check(self, key: &'static str) -> Result<(), Mistake> {
        if self.0.is_negative() {
            return Err(Mistake::of(key, "duration", "it is not negative"));
        }
        Ok(())
    }
}

impl FromStr for Period {
    type Err = PeriodError;

    fn from_str(text: &str) -> Result<Self, PeriodError> {
        let period: jiff::SignedDuration = text.parse().map_err(|_| PeriodError)?;
        // Guests count in microseconds.
        let counted = i64::try_from(period.as_micros()).is_ok();
        counted.then_some(Self(period)).ok_or(PeriodError)
    }
}

impl fmt::Display for Period {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:#}", self.0)
    }
}

text_form!(
    Period,
    "duration",
    "[0-9]",
    "a duration, such as 90s, 5m or 1h30m"
);

/// What can be on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Toggle {
    On,
    Off,
}

impl Toggle {
    pub(super) const fn is_on(self) -> bool {
        matches!(self, Self::On)
    }

    /// The word for it.
    pub(super) const fn word(is_on: bool) -> &'static str {
        if is_on { "on" } else { "off" }
    }
}

/// A regular expression.
#[derive(Clone, Debug)]
pub(super) struct Pattern(Regex);

impl Pattern {
    pub(super) fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl FromStr for Pattern {
    type Err = regex::Error;

    fn from_str(text: &str) -> Result<Self, regex::Error> {
        text.parse().map(Self)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

text_form!(Pattern, "regular expression", "", "a regular expression");
