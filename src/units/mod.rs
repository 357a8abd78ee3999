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

/// Serialises through `Display` and deserialises through `FromStr`, and tells the schema generator that the type is a string. Readers
/// that name types in messages call it `$called`.
macro_rules! text_form {
    ($type:ty, $called:literal, $pattern:expr, $about:expr) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;

                impl<'de> serde::de::Visitor<'de> for Text {
                    type Value = $type;

                    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        formatter.write_str($called)
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }

                    fn visit_newtype_struct<D: serde::Deserializer<'de>>(
                        self,
                        deserializer: D,
                    ) -> Result<$type, D::Error> {
                        deserializer.deserialize_str(self)
                    }
                }

                deserializer.deserialize_newtype_struct($called, Text)
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
pub(crate) use text_form;
