//! [`Interned`]: a part of an object that is decoded once and shared by all objects with equal JSON.
//!
//! A pool of 10,000 sandboxes contains 10,000 copies of one pod template. The decoded template is by far the
//! largest part of a sandbox. Decoding therefore hashes the JSON text of a template, looks up the text in a
//! table, and decodes the text only if the table has no entry. The table holds weak references, so an entry
//! is freed with its last user.
//!
//! Invariants, which the tests below prove:
//! - Two texts share an entry only if they are equal byte for byte. The hash only finds candidates.
//! - No strong reference is dropped under the lock of the table, because dropping the last one takes that
//!   lock.
//! - Only the drop of an entry removes the entry from the table. The drop finds the entry by its address. A
//!   weak reference keeps the allocation, so no other entry can have that address meanwhile.
//! - Nothing is decoded under the lock. Two threads may decode the same new text at the same time. The first
//!   insertion is kept, and the other copy is dropped.
//!
//! Decoding needs the raw text, so it works with `serde_json` only (text, bytes or `serde_json::Value`).
//! YAML must be converted to `serde_json::Value` first. So must all content that serde buffers, such as
//! untagged enums and flattened structs.
//!
//! Rule numbers refer to docs/behaviours.md.

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

/// A type whose values are shared by all objects of the process with equal JSON.
pub trait Internable: DeserializeOwned + Serialize + 'static {
    /// The name of the type alias, for `Debug`.
    const NAME: &'static str;
    /// The field of the spec that holds the value, for error messages.
    const FIELD: &'static str;

    /// Returns the table of the process for this type.
    fn table() -> &'static Table<Self>;
}

/// A shared, immutable value and the JSON text that the value was decoded from.
///
/// Cloning increments a counter. Two values are equal if their JSON is equal, unknown fields included. The
/// comparison parses both texts unless they are shared or equal byte for byte. Serializing writes the
/// original JSON, which keeps the fields that this version does not know.
pub struct Interned<T: 'static>(Arc<Entry<T>>);

/// The text and the decoded value that an [`Interned`] points to.
pub(super) struct Entry<T: 'static> {
    hash: u64,
    text: Box<str>,
    value: T,
    table: &'static Table<T>,
}

/// The texts of one type that are in use, found by hash.
///
/// The lock is a plain mutex, because it is held only for a hash lookup and a comparison of texts, and never
/// across decoding, I/O or an await.
pub struct Table<T: 'static> {
    slots: Mutex<HashTable<Slot<T>>>,
    hash: fn(&str) -> u64,
}

struct Slot<T: 'static> {
    hash: u64,
    entry: Weak<Entry<T>>,
}

/// Hashes `text` with a random key that is chosen once per process.
///
/// The key prevents users from writing templates whose hashes collide. Collisions would only cost time.
fn seeded_hash(text: &str) -> u64 {
    static SEED: LazyLock<DefaultHashBuilder> = LazyLock::new(DefaultHashBuilder::default);
    SEED.hash_one(text)
}

impl<T> Table<T> {
    /// Creates an empty table.
    pub(crate) const fn new() -> Self {
        Self::with_hash(seeded_hash)
    }

    const fn with_hash(hash: fn(&str) -> u64) -> Self {
        Self { slots: Mutex::new(HashTable::new()), hash }
    }

    /// Returns the entry of `text`. Calls `decode` if the table has no entry of that text.
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
        // If another thread has inserted the text meanwhile, `fresh` is dropped here, outside the lock. The
        // drop then finds no slot to remove.
        Ok(self.lookup(hash, &fresh.text, Some(&fresh)).unwrap_or(fresh))
    }

    /// Returns true if the table has a live entry of this text.
    #[cfg(test)]
    pub(super) fn knows(&self, text: &str) -> bool {
        self.lookup((self.hash)(text), text, None).is_some()
    }

    /// Returns the live entry of `text`. If there is none, inserts `or_insert` under the same lock.
    fn lookup(&self, hash: u64, text: &str, or_insert: Option<&Arc<Entry<T>>>) -> Option<Arc<Entry<T>>> {
        // Entries of other texts with this hash. Each may be the last reference to its entry. The list is
        // declared before the guard, so that it is dropped after the lock is released.
        let mut strays: Vec<Arc<Entry<T>>> = Vec::new();
        let mut found = None;
        let mut slots = self.slots.lock();
        for slot in slots.iter_hash(hash).filter(|slot| slot.hash == hash) {
            // A failed upgrade means that the entry is being dropped. Its drop waits for this lock, and then
            // removes the slot.
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
    /// Returns the JSON text that the value was decoded from.
    #[must_use]
    pub fn as_json(&self) -> &str {
        &self.0.text
    }

    /// Returns true if both values share one copy in memory. Values with equal JSON text always do.
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
    /// Shares a value that the caller has built. Its text is its serialized form.
    fn from(value: T) -> Self {
        // Kubernetes types consist of structs, lists, strings, numbers and maps with string keys. JSON can
        // represent all of these.
        let text = serde_json::to_string(&value).expect("Kubernetes types can be written as JSON");
        let shared = T::table().intern(&text, |_| Ok::<T, std::convert::Infallible>(value));
        match shared {
            Ok(entry) => Self(entry),
        }
    }
}

impl<T: Internable> Serialize for Interned<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Converted to a `Value`, because only the serializers of serde_json understand a `RawValue`.
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

/// Decodes `text`. The error names the path of the field that cannot be decoded.
fn decode<T: Internable>(text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| explain::<T>(text, &error))
}

/// Decodes `text` again and records the path of the error.
///
/// Recording the path is too slow for every valid object, so only a failed decode calls this function.
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

/// Returns the message without line and column.
///
/// Line and column count from the start of the part, so they would be wrong for the whole object.
fn without_position(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    message.strip_suffix(&position).unwrap_or(&message).to_owned()
}

impl<T: Internable> schemars::JsonSchema for Interned<T> {
    fn schema_name() -> Cow<'static, str> {
        T::NAME.into()
    }

    /// Returns a schema that accepts and keeps any JSON. The schema of a pod would be far larger than the
    /// rest of the CRD.
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

    /// Creates a table for one test. Tests that run at the same time share the tables of the process.
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
        // This entry names another table, so its drop does not remove the slot from `table`. The slot stays
        // in the state between the last use of an entry and its removal.
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
        // The short texts collide, so that lookups drop entries of other texts too.
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
