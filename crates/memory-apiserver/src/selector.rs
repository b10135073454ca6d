//! Field selectors such as `metadata.name=x,status.phase!=y`, and the fields that selectors of each kind may name.
//!
//! A value may contain `\,`, `\=` and `\\`. Blanks are part of names and values.

use std::borrow::Cow;

use serde_json::Value;

use super::error::ApiError;

const NAME: &str = "metadata.name";
const NAMESPACE: &str = "metadata.namespace";

/// A field selector: every requirement must hold. The default selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldSelector {
    requirements: Vec<Requirement>,
}

/// The requirement on one field.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    field: String,
    source: Source,
    /// Whether the field must have the value (`=`) or must not have it (`!=`).
    equal: bool,
    value: String,
}

impl FieldSelector {
    /// Parses a selector. Refuses fields that are not among `fields`.
    pub(crate) fn parse(text: &str, fields: &SelectableFields) -> Result<Self, ApiError> {
        let mut terms: Vec<_> = terms(text).into_iter().filter(|term| !term.is_empty()).collect();
        // Of several mistakes, kube-apiserver reports the one in the first term by alphabet.
        terms.sort_unstable();
        let mut asked = Vec::with_capacity(terms.len());
        for term in terms {
            let (field, equal, value) = split(term).ok_or_else(|| {
                ApiError::bad_request(format!("invalid selector: '{text}'; can't understand '{term}'"))
            })?;
            asked.push((field, equal, unescape(value)?));
        }
        let requirement = |(field, equal, value): (&str, bool, String)| {
            Ok(Requirement { field: field.to_owned(), source: fields.source(field)?.clone(), equal, value })
        };
        Ok(Self { requirements: asked.into_iter().map(requirement).collect::<Result<_, ApiError>>()? })
    }

    /// Whether it selects every object.
    pub(crate) fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether it selects this object.
    pub(crate) fn selects(&self, object: &Value) -> bool {
        self.requirements.iter().all(|asked| (asked.source.value_in(object) == asked.value) == asked.equal)
    }

    /// The value that a field must have, if the selector requires one.
    pub(crate) fn exact(&self, field: &str) -> Option<&str> {
        let asked = self.requirements.iter().find(|asked| asked.equal && asked.field == field);
        asked.map(|asked| &*asked.value)
    }
}

/// Splits at commas that have no backslash before them.
fn terms(text: &str) -> Vec<&str> {
    let (mut terms, mut start, mut escaped) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == ',' {
            terms.push(&text[start..at]);
            start = at + 1;
        }
    }
    terms.push(&text[start..]);
    terms
}

/// Splits a term at its first operator: the field, whether it must be equal, and the value.
fn split(term: &str) -> Option<(&str, bool, &str)> {
    let at = term.char_indices().map(|(at, _)| at).find(|at| {
        let rest = &term[*at..];
        rest.starts_with('=') || rest.starts_with("!=")
    })?;
    let (field, rest) = term.split_at(at);
    let (equal, value) = match rest.strip_prefix("!=") {
        Some(value) => (false, value),
        None => (true, rest.strip_prefix("==").or_else(|| rest.strip_prefix('='))?),
    };
    Some((field, equal, value))
}

fn unescape(value: &str) -> Result<String, ApiError> {
    let refused = |problem: String| ApiError::bad_request(format!("invalid field selector: {problem}"));
    let mut unescaped = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(escaped @ ('\\' | ',' | '=')) => unescaped.push(escaped),
                other => {
                    let sequence: String = ['\\'].into_iter().chain(other).collect();
                    return Err(refused(format!("invalid escape sequence: {sequence}")));
                }
            },
            ',' | '=' => return Err(refused(format!("unescaped character in value: {}", u32::from(c)))),
            _ => unescaped.push(c),
        }
    }
    Ok(unescaped)
}

/// The fields that selectors of a kind may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SelectableFields {
    fields: Vec<Field>,
    /// Whether only name and namespace are selectable, which the error text then says.
    common_only: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Field {
    name: Cow<'static, str>,
    source: Source,
}

