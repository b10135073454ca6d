//! [`compare`]: what changes in a cluster when one of our definitions replaces an installed one.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

use super::changes::Changes;
use super::schemas;

/// Compares the installed definition with ours.
///
/// Server-side apply replaces the lists of a definition as a whole, so everything in the lists of the installed one is
/// compared. It keeps all other fields that only the installed definition has, such as annotations, categories and the
/// conversion.
pub(super) fn compare(installed: &CustomResourceDefinition, ours: &CustomResourceDefinition) -> Changes {
    let (theirs, ours) = (spec(installed), spec(ours));
    let mut comparison = Comparison::default();
    comparison.compare_names(&theirs["names"], &ours["names"]);
    let (theirs, ours) = (&theirs["versions"], &ours["versions"]);
    for (version, theirs, ours) in pairs(theirs, ours, "name") {
        comparison.compare_versions(version, theirs, ours);
    }
    comparison.changes
}

#[derive(Default)]
struct Comparison {
    changes: Changes,
}

impl Comparison {
    fn compare_names(&mut self, theirs: &Value, ours: &Value) {
        let names = |names: &Value| -> Vec<String> {
            let names = names["shortNames"].as_array().into_iter().flatten();
            names.filter_map(Value::as_str).map(|name| format!("short name {name}")).collect()
        };
        let (short, our_short) = (names(theirs), names(ours));
        self.changes.added.extend(our_short.iter().filter(|name| !short.contains(name)).cloned());
        self.changes.lost.extend(short.into_iter().filter(|name| !our_short.contains(name)));
        for name in ["kind", "listKind", "plural", "singular"] {
            self.compare_values(&format!("name {name}"), &theirs[name], &ours[name]);
        }
    }

    fn compare_versions(&mut self, version: &str, theirs: Option<&Value>, ours: Option<&Value>) {
        let what = format!("version {version}");
        let (Some(theirs), Some(ours)) = (theirs, ours) else {
            return self.one_sided(what, theirs.is_some());
        };
        for flag in ["served", "storage", "deprecated", "deprecationWarning"] {
            self.compare_values(&format!("{what}: {flag}"), &theirs[flag], &ours[flag]);
        }
        let of_version = |what: &str| format!("{what} ({version})");
        for name in ["status", "scale"] {
            let of = |version: &Value| version["subresources"].get(name).cloned();
            self.compare_parts(&of_version(&format!("subresource {name}")), of(theirs), of(ours));
        }
        for (list, key, what) in [
            ("additionalPrinterColumns", "name", "column"),
            ("selectableFields", "jsonPath", "selectable field"),
        ] {
            for (name, theirs, ours) in pairs(&theirs[list], &ours[list], key) {
                self.compare_parts(&of_version(&format!("{what} {name}")), theirs.cloned(), ours.cloned());
            }
        }
        let schema = |version: &Value| version["schema"]["openAPIV3Schema"].clone();
        schemas::compare(version, &schema(theirs), &schema(ours), &mut self.changes);
    }

    fn compare_parts(&mut self, what: &str, theirs: Option<Value>, ours: Option<Value>) {
        match (theirs, ours) {
            (None, None) => {}
            (Some(theirs), Some(ours)) if theirs == ours => {}
            (Some(_), Some(_)) => self.changes.changed.push(what.to_owned()),
            (theirs, _) => self.one_sided(what.to_owned(), theirs.is_some()),
        }
    }

    fn compare_values(&mut self, what: &str, theirs: &Value, ours: &Value) {
        if theirs != ours {
            self.changes.changed.push(format!("{what} {theirs} -> {ours}"));
        }
    }

    fn one_sided(&mut self, what: String, is_theirs: bool) {
        if is_theirs { self.changes.lost.push(what) } else { self.changes.added.push(what) }
    }
}

fn spec(definition: &CustomResourceDefinition) -> Value {
    serde_json::to_value(&definition.spec).expect("a definition can be written as JSON")
}

