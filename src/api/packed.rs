//! [`Ip`], [`Uid`] and [`Generation`]: fields of a status that are kept without memory of their own.
//!
//! Every sandbox has such fields. As texts each would take 16 to 64 bytes more. Invariant: each value is
//! written back exactly as it was read, also if it is no IP address or UUID.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU64;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use super::symbol::Symbol;

/// Implements what all packed texts have in common. `$pack` returns the packed form of a text that has one.
macro_rules! packed_text {
    ($name:ident, $form:ident) => {
        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self($form::pack(text).unwrap_or_else(|| $form::Text(text.into())))
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                text.as_str().into()
            }
        }

        impl $name {
            /// Returns true if the text is empty.
            #[must_use]
            pub fn is_empty(&self) -> bool {
                matches!(&self.0, $form::Text(text) if text.is_empty())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match &self.0 {
                    $form::Packed(value) => value.fmt(f),
                    $form::Text(text) => f.write_str(text.as_ref()),
                }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.to_string())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl serde::de::Visitor<'_> for Text {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a string")
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        Ok(text.into())
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                "string".into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                String::json_schema(generator)
            }
        }
    };
}

/// The IP address of a pod as text. `Display` writes the text.
#[derive(Clone, PartialEq, Eq)]
pub struct Ip(IpForm);

#[derive(Clone, PartialEq, Eq)]
enum IpForm {
    Packed(Ipv4Addr),
    /// A shared text, because a sandbox usually has its address twice. A boxed text would make `Ip` larger.
    Text(Symbol),
}

impl IpForm {
    fn pack(text: &str) -> Option<Self> {
        // The parser accepts only the form in which an address is displayed: no leading zeros, no blanks.
        text.parse().ok().map(Self::Packed)
    }
}

impl Ip {
    /// Returns the address, if the text is an address.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        match &self.0 {
            IpForm::Packed(address) => Some((*address).into()),
            IpForm::Text(text) => text.parse().ok(),
        }
    }
}

packed_text!(Ip, IpForm);

/// The UID of an object as text. `Display` writes the text.
#[derive(Clone, PartialEq, Eq)]
pub struct Uid(UidForm);

#[derive(Clone, PartialEq, Eq)]
enum UidForm {
    Packed(Uuid),
    Text(Box<str>),
}

impl UidForm {
    fn pack(text: &str) -> Option<Self> {
        // A UUID may be written in several forms, and only one of them is displayed.
        let displayed = |uuid: &Uuid| uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer()) == text;
        Uuid::try_parse(text).ok().filter(displayed).map(Self::Packed)
    }
}

packed_text!(Uid, UidForm);

/// The generation of an object that a status or a condition describes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(NonZeroU64);

impl Generation {
    /// Flips the sign bit, so that the one number that cannot be stored is `i64::MIN` instead of 0.
    const SIGN: u64 = 1 << 63;

    /// Returns the number.
    #[must_use]
    pub const fn get(self) -> i64 {
        (self.0.get() ^ Self::SIGN).cast_signed()
    }
}

impl From<i64> for Generation {
    /// Creates a generation. The API server counts from 1. `i64::MIN` is stored as `i64::MIN + 1`.
    fn from(number: i64) -> Self {
        Self(NonZeroU64::new(number.cast_unsigned() ^ Self::SIGN).unwrap_or(NonZeroU64::MIN))
    }
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

impl Serialize for Generation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(self.get())
    }
}

impl<'de> Deserialize<'de> for Generation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        i64::deserialize(deserializer).map(Self::from)
    }
}

impl schemars::JsonSchema for Generation {
    fn schema_name() -> Cow<'static, str> {
        i64::schema_name()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        i64::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_is_written_back_as_it_was_read() {
        for text in ["10.0.0.1", "255.255.255.255", "010.0.0.1", "10.0.0.1 ", "fd00::1", "", "no address"] {
            assert_eq!(Ip::from(text).to_string(), text);
        }
        let uuid = "5a9d398e-f3c4-4689-a1fd-40715bdccc65";
        let simple = uuid.replace('-', "");
        for text in [uuid, &uuid.to_uppercase(), &simple, &format!("{{{uuid}}}"), "pod-1", ""] {
            assert_eq!(Uid::from(text).to_string(), text);
        }
        for number in [0, 1, -1, i64::MAX, i64::MIN + 1] {
            assert_eq!(Generation::from(number).get(), number);
        }
        assert!(Generation::from(-1) < Generation::from(1));
    }

    #[test]
    fn the_usual_values_take_no_memory_of_their_own() {
        assert!(matches!(Ip::from("10.0.0.1").0, IpForm::Packed(_)));
        assert!(matches!(Uid::from("5a9d398e-f3c4-4689-a1fd-40715bdccc65").0, UidForm::Packed(_)));
        assert_eq!((size_of::<Option<Ip>>(), size_of::<Option<Uid>>()), (16, 24));
        assert_eq!(size_of::<Option<Generation>>(), 8);
    }

    #[test]
    fn an_ip_is_an_address_or_empty_or_neither() {
        assert_eq!(Ip::from("10.0.0.1").address(), Some([10, 0, 0, 1].into()));
        assert_eq!(Ip::from("fd00::1").address(), "fd00::1".parse().ok());
        assert_eq!(Ip::from("").address(), None);
        assert!(Ip::from("").is_empty() && !Ip::from("10.0.0.1").is_empty());
    }
}
