//! A small kind for the unit tests of this folder: two indexes, and a time at which one of them changes.

use jiff::Timestamp;
use kube::CustomResource;
use kube::api::ObjectMeta;
use serde::{Deserialize, Serialize};

use super::event::Event;
use super::index::IndexFunc;
use super::resource::CachedResource;

/// What a [`Widget`] is filed under.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(group = "test", version = "v1", kind = "Widget", namespaced, schema = "disabled")]
#[kube(derive = "PartialEq", derive = "Default")]
pub(crate) struct WidgetSpec {
    /// Values of the index `color`, while not expired.
    #[serde(default)]
    pub color: Vec<String>,
    /// Value of the index `owner`.
    #[serde(default)]
    pub owner: String,
    /// Seconds since the epoch after which the widget has no color any more.
    #[serde(default)]
    pub expires: Option<i64>,
}

impl CachedResource for Widget {
    fn indexes() -> &'static [IndexFunc<Self>] {
        &[
            IndexFunc {
                name: "color",
                extract: |widget, now, add| {
                    if widget.next_transition().is_none_or(|at| now <= at) {
                        widget.spec.color.iter().for_each(|color| add(color));
                    }
                },
            },
            IndexFunc { name: "owner", extract: |widget, _, add| add(&widget.spec.owner) },
        ]
    }

    fn next_transition(&self) -> Option<Timestamp> {
        self.spec.expires.and_then(|at| Timestamp::from_second(at).ok())
    }
}

/// A widget of namespace `ns` without any index value of its own.
pub(crate) fn widget(name: &str, uid: &str, version: &str) -> Widget {
    Widget {
        metadata: ObjectMeta {
            namespace: Some("ns".into()),
            name: Some(name.into()),
            uid: Some(uid.into()),
            resource_version: Some(version.into()),
            ..ObjectMeta::default()
        },
        spec: WidgetSpec::default(),
    }
}

/// An event in short: `+name@version` added, `name@old->new` changed, `-name@version` gone, with a `?` when
/// nobody saw it go.
pub(crate) fn show(event: &Event<Widget>) -> String {
    let version = |w: &Widget| w.metadata.resource_version.clone().unwrap();
    let name = event.key().name;
    match event {
        Event::Applied { old: None, new } => format!("+{name}@{}", version(new)),
        Event::Applied { old: Some(old), new } => format!("{name}@{}->{}", version(old), version(new)),
        Event::Deleted { last_known, final_state_unknown } => {
            format!("-{name}@{}{}", version(last_known), if *final_state_unknown { "?" } else { "" })
        }
    }
}
