//! [`Made`]: of which spec a pod was made, and [`Adopted`]: the same of a pod that does not tell (LS8).
//!
//! Admission may change a pod: it rewrites images to those of a mirror, adds probes, or sets `imagePullPolicy`. Such a pod
//! never equals its template again. So the pod carries hashes of the spec that it was made of. As long as the template
//! still has that spec, the pod fits, whatever admission did.

use std::fmt;

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::api::v1alpha1::ANNOTATION_TEMPLATE_SPEC;
use crate::lifecycle::revision;

/// Separates the hashes in the annotation. No hash contains it.
const SEPARATOR: char = '.';

/// Hashes of the spec of a pod, as [`super::pod::spec`] builds it.
///
/// There are three of them, because images and resources can be changed in a running pod: if only the resources have
/// changed, an image that admission has rewritten must stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Made {
    /// Everything but the images and the resources of containers.
    rest: String,
    images: String,
    resources: String,
}

/// Of which spec a pod of another controller was made. Such a pod has no hashes. While nothing had to be done for it, the
/// template had that spec. This is remembered, so that a later change of labels alone is known to be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Adopted {
    /// The pod. Another one may be made of another spec.
    pub(super) pod_uid: Option<String>,
    /// The generation of the sandbox that had the spec.
    pub(super) generation: Option<i64>,
    pub(super) made: Made,
}

/// The parts of a spec that are those of which a pod was made. By default none is known to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SameParts {
    pub(super) rest: bool,
    pub(super) images: bool,
    pub(super) resources: bool,
}

impl SameParts {
    /// Returns true if the whole spec is the same.
    pub(super) fn all(self) -> bool {
        self.rest && self.images && self.resources
    }
}

impl Made {
    /// Computes the hashes of a spec.
    pub(super) fn of(spec: &Value) -> Self {
        let mut rest = spec.clone();
        let images = take(&mut rest, "image");
        let resources = take(&mut rest, "resources");
        Self {
            rest: revision::of_json(&rest),
            images: revision::of_json(&images),
            resources: revision::of_json(&resources),
        }
    }

    /// Reads the hashes from a pod; `None` if it has none, because another controller made it.
    pub(super) fn on(pod: &Pod) -> Option<Self> {
        let annotation = pod.metadata.annotations.as_ref()?.get(ANNOTATION_TEMPLATE_SPEC)?;
        let mut hashes = annotation.split(SEPARATOR).map(str::to_owned);
        let made = Self { rest: hashes.next()?, images: hashes.next()?, resources: hashes.next()? };
        hashes.next().is_none().then_some(made)
    }

    /// Returns the parts that are the same in another spec.
    pub(super) fn same(&self, other: &Self) -> SameParts {
        SameParts {
            rest: self.rest == other.rest,
            images: self.images == other.images,
            resources: self.resources == other.resources,
        }
    }
}

/// Writes the value of the annotation.
impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rest, images, resources } = self;
        write!(f, "{rest}{SEPARATOR}{images}{SEPARATOR}{resources}")
    }
}

/// Removes a field from all containers, and returns its values with the containers that they are of.
fn take(spec: &mut Value, field: &str) -> Value {
    let mut values = Vec::new();
    for list in ["initContainers", "containers"] {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let Some(fields) = container.as_object_mut() else { continue };
            if let Some(value) = fields.remove(field).filter(|value| !value.is_null()) {
                values.push(json!([list, fields.get("name"), value]));
            }
        }
    }
    Value::Array(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> Value {
        json!({
            "restartPolicy": "Always",
            "initContainers": [{"name": "i", "image": "init"}],
            "containers": [
                {"name": "a", "image": "i:1", "resources": {"requests": {"cpu": "1"}}, "novel": 1},
                {"name": "b", "image": "i:2"},
            ],
        })
    }

    fn same_after(change: impl FnOnce(&mut Value)) -> SameParts {
        let mut changed = spec();
        change(&mut changed);
        Made::of(&spec()).same(&Made::of(&changed))
    }

    #[test]
    fn ls8_each_change_of_a_spec_is_in_one_part() {
        assert!(same_after(|_| {}).all());
        assert!(same_after(|spec| spec["containers"][0]["tty"] = json!(null)).all(), "null is absent");
        let all = SameParts { rest: true, images: true, resources: true };
        let images = SameParts { images: false, ..all };
        assert_eq!(same_after(|spec| spec["containers"][1]["image"] = json!("i:3")), images);
        assert_eq!(same_after(|spec| spec["initContainers"][0]["image"] = json!("i:3")), images);
        let swapped = |spec: &mut Value| {
            spec["containers"][0]["image"] = json!("i:2");
            spec["containers"][1]["image"] = json!("i:1");
        };
        assert_eq!(same_after(swapped), images);
        let resources = SameParts { resources: false, ..all };
        assert_eq!(same_after(|spec| spec["containers"][1]["resources"] = json!({"limits": {}})), resources);
        let rest = SameParts { rest: false, ..all };
        assert_eq!(same_after(|spec| spec["containers"][0]["novel"] = json!(2)), rest);
        assert_eq!(same_after(|spec| spec["restartPolicy"] = json!("Never")), rest);
    }

    #[test]
    fn ls8_the_hashes_on_a_pod_are_read_as_they_were_written() {
        let on = |value: &str| {
            let metadata = json!({"annotations": {ANNOTATION_TEMPLATE_SPEC: value}});
            Made::on(&serde_json::from_value(json!({"metadata": metadata})).unwrap())
        };
        let made = Made::of(&spec());
        assert_eq!(on(&made.to_string()), Some(made));
        assert_eq!((on("a.b"), on("a.b.c.d"), on("")), (None, None, None));
        assert_eq!(Made::on(&Pod::default()), None);
    }

    /// The hashes are on the pods that an earlier version has made.
    #[test]
    fn ls8_the_hashes_are_the_same_in_every_version() {
        assert_eq!(Made::of(&spec()).to_string(), "g2zmhp86dx2q8c.r7mzz8qbvwcczc.766l9x6xmkf8nd");
    }
}
