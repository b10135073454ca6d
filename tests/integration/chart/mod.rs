//! The Helm chart and `config/`: what is in them, what Helm makes of them, and what a real API server and the
//! binary itself say to that.
//!
//! The tests in [`files`] need nothing but the repository. All others need the programs that `tests/chart/build.sh`
//! builds; `tests/chart/run.sh` builds and runs them.

mod alerts;
mod config_folder;
mod e2b;
mod files;
mod helm;
mod kubeconform;
mod lifecycle;
mod permissions;
mod release;
mod rendered;
mod server;
mod values;
mod writes;

use std::path::PathBuf;

use serde_json::Value;

/// A path in the repository.
fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The content of a file of the repository.
#[track_caller]
fn read(path: &str) -> String {
    std::fs::read_to_string(repository(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The documents of a YAML text, without those that hold nothing.
#[track_caller]
fn documents(yaml: &str) -> Vec<Value> {
    let all = serde_yaml::Deserializer::from_str(yaml);
    let parsed = all.map(serde::Deserialize::deserialize);
    let values: Vec<Value> =
        parsed.collect::<Result<_, _>>().unwrap_or_else(|error| panic!("{error}\n{yaml}"));
    values.into_iter().filter(|value| !value.is_null()).collect()
}

/// A file of the repository as the one document that it is.
#[track_caller]
fn read_yaml(path: &str) -> Value {
    let [document] = <[Value; 1]>::try_from(documents(&read(path))).expect("one document");
    document
}

/// The kind and the name of an object.
fn identity(object: &Value) -> (&str, &str) {
    let text = |value: &'static str| object.pointer(value).and_then(Value::as_str).unwrap_or_default();
    (text("/kind"), text("/metadata/name"))
}

/// The one object of a kind.
#[track_caller]
fn the<'o>(objects: &'o [Value], kind: &str) -> &'o Value {
    let mut found = objects.iter().filter(|object| object["kind"] == kind);
    let one = found.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(found.next().is_none(), "more than one {kind}");
    one
}
