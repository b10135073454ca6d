//! Parts of objects that many objects have in common, decoded once and shared.
//!
//! A pool of ten thousand sandboxes carries ten thousand copies of one pod template, which decoded is the
//! largest part of each by far. So the JSON text of a template is hashed and looked up in a table first, and
//! only a text that nobody holds is decoded. The table holds weak references: a text leaves it with its last
//! user.
//!
//! Invariants, which the tests below pin:
//! - two texts share an entry only if they are equal byte for byte (the hash only finds candidates);
//! - no strong reference is dropped while the table's lock is held, because dropping the last one takes that
//!   lock;
//! - an entry is removed only by its own drop, recognised by address: a weak reference keeps its allocation,
//!   so an address cannot be reused while the table still knows it;
//! - nothing is decoded under the lock. Two threads may decode the same new text at once; the first to insert
//!   wins and the other's copy is discarded.
//!
//! Decoding works from `serde_json` only (text, bytes or `serde_json::Value`), since the raw text is needed.
//! YAML must go through `serde_json::Value`, as must anything else that buffers content, such as untagged or
//! flattened wrappers.

use std::borrow::Cow;
use std::fmt;
use std::hash::BuildHasher;
use std::ops::Deref;
use std::sync::{Arc, LazyLock, Weak};

use hashbrown::{DefaultHashBuilder, HashTable};
use parking_lot::Mutex;
use serde::de::{DeserializeOwned, Error as _};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// A type whose equal JSON is shared by all objects of the process.
pub trait Internable: DeserializeOwned + Serialize + 'static {
    /// The name of the newtype, for `Debug`.
    const NAME: &'static str;
    /// The field of the spec that it is decoded from, for errors.
    const FIELD: &'static str;

    /// The table of the process for this type.
    fn table() -> &'static Table<Self>;
}

/// A shared, immutable value together with the JSON text it came from.
///
/// Cloning is an `Arc` bump. Equality is that of the JSON, unknown fields included: cheap for shared or
/// textually equal values, otherwise both texts are parsed. Serializing writes the original JSON, so fields
/// that this version does not know survive.
pub struct Interned<T: 'static>(Arc<Entry<T>>);

/// What an [`Interned`] points to.
pub(super) struct Entry<T: 'static> {
    hash: u64,
    text: Box<str>,
    value: T,
    table: &'static Table<T>,
}

/// The texts in use for one type, found by hash.
///
/// A plain mutex: it is held for a hash lookup and a comparison of text, never across decoding, I/O or an
/// await.
pub struct Table<T: 'static> {
    slots: Mutex<HashTable<Slot<T>>>,
    hash: fn(&str) -> u64,
}

struct Slot<T: 'static> {
    hash: u64,
    entry: Weak<Entry<T>>,
}

/// Hashes with a key drawn once per process, so that whoever writes templates can hardly aim for collisions; they
/// would cost time and nothing else.
fn seeded_hash(text: &str) -> u64 {
    static SEED: LazyLock<DefaultHashBuilder> = LazyLock::new(DefaultHashBuilder::default);
    SEED.hash_one(text)
}

impl<T> Table<T> {
    /// An empty table.
    pub(crate) const fn new() -> Self {
        Self::with_hash(seeded_hash)
    }

    const fn with_hash(hash: fn(&str) -> u64) -> Self {
        Self { slots: Mutex::new(HashTable::new()), hash }
    }

