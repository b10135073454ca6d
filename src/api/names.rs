//! Two macros that define enums of names.
//!
//! `open_enum!` is for names that are read from objects, to which a newer version may add values.
//! `named_enum!` is for names that only this crate writes, such as metric labels.
//!
//! Invariant: a name that an `open_enum!` does not list is written back byte for byte.

/// Defines an enum that keeps an unknown name in the variant `Other`.
///
/// Build values with `From<&str>` or by decoding. Neither puts a listed name into `Other`, and equality
/// depends on that.
macro_rules! open_enum {
    (
        $(#[$meta:meta])*
        $visibility:vis enum $name:ident { $( $(#[$variant_meta:meta])* $variant:ident, )+ }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        $visibility enum $name {
            $( $(#[$variant_meta])* $variant, )+
            /// Any other value, kept exactly as it was read. The value may be empty.
            Other($crate::api::symbol::Symbol),
        }

        impl $name {
            /// Returns the value as it is written in the object.
            #[must_use]
            $visibility fn as_str(&self) -> &str {
                match self {
                    $( Self::$variant => stringify!($variant), )+
                    Self::Other(name) => name,
                }
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                match name {
                    $( stringify!($variant) => Self::$variant, )+
                    other => Self::Other(other.into()),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                // A visitor instead of a `String`, so that decoding a listed name allocates nothing.
                struct Name;
                impl serde::de::Visitor<'_> for Name {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("a string")
                    }

                    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<$name, E> {
                        Ok($name::from(name))
                    }
                }
                deserializer.deserialize_str(Name)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string" })
            }
        }
    };
}

/// Defines a closed `Copy` enum whose variants print as the given texts.
macro_rules! named_enum {
    (
        $(#[$meta:meta])*
        $visibility:vis enum $name:ident { $( $(#[$variant_meta:meta])* $variant:ident => $text:literal, )+ }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        $visibility enum $name {
            $( $(#[$variant_meta])* $variant, )+
        }

        impl $name {
            /// All values, in the order of their definition.
            $visibility const ALL: &'static [Self] = &[$( Self::$variant, )+];

            /// Returns the fixed text of this value, for logs and metric labels.
            #[must_use]
            $visibility const fn as_str(self) -> &'static str {
                match self {
                    $( Self::$variant => $text, )+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

#[cfg(test)]
mod tests {
    open_enum! {
        /// An enum for the tests.
        enum Colour {
            /// A listed value.
            Red,
        }
    }

    #[test]
    fn unknown_and_empty_names_survive_a_read_and_a_write() {
        for text in [r#""Red""#, r#""Mauve""#, r#""red""#, r#""""#] {
            let colour: Colour = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&colour).unwrap(), text);
        }
        assert_eq!(serde_json::from_str::<Colour>(r#""Red""#).unwrap(), Colour::Red);
        assert_eq!(serde_json::from_value::<Colour>("Mauve".into()).unwrap(), Colour::Other("Mauve".into()));
    }
}
