//! The columns and cells of Events of both groups.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::age::age;
use super::cells::text;
use super::column::Column;
use crate::object;

pub(super) fn columns() -> Vec<Column> {
    vec![
        Column::text("Last Seen", "How long ago it happened last."),
        Column::text("Type", "Whether all is well."),
        Column::text("Reason", "What happened, in a word."),
        Column::text("Object", "What it happened to."),
        Column::wide("Subobject", "Which part of it."),
        Column::wide("Source", "Who tells so."),
        Column::text("Message", "What happened, for people."),
        Column::wide("First Seen", "How long ago it happened first."),
        Column::wide("Count", "How often it happened."),
        Column { priority: 1, ..Column::name() },
    ]
}

pub(super) fn cells(event: &Value, now: Timestamp) -> Vec<Value> {
    let object = either(event, ["/involvedObject", "/regarding"]);
    let (first, last) = seen(event, now);
    let kind = text(object, "/kind").to_lowercase();
    let target = match text(object, "/name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    vec![
        json!(last),
        json!(text(event, "/type")),
        json!(text(event, "/reason")),
        json!(target),
        json!(text(object, "/fieldPath")),
        json!(source(event)),
        json!(either_text(event, ["/message", "/note"]).trim()),
        json!(first),
        json!(count(event)),
        json!(object::name(event)),
    ]
}

/// The value of the first of two fields that is present.
fn either<'v>(event: &'v Value, pointers: [&str; 2]) -> &'v Value {
    pointers.iter().find_map(|pointer| event.pointer(pointer)).unwrap_or(&Value::Null)
}

fn either_text<'v>(event: &'v Value, pointers: [&str; 2]) -> &'v str {
    either(event, pointers).as_str().unwrap_or_default()
}

/// The ages of the first and the last time.
fn seen(event: &Value, now: Timestamp) -> (String, String) {
    let or_else = |text: &str, default: &dyn Fn() -> String| match text {
        "" => default(),
        text => age(text, now),
    };
    let first = either_text(event, ["/firstTimestamp", "/deprecatedFirstTimestamp"]);
    let first = or_else(first, &|| age(text(event, "/eventTime"), now));
    let last = if event["series"].is_object() {
        age(text(event, "/series/lastObservedTime"), now)
    } else {
        or_else(either_text(event, ["/lastTimestamp", "/deprecatedLastTimestamp"]), &|| first.clone())
    };
    (first, last)
}

fn count(event: &Value) -> i64 {
    if event["series"].is_object() {
        return event["series"]["count"].as_i64().unwrap_or_default();
    }
    let count = either(event, ["/count", "/deprecatedCount"]).as_i64();
    // An Event of `events.k8s.io` that happened once has no count.
    count.filter(|count| *count != 0).unwrap_or(1)
}

fn source(event: &Value) -> String {
    let source = either(event, ["/source", "/deprecatedSource"]);
    let reporter = either_text(event, ["/reportingComponent", "/reportingController"]);
    let component = match text(source, "/component") {
        "" => reporter,
        component => component,
    };
    let host = match text(source, "/host") {
        "" => text(event, "/reportingInstance"),
        host => host,
    };
    if host.is_empty() { component.to_owned() } else { format!("{component}, {host}") }
}