/// How the value of a field is found. An absent text is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    /// The value at a pointer.
    At(String),
    /// The text at the first of two pointers, or at the second if that is empty.
    Either([&'static str; 2]),
    /// `true`, or `false` if it is false or absent.
    Flag(&'static str),
}

impl SelectableFields {
    /// The fields of a built-in kind.
    pub(crate) fn built_in(group: &str, kind: &str) -> Self {
        let own = match (group, kind) {
            ("", "Pod") => pod(),
            ("", "Node") => vec![Field::new("spec.unschedulable", Source::Flag("/spec/unschedulable"))],
            ("", "Namespace") => texts(&["status.phase"]),
            ("", "Secret") => texts(&[NAMESPACE, "type"]),
            ("", "Service") => texts(&[NAMESPACE, "spec.clusterIP", "spec.type"]),
            ("", "Event") => event("involvedObject", "reportingComponent"),
            ("events.k8s.io", "Event") => event("regarding", "reportingController"),
            _ => return Self { fields: texts(&[NAME, NAMESPACE]), common_only: true },
        };
        Self { fields: [texts(&[NAME]), own].concat(), common_only: false }
    }

    /// The fields of a custom kind, with the paths of a version's `selectableFields`, such as `.spec.color`.
    pub(crate) fn custom<'p>(namespaced: bool, paths: impl IntoIterator<Item = &'p str>) -> Self {
        let common = if namespaced { texts(&[NAME, NAMESPACE]) } else { texts(&[NAME]) };
        let own = |path: &str| Field::text(path.strip_prefix('.').unwrap_or(path).to_owned());
        let fields = common.into_iter().chain(paths.into_iter().map(own)).collect();
        Self { fields, common_only: false }
    }

    fn source(&self, name: &str) -> Result<&Source, ApiError> {
        let field = self.fields.iter().find(|field| field.name == name);
        field.map(|field| &field.source).ok_or_else(|| {
            ApiError::bad_request(if self.common_only {
                format!("{name:?} is not a known field selector: only {NAME:?}, {NAMESPACE:?}")
            } else {
                format!("field label not supported: {name}")
            })
        })
    }
}

impl Field {
    fn new(name: impl Into<Cow<'static, str>>, source: Source) -> Self {
        Self { name: name.into(), source }
    }

    /// The field at the path that its name says.
    fn text(name: impl Into<Cow<'static, str>>) -> Self {
        let name = name.into();
        let source = Source::At(format!("/{}", name.replace('.', "/")));
        Self { name, source }
    }
}

fn texts(names: &[&'static str]) -> Vec<Field> {
    names.iter().copied().map(Field::text).collect()
}

fn pod() -> Vec<Field> {
    let mut fields = texts(&[
        NAMESPACE,
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "status.phase",
        "status.nominatedNodeName",
    ]);
    let first_ip = Source::Either(["/status/podIPs/0/ip", "/status/podIP"]);
    fields.extend([
        Field::new("spec.host", Source::At("/spec/nodeName".to_owned())),
        Field::new("spec.hostNetwork", Source::Flag("/spec/hostNetwork")),
        Field::new("status.podIP", first_ip.clone()),
        Field::new("status.podIPs", first_ip),
    ]);
    fields
}

/// The fields of an event. The two groups have different names for the fields of one object.
fn event(about: &str, reporter: &'static str) -> Vec<Field> {
    let mut fields = texts(&[NAMESPACE, "reason", "type"]);
    for part in ["kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath"] {
        fields.push(Field::new(format!("{about}.{part}"), Source::At(format!("/involvedObject/{part}"))));
    }
    fields.push(Field::new(reporter, Source::At("/reportingComponent".to_owned())));
    if about == "involvedObject" {
        fields.push(Field::new("source", Source::Either(["/source/component", "/reportingComponent"])));
    }
    fields
}

impl Source {
    fn value_in<'o>(&self, object: &'o Value) -> Cow<'o, str> {
        match self {
            Self::At(pointer) => text(object.pointer(pointer)),
            Self::Either([first, second]) => match text(object.pointer(first)) {
                empty if empty.is_empty() => text(object.pointer(second)),
                found => found,
            },
            Self::Flag(pointer) => {
                let set = object.pointer(pointer).and_then(Value::as_bool);
                if set.unwrap_or_default() { "true".into() } else { "false".into() }
            }
        }
    }
}

