//! A small kind for the unit tests of this crate: two indexes, and an expiry time that changes one index.

use std::sync::{Arc, LazyLock};

use jiff::Timestamp;
use kube::CustomResource;
use kube::api::ObjectMeta;
use serde::{Deserialize, Serialize};

use crate::kind::{CachedResource, DecodeError, Index, IndexFunc, KindParams, decode_json};
use crate::object::{DeletionReason, Delta};
use crate::store::{Change, Store};
use crate::subscription::Event;

/// The index values of a [`Widget`].
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(group = "test", version = "v1", kind = "Widget", namespaced, schema = "disabled")]
#[kube(derive = "PartialEq", derive = "Default")]
pub(crate) struct WidgetSpec {
    /// Values of the index `color` until the widget expires.
    #[serde(default)]
    pub color: Vec<String>,
    /// Value of the index `owner`.
    #[serde(default)]
    pub owner: String,
    /// Seconds since the epoch after which the widget has no color.
    #[serde(default)]
    pub expires: Option<i64>,
}

/// A widget of this owner counts as decoded only partially.
pub(crate) const UNREAD_OWNER: &str = "unread";

pub(crate) const COLOR: Index<Widget> = Index::new("color");
pub(crate) const OWNER: Index<Widget> = Index::new("owner");

impl CachedResource for Widget {
    fn indexes() -> &'static [IndexFunc<Self>] {
        &[
            IndexFunc {
                index: COLOR,
                extract: |widget, keys| {
                    if widget.next_transition().is_none_or(|at| keys.now() <= at) {
                        keys.extend(widget.spec.color.iter().map(String::as_str));
                    }
                },
            },
            IndexFunc { index: OWNER, extract: |widget, keys| keys.add(&widget.spec.owner) },
        ]
    }

    fn unread_fields(&self) -> &[DecodeError] {
        static UNREAD: LazyLock<[DecodeError; 1]> =
            LazyLock::new(|| [decode_json::<Widget>("{}").expect_err("an object without metadata")]);
        if self.spec.owner == UNREAD_OWNER { &*UNREAD } else { &[] }
    }

    fn next_transition(&self) -> Option<Timestamp> {
        self.spec.expires.and_then(|at| Timestamp::from_second(at).ok())
    }
}

/// Returns a widget of namespace `ns` without its own index values.
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

/// Returns the parameters of [`Widget`].
pub(crate) fn params() -> Arc<KindParams<Widget>> {
    Arc::new(KindParams::cached())
}

/// Returns an empty store of widgets with one partition.
pub(crate) fn store() -> Store<Widget> {
    Store::new(params(), 1, false)
}

/// Returns the change that stores a widget without index values.
pub(crate) fn upsert(name: &str, uid: &str, version: &str) -> Change<Widget> {
    put(widget(name, uid, version), Timestamp::UNIX_EPOCH)
}

/// Returns the change that stores a widget.
pub(crate) fn put(widget: Widget, now: Timestamp) -> Change<Widget> {
    let values = params().index_values(&widget, now);
    Change::Upsert(Arc::new(widget), values)
}

/// Returns a short form of a delta: `+name@version` added, `name@old->new` changed, `-name@version` deleted.
/// A deletion that the watch did not report ends with `?`.
pub(crate) fn show(delta: &Delta<Widget>) -> String {
    let version = |w: &Widget| w.metadata.resource_version.clone().unwrap();
    let name = delta.key().name;
    match delta {
        Delta::Applied { old: None, new } => format!("+{name}@{}", version(new)),
        Delta::Applied { old: Some(old), new } => format!("{name}@{}->{}", version(old), version(new)),
        Delta::Deleted { last_known, reason } => {
            format!(
                "-{name}@{}{}",
                version(last_known),
                if *reason == DeletionReason::Removed { "" } else { "?" }
            )
        }
    }
}

/// Returns a short form of an event, like [`show`]; `synced` for the marker.
pub(crate) fn show_event(event: Event<Widget>) -> String {
    match event {
        Event::Applied { old, new } => show(&Delta::Applied { old, new }),
        Event::Deleted { last_known, reason } => show(&Delta::Deleted { last_known, reason }),
        Event::Synced => "synced".into(),
    }
}
