//! [`Answer`]: the answer of a server, and the checks that nearly every test needs.

use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Value, json};

/// The answer to one request. A failed check panics with the request and the whole answer.
pub(super) struct Answer {
    /// Method and path, for the text of a failure.
    pub(super) request: String,
    pub(super) code: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    /// The body as text.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header as text, or an empty text. Several headers of one name are joined as in HTTP.
    pub(super) fn header(&self, name: &str) -> String {
        let values = self.headers.get_all(name).iter();
        values.map(|value| String::from_utf8_lossy(value.as_bytes())).collect::<Vec<_>>().join(", ")
    }

    /// The body as JSON.
    #[track_caller]
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{self:?}: {error}"))
    }

    /// The JSON of an answer that has this code.
    #[track_caller]
    pub(super) fn expect(&self, code: u16) -> Value {
        assert_eq!(self.code, code, "{self:?}");
        self.json()
    }

    /// The JSON of an answer with code 200.
    #[track_caller]
    pub(super) fn ok(&self) -> Value {
        self.expect(200)
    }

    /// The JSON of an answer with code 201.
    #[track_caller]
    pub(super) fn created(&self) -> Value {
        self.expect(201)
    }

    /// The `Status` of an error with this code and reason, in the form that every error has.
    #[track_caller]
    pub(super) fn refused(&self, code: u16, reason: &str) -> Value {
        let status = self.expect(code);
        assert_eq!(self.header("content-type"), "application/json", "{self:?}");
        let form = json!([status["kind"], status["apiVersion"], status["metadata"], status["status"]]);
        assert_eq!(form, json!(["Status", "v1", {}, "Failure"]), "{self:?}");
        assert_eq!((&status["code"], &status["reason"]), (&json!(code), &json!(reason)), "{self:?}");
        assert!(status["message"].as_str().is_some_and(|message| !message.is_empty()), "{self:?}");
        status
    }

    /// The causes of an invalid object as `field: reason`, sorted and without duplicates, because servers report them
    /// in any order and some of them several times.
    #[track_caller]
    pub(super) fn invalid(&self) -> Vec<String> {
        let status = self.refused(422, "Invalid");
        let causes = status["details"]["causes"].as_array().unwrap_or_else(|| panic!("no causes: {self:?}"));
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut causes: Vec<_> = causes
            .iter()
            .map(|cause| format!("{}: {}", text(&cause["field"]), text(&cause["reason"])))
            .collect();
        causes.sort();
        causes.dedup();
        causes
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = self.text();
        if text.len() > 4000 {
            text = text.chars().take(4000).collect::<String>() + " ...";
        }
        write!(f, "{}: {} {text}", self.request, self.code)
    }
}

/// The text at a path such as `/metadata/name`, or an empty text.
pub(super) fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    object.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

/// The version of an object or of a list.
#[track_caller]
pub(super) fn version(object: &Value) -> u64 {
    let version = text(object, "/metadata/resourceVersion");
    version.parse().unwrap_or_else(|error| panic!("version {version:?} of {object}: {error}"))
}