fn text(value: Option<&Value>) -> Cow<'_, str> {
    match value {
        None | Some(Value::Null) => "".into(),
        Some(Value::String(text)) => text.into(),
        Some(other) => other.to_string().into(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn config_maps() -> SelectableFields {
        SelectableFields::built_in("", "ConfigMap")
    }

    fn pods() -> SelectableFields {
        SelectableFields::built_in("", "Pod")
    }

    fn selects(text: &str, fields: &SelectableFields, object: &Value) -> bool {
        FieldSelector::parse(text, fields).unwrap().selects(object)
    }

    fn refusal(text: &str, fields: &SelectableFields) -> String {
        let error = FieldSelector::parse(text, fields).unwrap_err();
        assert_eq!((error.code, error.reason), (400, "BadRequest"));
        error.message
    }

    #[test]
    fn every_requirement_must_hold() {
        let object = json!({"metadata": {"name": "a", "namespace": "n"}});
        for (text, selected) in [
            ("", true),
            (",,", true),
            ("metadata.name=a", true),
            ("metadata.name==a", true),
            ("metadata.name=b", false),
            ("metadata.name!=b,metadata.namespace=n", true),
            ("metadata.name!=b,metadata.namespace!=n", false),
            ("metadata.name=a,metadata.name=b", false),
            ("metadata.name=", false),
            ("metadata.name= a", false),
        ] {
            assert_eq!(selects(text, &config_maps(), &object), selected, "{text}");
        }
    }

    #[test]
    fn values_may_have_escapes() {
        let object = json!({"metadata": {"name": r"a,b=c\d"}});
        assert!(selects(r"metadata.name=a\,b\=c\\d,metadata.namespace=", &config_maps(), &object));
    }

    #[test]
    fn what_is_no_selector_is_refused_with_the_text_of_the_real_server() {
        for (text, message) in [
            ("metadata.name", "invalid selector: 'metadata.name'; can't understand 'metadata.name'"),
            ("z=1,a in (b)", "invalid selector: 'z=1,a in (b)'; can't understand 'a in (b)'"),
            (r"metadata.name=a\x", r"invalid field selector: invalid escape sequence: \x"),
            (r"metadata.name=a\", r"invalid field selector: invalid escape sequence: \"),
            ("metadata.name=a=b", "invalid field selector: unescaped character in value: 61"),
        ] {
            assert_eq!(refusal(text, &config_maps()), message);
        }
    }

    #[test]
    fn fields_that_a_kind_cannot_be_selected_by_are_refused() {
        let known = r#"is not a known field selector: only "metadata.name", "metadata.namespace""#;
        for (text, field) in
            [("spec.foo=1", "spec.foo"), ("=a", ""), (" metadata.name =a", " metadata.name ")]
        {
            assert_eq!(refusal(text, &config_maps()), format!("{field:?} {known}"));
            assert_eq!(refusal(text, &pods()), format!("field label not supported: {field}"));
        }
        assert_eq!(refusal("z=1,b=1", &pods()), "field label not supported: b");
        let cluster_scoped = SelectableFields::custom(false, []);
        assert_eq!(
            refusal("metadata.namespace=x", &cluster_scoped),
            "field label not supported: metadata.namespace"
        );
        let nodes = SelectableFields::built_in("", "Node");
        assert_eq!(refusal("metadata.namespace=x", &nodes), "field label not supported: metadata.namespace");
    }

    #[test]
    fn pods_nodes_and_services_are_selected_by_fields_of_their_own() {
        let pod = json!({
            "metadata": {"name": "p"},
            "spec": {"nodeName": "n", "restartPolicy": "Always"},
            "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "::1"}]},
        });
        let text =
            "spec.host=n,spec.nodeName=n,spec.hostNetwork=false,status.podIP=10.0.0.1,status.phase!=Failed";
        assert!(selects(text, &pods(), &pod));
        let nodes = SelectableFields::built_in("", "Node");
        assert!(selects("spec.unschedulable=false", &nodes, &json!({})));
        assert!(selects("spec.unschedulable=true", &nodes, &json!({"spec": {"unschedulable": true}})));
        let services = SelectableFields::built_in("", "Service");
        assert!(selects("spec.clusterIP=None", &services, &json!({"spec": {"clusterIP": "None"}})));
    }

    #[test]
    fn events_are_selected_by_what_they_are_about_in_both_groups() {
        let event = json!({
            "involvedObject": {"kind": "Pod", "uid": "u"}, "reason": "R", "reportingComponent": "c",
        });
        let core = SelectableFields::built_in("", "Event");
        assert!(selects("involvedObject.kind=Pod,involvedObject.uid==u,source=c,reason=R", &core, &event));
        let events = SelectableFields::built_in("events.k8s.io", "Event");
        assert!(selects("regarding.kind=Pod,regarding.uid=u,reportingController=c", &events, &event));
        assert_eq!(refusal("regarding.kind=Pod", &core), "field label not supported: regarding.kind");
        assert_eq!(refusal("involvedObject.uid=u", &events), "field label not supported: involvedObject.uid");
    }

    #[test]
    fn custom_kinds_are_selected_by_the_fields_of_their_definition() {
        let fields = SelectableFields::custom(true, [".spec.color", ".spec.count", ".spec.on"]);
        let object =
            json!({"metadata": {"namespace": "n"}, "spec": {"color": "red", "count": 3, "on": true}});
        assert!(selects("spec.color=red,spec.count=3,spec.on=true,metadata.namespace=n", &fields, &object));
        assert_eq!(refusal("spec.size=1", &fields), "field label not supported: spec.size");
    }

    #[test]
    fn the_one_value_that_is_asked_for_is_known() {
        let selector = FieldSelector::parse("metadata.name=a,metadata.namespace!=b", &config_maps()).unwrap();
        assert_eq!(selector.exact(NAME), Some("a"));
        assert_eq!(selector.exact(NAMESPACE), None);
        assert!(!selector.is_empty());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in r"([a-z.,=!\\ é]|metadata.name){0,12}") {
            if let Ok(selector) = FieldSelector::parse(&text, &config_maps()) {
                selector.selects(&json!({}));
            }
        }

        #[test]
        fn any_value_can_be_asked_for_with_escapes(name in any::<String>()) {
            let escaped = name.replace('\\', r"\\").replace(',', r"\,").replace('=', r"\=");
            let object = json!({"metadata": {"name": name}});
            let text = format!("metadata.name={escaped}");
            prop_assert!(selects(&text, &config_maps(), &object));
        }
    }
}
