//! Gives a definition the names that it asks for, if they are free, and sets its conditions.

use std::collections::HashSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{has_condition, text};
use crate::clock::whole_seconds;
use crate::object::{self, child_mut};

/// Whether a definition has all the names that it asks for.
pub(crate) fn names_are_accepted(definition: &Value) -> bool {
    definition["spec"]["names"] == definition["status"]["acceptedNames"]
}

/// Updates the status of a definition: accepts the names that no definition of `others` has. A name that was accepted
/// once stays accepted. If a new name is taken, the old name stays.
pub(crate) fn accept(mut definition: Value, others: &[Value], now: Timestamp) -> Value {
    let (names, conflict) = negotiate(&definition, others);
    let accepted = conflict.is_none();
    let (reason, message) = conflict.unwrap_or_else(|| ("NoConflicts", "no conflicts found".to_owned()));
    child_mut(&mut definition, "status").insert("acceptedNames".to_owned(), names);
    set_condition(&mut definition, "NamesAccepted", accepted, (reason, &message), now);
    if accepted && !has_condition(&definition, "Established") {
        let message = "the initial names have been accepted";
        set_condition(&mut definition, "Established", true, ("InitialNamesAccepted", message), now);
    } else if !has_condition(&definition, "Established") {
        let why = ("NotAccepted", "not all names are accepted");
        set_condition(&mut definition, "Established", false, why, now);
    }
    definition
}

/// Sets the condition of a definition that is being deleted.
pub(crate) fn terminate(definition: &mut Value, now: Timestamp) {
    let message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
    set_condition(definition, "Terminating", true, ("InstanceDeletionPending", message), now);
}

/// Sets the condition of a definition whose objects are being deleted.
pub(crate) fn terminating(definition: &mut Value, now: Timestamp) {
    let message = "CustomResource deletion is in progress";
    set_condition(definition, "Terminating", true, ("InstanceDeletionInProgress", message), now);
}

fn set_condition(
    definition: &mut Value,
    kind: &str,
    holds: bool,
    (reason, message): (&str, &str),
    now: Timestamp,
) {
    let status = if holds { "True" } else { "False" };
    let conditions = child_mut(definition, "status").entry("conditions").or_insert(Value::Null);
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Some(conditions) = conditions.as_array_mut() else { return };
    let mut condition = json!({
        "type": kind, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": whole_seconds(now),
    });
    match conditions.iter_mut().find(|condition| condition["type"] == kind) {
        None => conditions.push(condition),
        Some(known) => {
            if known["status"] == status {
                condition["lastTransitionTime"] = known["lastTransitionTime"].take();
            }
            *known = condition;
        }
    }
}

/// The names that are accepted, and the last conflict, with its reason and message.
fn negotiate(definition: &Value, others: &[Value]) -> (Value, Option<(&'static str, String)>) {
    let wanted = &definition["spec"]["names"];
    let taken = Taken::by(definition, others);
    let mut names = definition["status"]["acceptedNames"].clone();
    let mut conflict = None;
    for (field, of_kinds, reason) in [
        ("plural", false, "PluralConflict"),
        ("singular", false, "SingularConflict"),
        ("shortNames", false, "ShortNamesConflict"),
        ("kind", true, "KindConflict"),
        ("listKind", true, "ListKindConflict"),
    ] {
        let used = if of_kinds { &taken.kinds } else { &taken.resources };
        let own: HashSet<_> = each(&names[field]).map(str::to_owned).collect();
        let refused: Vec<_> = each(&wanted[field])
            .filter(|name| !own.contains(*name) && used.contains(name))
            .map(|name| format!("{name:?} is already in use"))
            .collect();
        match &refused[..] {
            [] => copy(&mut names, wanted, field),
            [only] => conflict = Some((reason, only.clone())),
            several => conflict = Some((reason, format!("[{}]", several.join(", ")))),
        }
    }
    copy(&mut names, wanted, "categories");
    (names, conflict)
}

fn copy(names: &mut Value, wanted: &Value, field: &str) {
    match (&wanted[field], names.as_object_mut()) {
        (Value::Null, Some(names)) => {
            names.remove(field);
        }
        (name, _) => names[field] = name.clone(),
    }
}

/// The names in a text or in a list of texts.
fn each(names: &Value) -> impl Iterator<Item = &str> {
    let several = names.as_array().into_iter().flatten();
    names.as_str().into_iter().chain(several.map(text)).filter(|name| !name.is_empty())
}

/// The names of the other definitions in the same group.
struct Taken<'a> {
    resources: HashSet<&'a str>,
    kinds: HashSet<&'a str>,
}