    /// The entry of `text`, decoded by `decode` if nobody holds one.
    pub(super) fn intern<E>(
        &'static self,
        text: &str,
        decode: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Arc<Entry<T>>, E> {
        let hash = (self.hash)(text);
        if let Some(entry) = self.lookup(hash, text, None) {
            return Ok(entry);
        }
        let value = decode(text)?;
        let fresh = Arc::new(Entry { hash, text: text.into(), value, table: self });
        // Another thread may have been quicker. Then `fresh` is dropped here, outside the lock, and finds
        // nothing to remove.
        Ok(self.lookup(hash, &fresh.text, Some(&fresh)).unwrap_or(fresh))
    }

    /// Whether somebody holds this text.
    #[cfg(test)]
    pub(super) fn knows(&self, text: &str) -> bool {
        self.lookup((self.hash)(text), text, None).is_some()
    }

    /// The live entry of `text`. When there is none, `or_insert` is put into the table under the same lock.
    fn lookup(&self, hash: u64, text: &str, or_insert: Option<&Arc<Entry<T>>>) -> Option<Arc<Entry<T>>> {
        // Entries of other texts with this hash. Each may turn out to be the last reference to its entry, so
        // they are declared before the guard and thereby dropped after it.
        let mut strays: Vec<Arc<Entry<T>>> = Vec::new();
        let mut found = None;
        let mut slots = self.slots.lock();
        for slot in slots.iter_hash(hash).filter(|slot| slot.hash == hash) {
            // A failing upgrade is an entry whose drop is waiting for our lock: it removes itself.
            match slot.entry.upgrade() {
                Some(entry) if *entry.text == *text => {
                    found = Some(entry);
                    break;
                }
                Some(stray) => strays.push(stray),
                None => {}
            }
        }
        if let (None, Some(fresh)) = (&found, or_insert) {
            slots.insert_unique(hash, Slot { hash, entry: Arc::downgrade(fresh) }, |slot| slot.hash);
        }
        found
    }
}

impl<T> Entry<T> {
    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

impl<T> Drop for Entry<T> {
    fn drop(&mut self) {
        let address: *const Self = self;
        let mut slots = self.table.slots.lock();
        if let Ok(slot) = slots.find_entry(self.hash, |slot| std::ptr::eq(slot.entry.as_ptr(), address)) {
            slot.remove();
        }
    }
}

impl<T> Interned<T> {
    /// The JSON text that the value was decoded from.
    #[must_use]
    pub fn as_json(&self) -> &str {
        &self.0.text
    }

    /// Whether both are the same copy in memory. Equal JSON text always is.
    #[must_use]
    pub fn ptr_eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<T> Deref for Interned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T> Clone for Interned<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> PartialEq for Interned<T> {
    fn eq(&self, other: &Self) -> bool {
        let json = |side: &Self| serde_json::from_str::<Value>(&side.0.text).ok();
        self.ptr_eq(other)
            || self.0.text == other.0.text
            || json(self).is_some_and(|own| Some(own) == json(other))
    }
}

impl<T: Internable> fmt::Debug for Interned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({} bytes of JSON)", T::NAME, self.0.text.len())
    }
}

impl<T: Internable> From<T> for Interned<T> {
    /// Shares a value built by the caller. Its text is what it serializes as.
    fn from(value: T) -> Self {
        // Kubernetes types consist of structs, lists, strings, numbers and maps with string keys, all of
        // which JSON has.
        let text = serde_json::to_string(&value).expect("Kubernetes types are written as JSON");
        let shared = T::table().intern(&text, |_| Ok::<T, std::convert::Infallible>(value));
        match shared {
            Ok(entry) => Self(entry),
        }
    }
}

impl<T: Internable> Serialize for Interned<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // By way of `Value`: a `RawValue` only means something to serde_json's own serializers.
        serde_json::from_str::<Value>(&self.0.text).map_err(S::Error::custom)?.serialize(serializer)
    }
}

impl<'de, T: Internable> Deserialize<'de> for Interned<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        let entry = T::table().intern(text.get(), decode::<T>).map_err(D::Error::custom)?;
        Ok(Self(entry))
    }
}

/// Decodes `text`, naming the path of the offending field on failure.
fn decode<T: Internable>(text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| explain::<T>(text, &error))
}

/// Decodes once more with the path recorded: it costs too much to be done for every good object.
#[cold]
fn explain<T: Internable>(text: &str, plain: &serde_json::Error) -> String {
    let field = T::FIELD;
    match serde_path_to_error::deserialize::<_, T>(&mut serde_json::Deserializer::from_str(text)) {
        Ok(_) => format!("{field}: {}", without_position(plain)),
        Err(error) => {
            let path = error.path().to_string();
            let path = match path.as_str() {
                "." => String::new(),
                index if index.starts_with('[') => path,
                name => format!(".{name}"),
            };
            format!("{field}{path}: {}", without_position(error.inner()))
        }
    }
}

