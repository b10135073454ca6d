//! Two macros for enums whose values have a name: open sets that are read from objects, and closed sets that
//! we print.
//!
//! Invariant: a name that an `open_enum!` does not list survives a read and a write byte for byte.

/// Defines an enum of names that others may extend: an unknown name is kept in the variant `Other`.
///
/// Build values with `From<&str>` (or by decoding): it never puts a listed name into `Other`, which equality
/// relies on.
macro_rules! open_enum {
    (
        $(#[$meta:meta])*
        $visibility:vis enum $name:ident { $( $(#[$variant_meta:meta])* $variant:ident, )+ }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        $visibility enum $name {
            $( $(#[$variant_meta])* $variant, )+
            /// A value that is not one of the above, kept exactly as it was read (possibly empty).
            Other(Box<str>),
        }

        impl $name {
            /// The value as it is written in the object.
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
                // A visitor rather than a `String`: the listed names then cost no allocation.
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

/// Defines a closed `Copy` enum, each variant of which prints as the given text.
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
            /// Every value, in the order of definition.
            $visibility const ALL: &'static [Self] = &[$( Self::$variant, )+];

            /// The fixed text of this value, fit for logs and metric labels.
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
        /// A set for the tests.
        enum Colour {
            /// One listed value.
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
