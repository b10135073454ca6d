//! The path, the verb and the parameters of a request, which are parsed before anything else.

use axum::extract::Query;
use http::{Method, Uri};

use super::error::ApiError;
use super::go_format;

/// The verb of a request, as Kubernetes names it in permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Read one object.
    Get,
    /// Read a collection.
    List,
    /// Follow a collection.
    Watch,
    /// Store a new object.
    Create,
    /// Replace an object.
    Update,
    /// Change an object.
    Patch,
    /// Delete an object.
    Delete,
    /// Delete the objects of a collection.
    DeleteCollection,
}

impl Verb {
    /// Every verb, in the order of their names.
    pub(crate) const ALL: [Self; 8] = [
        Self::Create,
        Self::Delete,
        Self::DeleteCollection,
        Self::Get,
        Self::List,
        Self::Patch,
        Self::Update,
        Self::Watch,
    ];

    /// The name in permissions.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }
}

/// The target of a path: a collection, an object, or a subresource of an object.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Target {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) plural: String,
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<String>,
}

/// The path of a request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Path {
    /// A collection, an object or a subresource.
    Resource(Target),
    /// `/api/{version}` or `/apis/{group}/{version}`.
    Version { group: String, version: String },
    /// `/apis/{group}`.
    Group(String),
    /// `/api`, `/apis`, `/version`, `/livez` and so on, and every unknown path.
    Other(String),
}

impl Path {
    pub(crate) fn parse(path: &str) -> Self {
        let Ok(path) = percent_decode(path) else { return Self::Other(path.to_owned()) };
        let segments: Vec<&str> = path.trim_start_matches('/').trim_end_matches('/').split('/').collect();
        let text = |segment: &str| segment.to_owned();
        match segments.as_slice() {
            ["api", version] => Self::Version { group: String::new(), version: text(version) },
            ["api", version, rest @ ..] => Self::resource("", version, rest).unwrap_or(Self::Other(path)),
            ["apis", group] => Self::Group(text(group)),
            ["apis", group, version] => Self::Version { group: text(group), version: text(version) },
            ["apis", group, version, rest @ ..] => {
                Self::resource(group, version, rest).unwrap_or(Self::Other(path))
            }
            _ => Self::Other(path),
        }
    }

    fn resource(group: &str, version: &str, rest: &[&str]) -> Option<Self> {
        let mut target = Target { group: group.to_owned(), version: version.to_owned(), ..Target::default() };
        let of_namespace = |sub: &str| matches!(sub, "status" | "finalize");
        let rest = match rest {
            // The namespace itself, not the objects in it.
            ["namespaces"] | ["namespaces", _] => rest,
            ["namespaces", _, sub] if of_namespace(sub) => rest,
            ["namespaces", namespace, rest @ ..] => {
                target.namespace = Some((*namespace).to_owned());
                rest
            }
            rest => rest,
        };
        let (plural, name, subresource) = match rest {
            [plural] => (plural, None, None),
            [plural, name] => (plural, Some(name), None),
            [plural, name, subresource] => (plural, Some(name), Some(subresource)),
            _ => return None,
        };
        if rest.iter().any(|segment| segment.is_empty()) || target.namespace.as_deref() == Some("") {
            return None;
        }
        (*plural).clone_into(&mut target.plural);
        target.name = name.map(|name| (*name).to_owned());
        target.subresource = subresource.map(|subresource| (*subresource).to_owned());
        Some(Self::Resource(target))
    }
}

impl Target {
    /// The verb of a method, if the target supports the method.
    pub(crate) fn verb(&self, method: &Method, params: &Params) -> Option<Verb> {
        let collection = self.name.is_none();
        Some(match *method {
            Method::GET | Method::HEAD if collection && params.flag("watch") => Verb::Watch,
            Method::GET | Method::HEAD if collection => Verb::List,
            Method::GET | Method::HEAD => Verb::Get,
            Method::POST => Verb::Create,
            Method::PUT if !collection => Verb::Update,
            Method::PATCH if !collection => Verb::Patch,
            Method::DELETE if collection => Verb::DeleteCollection,
            Method::DELETE => Verb::Delete,
            _ => return None,
        })
    }
}