/// The message without line and column, which count within the part and would be read as those of the whole
/// object.
fn without_position(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    message.strip_suffix(&position).unwrap_or(&message).to_owned()
}

impl<T: Internable> schemars::JsonSchema for Interned<T> {
    fn schema_name() -> Cow<'static, str> {
        T::NAME.into()
    }

    /// Any JSON, kept as it is: the schema of a pod would be larger than the rest of the CRD by far.
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "x-kubernetes-preserve-unknown-fields": true })
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use k8s_openapi::api::core::v1::PodTemplateSpec;

    use super::*;
    use crate::api::v1alpha1::{PodTemplate, VolumeClaimTemplates};

    /// A table of its own for a test; those of the process are shared by tests that run at the same time.
    fn table(hash: fn(&str) -> u64) -> &'static Table<String> {
        Box::leak(Box::new(Table::with_hash(hash)))
    }

    fn intern(table: &'static Table<String>, text: &str) -> Interned<String> {
        let decoded = table.intern(text, |text| Ok::<_, Infallible>(text.to_uppercase()));
        let Ok(entry) = decoded;
        Interned(entry)
    }

    fn len(table: &'static Table<String>) -> usize {
        table.slots.lock().len()
    }

    #[test]
    fn equal_text_is_decoded_once_and_shared() {
        let table = table(seeded_hash);
        let first = intern(table, "a");
        let second = Interned(table.intern("a", |_| Err("decoded twice")).unwrap());
        assert!(first.ptr_eq(&second));
        assert!(!first.ptr_eq(&intern(table, "b")));
        assert_eq!(*second, "A");
    }

    #[test]
    fn the_last_user_takes_the_entry_with_it() {
        let table = table(seeded_hash);
        let first = intern(table, "a");
        let second = first.clone();
        drop(first);
        assert_eq!(len(table), 1);
        drop(second);
        assert_eq!(len(table), 0);
        assert_eq!(*intern(table, "a"), "A");
    }

    #[test]
    fn texts_with_the_same_hash_are_kept_apart() {
        let table = table(|_| 7);
        let (a, b) = (intern(table, "a"), intern(table, "b"));
        assert_eq!((a.as_str(), b.as_str()), ("A", "B"));
        assert!(a.ptr_eq(&intern(table, "a")) && b.ptr_eq(&intern(table, "b")));
        drop(a);
        assert_eq!(len(table), 1);
        assert!(b.ptr_eq(&intern(table, "b")));
    }

    #[test]
    fn a_text_that_cannot_be_decoded_leaves_nothing_behind() {
        let table = table(seeded_hash);
        assert!(table.intern("a", |_| Err("no")).is_err());
        assert_eq!(len(table), 0);
    }

    #[test]
    fn the_slower_of_two_decoders_takes_the_copy_of_the_quicker() {
        let table = table(seeded_hash);
        let mut quicker = None;
        let slower = table.intern("a", |_| {
            quicker = Some(intern(table, "a"));
            Ok::<_, Infallible>("discarded".to_owned())
        });
        let Ok(slower) = slower;
        assert!(quicker.unwrap().ptr_eq(&Interned(slower)));
        assert_eq!(len(table), 0);
    }

    #[test]
    fn an_entry_whose_drop_is_still_waiting_is_neither_found_nor_removed_by_others() {
        let (table, elsewhere) = (table(|_| 7), table(|_| 7));
        // Its drop goes to another table, so that here it stays as it is between its last use and its
        // removal.
        let dying = Arc::new(Entry { hash: 7, text: "a".into(), value: String::new(), table: elsewhere });
        let slot = Slot { hash: 7, entry: Arc::downgrade(&dying) };
        table.slots.lock().insert_unique(7, slot, |slot| slot.hash);
        drop(dying);
        let fresh = intern(table, "a");
        assert_eq!((fresh.as_str(), len(table)), ("A", 2));
        assert!(fresh.ptr_eq(&intern(table, "a")));
        drop(fresh);
        assert_eq!(len(table), 1);
        assert!(table.slots.lock().iter().all(|slot| slot.entry.strong_count() == 0));
    }

    #[test]
    fn lookups_and_drops_may_race() {
        // Half of the texts collide, so that strays are dropped by lookups too.
        let table = table(|text| if text.len() == 1 { 7 } else { seeded_hash(text) });
        let texts = ["a", "b", "c", "long a", "long b"];
        let mixed_up = AtomicUsize::new(0);
        let barrier = Barrier::new(8);
        std::thread::scope(|scope| {
            for offset in 0..8 {
                let (barrier, mixed_up) = (&barrier, &mixed_up);
                scope.spawn(move || {
                    barrier.wait();
                    for round in 0..5_000 {
                        let text = texts[(offset + round) % texts.len()];
                        let held = intern(table, text);
                        let again = intern(table, text);
                        if *held != text.to_uppercase() || !held.ptr_eq(&again) {
                            mixed_up.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(mixed_up.into_inner(), 0);
        assert_eq!(len(table), 0);
    }

    const TEMPLATE: &str =
        r#"{"metadata":{"labels":{"app":"interned"}},"spec":{"containers":[{"name":"c","novel":1.50}]}}"#;

    #[test]
    fn text_bytes_and_value_decode_alike() {
        let text: PodTemplate = serde_json::from_str(TEMPLATE).unwrap();
        let bytes: PodTemplate = serde_json::from_slice(TEMPLATE.as_bytes()).unwrap();
        let value: PodTemplate = serde_json::from_value(serde_json::from_str(TEMPLATE).unwrap()).unwrap();
        assert!(text.ptr_eq(&bytes));
        assert_eq!(text, value);
        assert_eq!(text.spec.as_ref().unwrap().containers[0].name, "c");
        assert_eq!(format!("{text:?}"), format!("PodTemplate({} bytes of JSON)", TEMPLATE.len()));
    }

    #[test]
    fn fields_that_this_version_does_not_know_are_written_back() {
        let template: PodTemplate = serde_json::from_str(TEMPLATE).unwrap();
        let original: Value = serde_json::from_str(TEMPLATE).unwrap();
        assert_eq!(serde_json::to_value(&template).unwrap(), original);
        assert_eq!(
            serde_yaml::from_str::<Value>(&serde_yaml::to_string(&template).unwrap()).unwrap(),
            original
        );
    }

    #[test]
    fn json_that_differs_in_order_and_blanks_is_equal_but_not_shared() {
        let one: PodTemplate = serde_json::from_str(r#"{"metadata":{"name":"x","namespace":"y"}}"#).unwrap();
        let two: PodTemplate = serde_json::from_str(r#"{"metadata": {"namespace":"y","name":"x"}}"#).unwrap();
        let three: PodTemplate = serde_json::from_str(r#"{"metadata":{"name":"x","new":1}}"#).unwrap();
        assert_eq!(one, two);
        assert!(!one.ptr_eq(&two));
        assert_ne!(one, three);
    }

    #[test]
    fn a_value_built_in_memory_is_shared_with_its_json() {
        let built = PodTemplate::from(PodTemplateSpec::default());
        let decoded: PodTemplate = serde_json::from_str(built.as_json()).unwrap();
        assert!(built.ptr_eq(&decoded));
    }

    #[test]
    fn e6_a_decode_error_names_the_path_of_the_field() {
        let text = r#"{"spec":{"containers":[{"name":"c"},{"name":"d","image":5}]}}"#;
        let error = serde_json::from_str::<PodTemplate>(text).unwrap_err().to_string();
        assert_eq!(error, "template.spec.containers[1].image: invalid type: integer `5`, expected a string");

        let text = r#"[{"spec":{"volumeName":[]}}]"#;
        let error = serde_json::from_str::<VolumeClaimTemplates>(text).unwrap_err().to_string();
        assert!(error.starts_with("volumeClaimTemplates[0].spec.volumeName: "), "{error}");
    }
}
