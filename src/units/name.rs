//! Names of labs, hosts, networks, services.

use std::fmt;
use std::str::FromStr;

/// A DNS label: 1 to 63 of a-z, 0-9 and `-`, starting and ending with a letter or digit (RFC 1123, lower case).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// Why a text is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty, or over 63 characters.
    #[error("a name has 1 to 63 characters")]
    Length,
    /// A character outside a-z, 0-9 and `-`, or a `-` at an end.
    #[error("a name is made of a-z, 0-9 and `-`, and starts and ends with a letter or digit")]
    Character,
}

impl Name {
    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() || text.len() > 63 {
            return Err(NameError::Length);
        }
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if !text.bytes().all(inner) || text.starts_with('-') || text.ends_with('-') {
            return Err(NameError::Character);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

impl std::ops::Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for Name {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

super::text_form!(
    Name,
    "name",
    "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
    "a lower-case DNS label"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels() {
        assert!("capi-mgmt-v2".parse::<Name>().is_ok());
        assert!("0".parse::<Name>().is_ok());
        assert_eq!("".parse::<Name>(), Err(NameError::Length));
        assert_eq!("a".repeat(64).parse::<Name>(), Err(NameError::Length));
        for bad in ["-a", "a-", "Openstack0", "a_b", "a/b", "é"] {
            assert_eq!(bad.parse::<Name>(), Err(NameError::Character), "{bad}");
        }
    }
}