/// Pairs the elements of two lists that have the same value of `key`, in the order of both lists.
fn pairs<'a>(
    theirs: &'a Value,
    ours: &'a Value,
    key: &'static str,
) -> impl Iterator<Item = (&'a str, Option<&'a Value>, Option<&'a Value>)> {
    let elements = |list: &'a Value| list.as_array().into_iter().flatten();
    let name = move |element: &'a Value| element[key].as_str().unwrap_or_default();
    let find = move |list: &'a Value, wanted: &str| elements(list).find(|element| name(element) == wanted);
    let both = elements(theirs).map(move |element| (name(element), Some(element), find(ours, name(element))));
    let only_ours = elements(ours).filter(move |element| find(theirs, name(element)).is_none());
    both.chain(only_ours.map(move |element| (name(element), None, Some(element))))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::v1alpha1::crds;

    /// Returns the changes from a definition that `edit` makes of our first one to our first one.
    fn after(edit: impl Fn(&mut Value)) -> Changes {
        let ours = &crds()[0];
        let mut installed = serde_json::to_value(ours).unwrap();
        edit(&mut installed["spec"]);
        compare(&serde_json::from_value(installed).unwrap(), ours)
    }

    #[test]
    fn z1_our_own_definitions_are_unchanged() {
        for definition in crds() {
            assert!(compare(&definition, &definition).is_empty());
        }
    }

    #[test]
    fn z1_everything_in_a_list_that_ours_lacks_is_lost() {
        let changes = after(|spec| {
            spec["names"]["shortNames"].as_array_mut().unwrap().push("box".into());
            let version = &mut spec["versions"][0];
            version["additionalPrinterColumns"]
                .as_array_mut()
                .unwrap()
                .insert(0, json!({"name": "Probes", "type": "string", "jsonPath": ".status.probes"}));
            version["selectableFields"] = json!([{"jsonPath": ".status.phase"}]);
            version["subresources"]["scale"] =
                json!({"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"});
            version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["probes"] =
                json!({"type": "string"});
            let mut beta = version.clone();
            beta["name"] = "v1beta1".into();
            beta["storage"] = false.into();
            spec["versions"].as_array_mut().unwrap().push(beta);
        });
        let expected = [
            "short name box",
            "subresource scale (v1alpha1)",
            "column Probes (v1alpha1)",
            "selectable field .status.phase (v1alpha1)",
            "field spec.probes (v1alpha1)",
            "version v1beta1",
        ];
        assert_eq!(changes, Changes { lost: expected.map(str::to_owned).into(), ..Changes::default() });
    }

    #[test]
    fn z1_what_an_older_definition_lacks_is_added() {
        let changes = after(|spec| {
            spec["names"]["shortNames"] = json!([]);
            let version = &mut spec["versions"][0];
            version["additionalPrinterColumns"]
                .as_array_mut()
                .unwrap()
                .retain(|column| column["name"] != "Age");
            let spec = &mut version["schema"]["openAPIV3Schema"]["properties"]["spec"];
            spec["properties"].as_object_mut().unwrap().remove("pauseStrategy");
        });
        assert_eq!(changes.lost, [""; 0]);
        let expected = [
            "short name sbx",
            "column Age (v1alpha1)",
            "field spec.pauseStrategy (v1alpha1)",
            "field spec.pauseStrategy.hibernateStrategy (v1alpha1)",
            "field spec.pauseStrategy.hibernateStrategy.type (v1alpha1)",
            "field spec.pauseStrategy.type (v1alpha1)",
        ];
        assert_eq!(changes.added, expected);
    }

    #[test]
    fn z1_other_forms_of_the_same_parts_are_changes() {
        let found = after(|spec| {
            let version = &mut spec["versions"][0];
            version["served"] = false.into();
            version["additionalPrinterColumns"][0]["jsonPath"] = ".status.message".into();
        });
        let changed =
            vec!["version v1alpha1: served false -> true".to_owned(), "column Status (v1alpha1)".to_owned()];
        assert_eq!(found, Changes { changed, ..Changes::default() });
    }
}
