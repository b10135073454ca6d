//! The `fieldPath` of a rule names the field, below the value with the rule, that errors are about.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrBool,
};

use super::props::properties;

/// Returns the path as errors write it (`.a['b']` becomes `a.b`), or `None` if there is no such field.
pub(super) fn normalized(path: &str, schema: &JSONSchemaProps) -> Option<String> {
    let mut found = String::new();
    let (mut rest, mut at) = (path, Some(schema));
    while !rest.is_empty() {
        let (name, after) = step(rest)?;
        let schema = at?;
        let property = properties(schema).find(|(known, _)| *known == name);
        let has_properties = properties(schema).next().is_some();
        at = match (property, &schema.additional_properties) {
            (Some((_, property)), _) => {
                if !found.is_empty() {
                    found.push('.');
                }
                found.push_str(&name);
                Some(property)
            }
            (None, Some(values)) if !has_properties => {
                found.push('[');
                found.push_str(&name);
                found.push(']');
                match values {
                    JSONSchemaPropsOrBool::Schema(values) => Some(values),
                    JSONSchemaPropsOrBool::Bool(_) => None,
                }
            }
            _ => return None,
        };
        rest = after;
    }
    Some(found)
}

/// Splits the first name (`.name` or `['name']`) from a path.
fn step(path: &str) -> Option<(String, &str)> {
    if let Some(path) = path.strip_prefix('.') {
        let end = path.find(['.', '[', ']']).unwrap_or(path.len());
        return (end > 0).then(|| (path[..end].to_owned(), &path[end..]));
    }
    let quoted = path.strip_prefix("['")?;
    let mut name = String::new();
    let mut chars = quoted.char_indices();
    while let Some((place, char)) = chars.next() {
        match char {
            '\'' => return Some((name, quoted[place + 1..].strip_prefix(']')?)),
            '\\' => name.push(match chars.next()?.1 {
                'a' => '\u{7}',
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'v' => '\u{b}',
                escaped @ ('\'' | '\\') => escaped,
                _ => return None,
            }),
            char => name.push(char),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_path_leads_along_fields_and_keys() {
        let schema = json!({ "type": "object", "properties": {
            "a": { "type": "object", "properties": { "b.c": { "type": "string" }, "it's": { "type": "string" } } },
            "m": { "type": "object", "additionalProperties": { "type": "object", "properties": { "x": { "type": "string" } } } },
        } });
        let schema: JSONSchemaProps = serde_json::from_value(schema).unwrap();
        for (path, expected) in [
            (".a", Some("a")),
            (".a['b.c']", Some("a.b.c")),
            (".a['it\\'s']", Some("a.it's")),
            ("['a']", Some("a")),
            (".m.key.x", Some("m[key].x")),
            (".m['a.b'].x", Some("m[a.b].x")),
            (".none", None),
            ("a", None),
            (".a.", None),
            (".a['b.c'", None),
            (".a['b\\c']", None),
            (".a[0]", None),
            (".a['b.c'].d", None),
        ] {
            assert_eq!(normalized(path, &schema).as_deref(), expected, "{path}");
        }
    }
}
