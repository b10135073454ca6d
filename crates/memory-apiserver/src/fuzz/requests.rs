//! Requests: valid and nearly valid paths, with any parameters and headers.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use proptest::prelude::*;

use super::bodies::body;
use super::objects::{Kind, kinds};
use crate::object;

/// One request.
#[derive(Clone)]
pub(super) struct Attempt {
    pub(super) method: String,
    pub(super) uri: String,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
}

impl std::fmt::Debug for Attempt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let body = String::from_utf8_lossy(&self.body);
        write!(f, "{} {} {:?} {body}", self.method, self.uri, self.headers)
    }
}

const PARAMETERS: &[&str] = &[
    "watch",
    "limit",
    "continue",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "allowWatchBookmarks",
    "timeoutSeconds",
    "labelSelector",
    "fieldSelector",
    "dryRun",
    "fieldManager",
    "fieldValidation",
    "force",
    "propagationPolicy",
    "orphanDependents",
    "gracePeriodSeconds",
    "includeObject",
    "pretty",
    "other",
];

const VALUES: &[&str] = &[
    "",
    "0",
    "1",
    "2",
    "-1",
    "true",
    "false",
    "9223372036854775807",
    "18446744073709551616",
    "All",
    "Exact",
    "NotOlderThan",
    "Strict",
    "Ignore",
    "Foreground",
    "Orphan",
    "Background",
    "Metadata",
    "Object",
    "m",
    "l=x",
    "l in (x,y),!z",
    "((",
    "metadata.name=a",
    "spec.text=a",
    "involvedObject.name!=a",
    "a=\\",
    "eyJyZXZpc2lvbiI6MSwibmFtZXNwYWNlIjoiIiwibmFtZSI6IiJ9",
    "eyJyZXZpc2lvbiI6OTksIm5hbWVzcGFjZSI6ImRlZmF1bHQiLCJuYW1lIjoiYSJ9",
];

const ACCEPT: &[&str] = &[
    "",
    "*/*",
    "application/json",
    "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
    "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
    "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
    "application/json;as=Other;v=v2",
    "application/vnd.kubernetes.protobuf",
    "text/plain",
    ";;=,,",
];

const CONTENT_TYPES: &[&str] = &[
    "",
    "application/json",
    "application/json; charset=utf-8",
    "application/yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
    "application/vnd.kubernetes.protobuf",
    ";",
];

fn method() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        4 => Just("GET"),
        4 => Just("POST"),
        4 => Just("PUT"),
        8 => Just("PATCH"),
        3 => Just("DELETE"),
        1 => prop::sample::select(&["HEAD", "OPTIONS", "OTHER"][..]),
    ]
}

fn segment() -> impl Strategy<Value = String> {
    let known = &[
        "api",
        "apis",
        "v1",
        "namespaces",
        "default",
        "pods",
        "widgets",
        "a",
        "status",
        "scale",
        "fuzz.test",
        "openapi",
        "v3",
        "version",
        "",
        "%ff",
        "..",
        "%2F",
    ][..];
    prop_oneof![
        6 => prop::sample::select(known).prop_map(str::to_owned),
        1 => any::<String>().prop_map(|text| utf8_percent_encode(&text, NON_ALPHANUMERIC).to_string()),
    ]
}

/// The path of a collection for a create, otherwise mostly of an object.
fn path(kind: &Kind, creates: bool) -> impl Strategy<Value = String> + use<> {
    let (all, own) = (kind.path, object::name(&kind.object));
    let one = format!("{all}/{own}");
    let (weight, other) = if creates { (30, 1) } else { (5, 12) };
    prop_oneof![
        weight => Just(all.to_owned()),
        other => Just(one.clone()),
        1 => Just(format!("{all}/new")),
        1 => Just(all.replace("/namespaces/default", "")),
        1 => Just(all.replace("/default/", "/none/")),
        3 => prop::sample::select(&["status", "scale", "finalize", "other"][..])
            .prop_map(move |sub| format!("{one}/{sub}")),
        1 => segment().prop_map(move |segment| format!("{all}/{segment}")),
        1 => prop::collection::vec(segment(), 0..7).prop_map(|segments| format!("/{}", segments.join("/"))),
    ]
}

fn query() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        9 => prop::sample::select(VALUES).prop_map(str::to_owned),
        1 => any::<String>(),
    ];
    let parameter = (prop::sample::select(PARAMETERS), value)
        .prop_map(|(name, value)| format!("{name}={}", utf8_percent_encode(&value, NON_ALPHANUMERIC)));
    let usual =
        prop_oneof![Just(""), Just("fieldManager=m"), Just("watch=true"), Just("fieldManager=m&force=true")];
    (usual, prop::collection::vec(parameter, 0..3)).prop_map(|(usual, others)| {
        let all = others.join("&");
        if usual.is_empty() { all } else { format!("{usual}&{all}") }
    })
}

fn headers() -> impl Strategy<Value = Vec<(&'static str, String)>> {
    let agent = prop::sample::select(&["", "kubectl/v1.32.0 (linux)", "/", "ä"][..]);
    let accept = prop_oneof![7 => Just(""), 3 => prop::sample::select(ACCEPT)];
    (accept, prop::sample::select(CONTENT_TYPES), agent).prop_map(|(accept, content_type, agent)| {
        let all = [("accept", accept), ("content-type", content_type), ("user-agent", agent)];
        let given = all.into_iter().filter(|(_, value)| !value.is_empty());
        given.map(|(name, value)| (name, value.to_owned())).collect()
    })
}

/// The media type that fits a method and a body, in most cases.
fn fitting(mut attempt: Attempt, fits: bool) -> Attempt {
    let first = attempt.body.iter().copied().find(|byte| !byte.is_ascii_whitespace());
    let media_type = match (attempt.method.as_str(), first) {
        ("PATCH", Some(b'[')) => "application/json-patch+json",
        ("PATCH", _) if attempt.uri.contains("force") => "application/apply-patch+yaml",
        ("PATCH", _) if attempt.uri.contains("fieldManager") => "application/strategic-merge-patch+json",
        ("PATCH", _) => "application/merge-patch+json",
        _ => "application/json",
    };
    if fits {
        attempt.headers.retain(|(name, _)| *name != "content-type");
        attempt.headers.push(("content-type", media_type.to_owned()));
    }
    attempt
}

/// Any request, often a nearly valid one.
pub(super) fn attempt() -> impl Strategy<Value = Attempt> {
    (prop::sample::select(kinds()), method()).prop_flat_map(|(kind, method)| {
        let creates = method == "POST";
        let mut object = kind.object.clone();
        if creates {
            let name = object::name(&object).replacen('a', "new", 1);
            object["metadata"]["name"] = name.into();
        }
        let parts = (path(&kind, creates), query(), headers(), body(&object), prop::bool::weighted(0.8));
        parts.prop_map(move |(path, query, headers, body, fits)| {
            let (method, uri) = (method.to_owned(), format!("{path}?{query}"));
            fitting(Attempt { method, uri, headers, body }, fits)
        })
    })
}
