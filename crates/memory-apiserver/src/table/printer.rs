//! [`Printer`]: the columns of a kind's tables, and the functions that make their cells.
//!
//! A custom kind has the columns of its definition, or name and age if it defines none.

use jiff::Timestamp;
use serde_json::{Number, Value, json};

use super::age::age;
use super::built_in;
use super::cells;
use super::column::Column;
use crate::go_format::number;
use crate::object;

/// Makes the rows of a kind's tables.
#[derive(Clone, Debug)]
pub(crate) struct Printer {
    pub(super) columns: Vec<Column>,
    rows: Rows,
}

/// The way in which rows are made.
#[derive(Clone, Copy, Debug)]
enum Rows {
    /// By the paths of the columns.
    Paths,
    Code(cells::Rows),
}

impl Printer {
    /// The printer of a custom kind, from a version of its definition. As in kube-apiserver, the columns end before
    /// the first one whose path is not supported.
    pub(crate) fn custom(version: &Value) -> Self {
        let age = json!([{
            "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp",
            "description": "How long ago the object was created.",
        }]);
        let own = version["additionalPrinterColumns"].as_array().filter(|columns| !columns.is_empty());
        let definitions = own.or(age.as_array()).into_iter().flatten();
        let columns = [Some(Column::name())].into_iter().chain(definitions.map(Column::custom));
        Self { columns: columns.map_while(|column| column).collect(), rows: Rows::Paths }
    }

    /// The printer of a built-in kind.
    pub(crate) fn built_in(group: &str, kind: &str) -> Self {
        let (columns, rows) = built_in::printer(group, kind);
        Self { columns, rows: Rows::Code(rows) }
    }

    /// The cells of an object's row, one for each column.
    pub(crate) fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        if let Rows::Code(rows) = self.rows {
            return (rows.cells)(object, now);
        }
        let cell = |column: &Column| match &column.path {
            None => object::name(object).into(),
            Some(path) => path.first(object).map_or(Value::Null, |value| cell(&column.kind, value, now)),
        };
        self.columns.iter().map(cell).collect()
    }

    /// The conditions of a row, if it has any.
    pub(super) fn row_conditions(&self, object: &Value) -> Option<Value> {
        match self.rows {
            Rows::Code(rows) => (rows.conditions)(object),
            Rows::Paths => None,
        }
    }
}

/// The cell of a value in a column of this type; null if the value has another type.
fn cell(kind: &str, value: &Value, now: Timestamp) -> Value {
    match (kind, value) {
        ("string", _) => text(value).into(),
        ("integer", Value::Number(number)) => whole(number).into(),
        ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => value.clone(),
        ("date", Value::String(text)) => age(text, now).into(),
        _ => Value::Null,
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::Number(value) => number(value),
        // Go escapes the special characters of HTML.
        Value::Array(_) | Value::Object(_) => {
            value.to_string().replace('&', r"\u0026").replace('<', r"\u003c").replace('>', r"\u003e")
        }
        Value::String(text) => text.clone(),
        Value::Bool(truth) => truth.to_string(),
    }
}

