//! [`Column`]: one column of a kind's tables.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::json_path::JsonPath;

/// One column.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Column {
    pub(crate) name: Cow<'static, str>,
    /// `string`, `integer`, `number`, `boolean` or `date`.
    pub(crate) kind: Cow<'static, str>,
    /// The format of the type. `name` marks the column with the name of the object.
    pub(crate) format: Cow<'static, str>,
    pub(crate) description: Cow<'static, str>,
    /// Above 0: shown only with `-o wide`.
    pub(crate) priority: i64,
    /// The path of the value. `None` for built-in kinds, whose cells functions make.
    pub(crate) path: Option<JsonPath>,
}

impl Column {
    /// A column of a built-in kind.
    pub(super) fn text(name: &'static str, description: &'static str) -> Self {
        Self {
            name: Cow::Borrowed(name),
            kind: Cow::Borrowed("string"),
            format: Cow::Borrowed(""),
            description: Cow::Borrowed(description),
            priority: 0,
            path: None,
        }
    }

    /// The column with the name of the object.
    pub(super) fn name() -> Self {
        Self { format: Cow::Borrowed("name"), ..Self::text("Name", "What the object is called.") }
    }

    /// A column of a version's `additionalPrinterColumns`. `None` if its path is not supported.
    pub(super) fn custom(definition: &Value) -> Option<Self> {
        let text = |field: &str| definition[field].as_str().unwrap_or_default();
        let path = text("jsonPath");
        let description = match text("description") {
            "" => format!("Custom resource definition column (in JSONPath format): {path}"),
            own => own.to_owned(),
        };
        Some(Self {
            name: text("name").to_owned().into(),
            kind: text("type").to_owned().into(),
            format: text("format").to_owned().into(),
            description: description.into(),
            priority: definition["priority"].as_i64().unwrap_or_default(),
            path: Some(path.parse().ok()?),
        })
    }

    /// The definition of the column for clients.
    pub(super) fn definition(&self) -> Value {
        json!({
            "name": self.name, "type": self.kind, "format": self.format, "description": self.description,
            "priority": self.priority,
        })
    }

    /// The column with the age of the object.
    pub(super) fn age() -> Self {
        Self::text("Age", "How long ago the object was created.")
    }

    /// A column that is shown only with `-o wide`.
    pub(super) fn wide(name: &'static str, description: &'static str) -> Self {
        Self { priority: 1, ..Self::text(name, description) }
    }
}