/// Decodes percent signs. Returns an error if they do not encode a text.
fn percent_decode(text: &str) -> Result<String, std::str::Utf8Error> {
    percent_encoding::percent_decode_str(text).decode_utf8().map(std::borrow::Cow::into_owned)
}

/// The query of a request. If a parameter is given twice, the first one counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Params(Vec<(String, String)>);

impl Params {
    /// # Errors
    ///
    /// If the query is not encoded correctly.
    pub(crate) fn parse(uri: &Uri) -> Result<Self, ApiError> {
        let query = Query::<Vec<(String, String)>>::try_from_uri(uri);
        query.map(|Query(pairs)| Self(pairs)).map_err(|error| ApiError::bad_request(error.to_string()))
    }

    /// The value of a parameter, if it is not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// All values of a parameter, also empty ones.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether a switch is on: given, and neither `false` nor `0`.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.tristate(name).unwrap_or(false)
    }

    /// As [`Self::flag`]; `None` if the parameter is not given.
    pub(crate) fn tristate(&self, name: &str) -> Option<bool> {
        let (_, value) = self.0.iter().find(|(key, _)| key == name)?;
        Some(!(value == "0" || value.eq_ignore_ascii_case("false")))
    }

    /// A whole number.
    ///
    /// # Errors
    ///
    /// If the value is not a number.
    pub(crate) fn number(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let parse = |text: &str| {
            let why = format!("strconv.ParseInt: parsing {}: invalid syntax", go_format::quoted(text));
            text.parse::<i64>().map_err(|_| ApiError::bad_request(why))
        };
        self.get(name).map(parse).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(path: &str) -> Target {
        match Path::parse(path) {
            Path::Resource(target) => target,
            other => panic!("{path}: {other:?}"),
        }
    }

    fn made(group: &str, namespace: Option<&str>, rest: [&str; 3]) -> Target {
        let part = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Target {
            group: group.to_owned(),
            version: "v1".to_owned(),
            plural: rest[0].to_owned(),
            namespace: namespace.map(str::to_owned),
            name: part(rest[1]),
            subresource: part(rest[2]),
        }
    }

    #[test]
    fn paths_address_collections_objects_and_subresources() {
        for (path, expected) in [
            ("/api/v1/pods", made("", None, ["pods", "", ""])),
            ("/api/v1/nodes/n", made("", None, ["nodes", "n", ""])),
            ("/api/v1/namespaces", made("", None, ["namespaces", "", ""])),
            ("/api/v1/namespaces/n", made("", None, ["namespaces", "n", ""])),
            ("/api/v1/namespaces/n/status", made("", None, ["namespaces", "n", "status"])),
            ("/api/v1/namespaces/n/pods", made("", Some("n"), ["pods", "", ""])),
            ("/api/v1/namespaces/n/pods/p", made("", Some("n"), ["pods", "p", ""])),
            ("/apis/g/v1/namespaces/n/as/a/status", made("g", Some("n"), ["as", "a", "status"])),
            ("/apis/g/v1/clusterroles/system%3Anode", made("g", None, ["clusterroles", "system:node", ""])),
        ] {
            assert_eq!(target(path), expected, "{path}");
        }
        for path in
            ["/", "/api", "/apis", "/api/v1/namespaces/n/pods/p/x/y", "/api/v1//pods", "/api/v1/pods/%ff"]
        {
            assert!(matches!(Path::parse(path), Path::Other(_)), "{path}");
        }
        assert_eq!(Path::parse("/apis/g/"), Path::Group("g".to_owned()));
    }

    #[test]
    fn switches_are_read_as_kubernetes_does() {
        let params = Params::parse(&"/?watch=1&a=false&b=0&c=&d=False&limit=x".parse().unwrap()).unwrap();
        assert!(params.flag("watch") && params.flag("c"));
        assert!(["a", "b", "d", "none"].iter().all(|name| !params.flag(name)));
        assert_eq!(params.number("limit").unwrap_err().code, 400);
        assert_eq!(params.number("none"), Ok(None));
    }
}
