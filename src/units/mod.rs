//! Newtypes for the quantities that twin passes around, so that a bare integer never stands for two things.
//!
//! Each type parses from and prints as the text that people write in topology files.

mod cidr;
mod mac;
mod mib;
mod name;
mod seed;

pub use cidr::{AddrRange, Cidr, CidrError};
pub use mac::{Mac, MacError};
pub use mib::{Mib, MibError};
pub use name::{Name, NameError};
pub use seed::{Random, Seed};

/// Serialises through `Display` and deserialises through `FromStr`, and tells the schema generator that the type is a string.
macro_rules! text_form {
    ($type:ty, $pattern:expr, $about:expr) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        #[cfg(feature = "host")]
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "pattern": $pattern, "description": $about })
            }
        }
    };
}
use text_form;