impl<'a> Taken<'a> {
    fn by(definition: &Value, others: &'a [Value]) -> Self {
        let group = &definition["spec"]["group"];
        let mut taken = Self { resources: HashSet::new(), kinds: HashSet::new() };
        for other in others.iter().filter(|other| other["spec"]["group"] == *group) {
            if object::uid(other) == object::uid(definition) {
                continue;
            }
            let names = &other["status"]["acceptedNames"];
            for field in ["plural", "singular", "shortNames"] {
                taken.resources.extend(each(&names[field]));
            }
            for field in ["kind", "listKind"] {
                taken.kinds.extend(each(&names[field]));
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(definition: Value, others: &[Value]) -> Value {
        super::accept(definition, others, Timestamp::UNIX_EPOCH)
    }

    fn definition(plural: &str, kind: &str, short: &[&str]) -> Value {
        let names = json!({"plural": plural, "singular": kind.to_lowercase(), "kind": kind,
                           "listKind": format!("{kind}List"), "shortNames": short});
        json!({"metadata": {"uid": plural}, "spec": {"group": "g.x", "names": names},
               "status": {"acceptedNames": {"plural": "", "kind": ""}}})
    }

    fn condition<'a>(definition: &'a Value, kind: &str) -> (&'a Value, &'a Value) {
        let conditions = definition["status"]["conditions"].as_array().unwrap();
        let found = conditions.iter().find(|condition| condition["type"] == kind).unwrap();
        (&found["status"], &found["reason"])
    }

    #[test]
    fn free_names_are_accepted() {
        let accepted = accept(definition("as", "A", &["x"]), &[]);
        assert!(names_are_accepted(&accepted));
        assert_eq!(condition(&accepted, "NamesAccepted"), (&json!("True"), &json!("NoConflicts")));
        assert_eq!(condition(&accepted, "Established"), (&json!("True"), &json!("InitialNamesAccepted")));
    }

    #[test]
    fn a_taken_name_keeps_a_kind_from_being_served_until_it_is_free() {
        let first = accept(definition("as", "A", &["x"]), &[]);
        let second = accept(definition("bs", "B", &["x"]), std::slice::from_ref(&first));
        assert_eq!(condition(&second, "NamesAccepted"), (&json!("False"), &json!("ShortNamesConflict")));
        assert_eq!(condition(&second, "Established"), (&json!("False"), &json!("NotAccepted")));
        assert_eq!(second["status"]["acceptedNames"]["plural"], "bs", "the others are taken");
        assert!(names_are_accepted(&accept(second, &[])));
    }

    #[test]
    fn a_served_kind_stays_served_when_it_asks_for_a_taken_name() {
        let first = accept(definition("as", "A", &["x"]), &[]);
        let mut second = accept(definition("bs", "B", &["y"]), std::slice::from_ref(&first));
        second["spec"]["names"]["shortNames"] = json!(["x"]);
        let second = accept(second, &[first]);
        assert_eq!(condition(&second, "Established").0, "True");
        assert_eq!(condition(&second, "NamesAccepted"), (&json!("False"), &json!("ShortNamesConflict")));
        assert_eq!(second["status"]["acceptedNames"]["shortNames"], json!(["y"]));
    }
}