/// A number without its fraction. A number that does not fit becomes the smallest number, as in Go on x86-64.
#[expect(clippy::cast_possible_truncation, reason = "it is meant to be cut off, and is known to fit")]
fn whole(number: &Number) -> i64 {
    let float = number.as_f64().unwrap_or_default();
    let fits = (-9.2e18..9.2e18).contains(&float);
    number.as_i64().unwrap_or(if fits { float as i64 } else { i64::MIN })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-11-24T10:00:00Z";

    fn cells_of(columns: &Value, object: &Value) -> Vec<Value> {
        let printer = Printer::custom(&json!({"additionalPrinterColumns": columns}));
        printer.cells(object, NOW.parse().unwrap())
    }

    #[test]
    fn the_type_of_a_column_decides_how_values_are_printed() {
        let types = ["string", "integer", "number", "boolean", "date"];
        let columns: Vec<_> =
            types.iter().map(|kind| json!({"name": kind, "type": kind, "jsonPath": ".v"})).collect();
        let cases = [
            (json!("text"), json!(["text", null, null, null, "<invalid>"])),
            (json!(""), json!(["", null, null, null, "<unknown>"])),
            (json!("12"), json!(["12", null, null, null, "<invalid>"])),
            (json!("2026-01-01T00:00:00Z"), json!(["2026-01-01T00:00:00Z", null, null, null, "327d"])),
            (json!(5), json!(["5", 5, 5, null, null])),
            (json!(1.5), json!(["1.5", 1, 1.5, null, null])),
            (json!(-1.5), json!(["-1.5", -1, -1.5, null, null])),
            (json!(12_345_678.5), json!(["1.23456785e+07", 12_345_678, 12_345_678.5, null, null])),
            (json!(1e21), json!(["1e+21", i64::MIN, 1e21, null, null])),
            (json!(true), json!(["true", null, null, true, null])),
            (json!(null), json!(["<no value>", null, null, null, null])),
            (json!([1, "a"]), json!([r#"[1,"a"]"#, null, null, null, null])),
            (
                json!({"b": 1, "a": "<&>"}),
                json!([r#"{"a":"\u003c\u0026\u003e","b":1}"#, null, null, null, null]),
            ),
        ];
        for (value, expected) in cases {
            let cells = cells_of(&columns.clone().into(), &json!({"v": value}));
            assert_eq!(Value::from(cells[1..].to_vec()), expected);
        }
    }

    #[test]
    fn the_first_of_several_results_is_printed() {
        let columns = json!([
            {"name": "All", "type": "string", "jsonPath": ".l[*].n"},
            {"name": "None", "type": "string", "jsonPath": ".none"},
            {"name": "Beyond", "type": "string", "jsonPath": ".l[7]"},
        ]);
        let object = json!({"metadata": {"name": "a"}, "l": [{"n": "x"}, {"n": "y"}]});
        assert_eq!(cells_of(&columns, &object), [json!("a"), json!("x"), Value::Null, Value::Null]);
    }

    #[test]
    fn kinds_without_columns_have_name_and_age() {
        let object = json!({"metadata": {"name": "a", "creationTimestamp": "2026-11-24T09:55:00Z"}});
        for version in [json!({}), json!({"additionalPrinterColumns": []})] {
            let printer = Printer::custom(&version);
            let names: Vec<_> = printer.columns.iter().map(|column| (&*column.name, &*column.kind)).collect();
            assert_eq!(names, [("Name", "string"), ("Age", "date")]);
            assert_eq!(printer.cells(&object, NOW.parse().unwrap()), ["a", "5m"]);
        }
    }

    #[test]
    fn columns_end_before_a_path_that_is_not_understood() {
        let column = |name: &str, path: &str| json!({"name": name, "type": "string", "jsonPath": path});
        let version =
            json!({"additionalPrinterColumns": [column("A", ".a"), column("B", "..b"), column("C", ".c")]});
        let printer = Printer::custom(&version);
        let names: Vec<_> = printer.columns.iter().map(|column| &*column.name).collect();
        assert_eq!(names, ["Name", "A"]);
    }

    #[test]
    fn columns_are_described_as_their_definition_says() {
        let version = json!({"additionalPrinterColumns": [
            {"name": "A", "type": "string", "jsonPath": ".a"},
            {"name": "B", "type": "date", "format": "f", "jsonPath": ".b", "priority": 1, "description": "own"},
        ]});
        let definitions: Vec<_> = Printer::custom(&version).columns.iter().map(Column::definition).collect();
        let described = "Custom resource definition column (in JSONPath format): .a";
        assert_eq!(
            definitions[1..],
            [
                json!({"name": "A", "type": "string", "format": "", "description": described, "priority": 0}),
                json!({"name": "B", "type": "date", "format": "f", "description": "own", "priority": 1}),
            ]
        );
    }
}
