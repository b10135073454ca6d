//! Admission: turns the object of a client into the object to store. Adds system fields, defaults and field owners, and
//! checks the rules.
//! Pure functions: they read the live object and change nothing.
//!
//! The order is that of kube-apiserver. First, unknown fields are removed and defaults are set. Then field owners are
//! recorded, and fields that the request cannot change are restored. An object that is then equal to the live one is
//! not written. Any other object is checked.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::decode::unreadable;
use super::options::FieldValidation;
use super::write_request::{Part, WriteRequest};
use crate::builtin::Resize;
use crate::clock::whole_seconds;
use crate::deletion::has_ended;
use crate::error::{ApiError, FieldError};
use crate::fields::{self, Endpoint, FieldSet, Origin};
use crate::metadata;
use crate::names::generate_name;
use crate::object::{self, metadata_mut};
use crate::patch::PatchKind;
use crate::request::Verb;
use crate::resource::{Nature, Resource};
use crate::schema;

/// The fields that only the server writes, and that no update changes.
const SYSTEM_FIELDS: [&str; 7] = [
    "uid",
    "creationTimestamp",
    "generation",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
    "resourceVersion",
];

/// Maximum number of unknown and repeated fields that are reported for a built-in kind.
const MAX_PROBLEMS: usize = 100;

/// The object to store.
pub(super) struct Admission {
    pub(super) object: Value,
    pub(super) warnings: Vec<String>,
    /// Whether the object is equal to the live one.
    pub(super) unchanged: bool,
    /// Whether the object is deleted and nothing keeps it any more.
    pub(super) ends: bool,
}

/// The object of a create, or of an update that creates.
pub(super) fn create(
    write: &WriteRequest<'_>,
    object: Value,
    problems: Vec<String>,
) -> Result<Admission, ApiError> {
    let mut admission = begin(write, object, problems)?;
    let object = &mut admission.object;
    set_place(write, object)?;
    match (&write.call.verb, object::uid(object)) {
        (Verb::Update, "") => {}
        (Verb::Update, uid) => return Err(other_uid(write, uid, "")),
        _ if !object::meta_text(object, "resourceVersion").is_empty() => {
            return Err(ApiError::unexpected("resourceVersion should not be set on objects to be created"));
        }
        _ => {}
    }
    born(write, object);
    track(write, None, object);
    prepare(write, None, object);
    check(write, None, object)?;
    Ok(admission)
}

/// The new version of an object after an update of the object or of a part of it.
pub(super) fn update(
    write: &WriteRequest<'_>,
    live: &Value,
    object: Value,
    problems: Vec<String>,
) -> Result<Admission, ApiError> {
    let mut admission = begin(write, object, problems)?;
    set_place(write, &mut admission.object)?;
    check_preconditions(write, live, &admission.object)?;
    track(write, Some(live), &mut admission.object);
    succeed(write, live, &mut admission.object);
    prepare(write, Some(live), &mut admission.object);
    finish(write, live, &mut admission)?;
    Ok(admission)
}

/// The object after a server-side apply to the live object, or to none.
pub(super) fn applied(
    write: &WriteRequest<'_>,
    live: Option<&Value>,
    mut applied: Value,
) -> Result<Admission, ApiError> {
    set_place(write, &mut applied)?;
    match live {
        None => check_unborn(write, &applied)?,
        Some(live) => check_preconditions(write, live, &applied)?,
    }
    let force = write.options.force;
    let object =
        with_endpoint(write, |endpoint| fields::apply(endpoint, &write.manager(), live, &applied, force))?;
    let mut admission = begin(write, object, Vec::new())?;
    let object = &mut admission.object;
    match live {
        None => {
            born(write, object);
            prepare(write, None, object);
            check(write, None, object)?;
        }
        Some(live) => {
            succeed(write, live, object);
            prepare(write, Some(live), object);
            finish(write, live, &mut admission)?;
        }
    }
    Ok(admission)
}

/// Removes unknown fields, or refuses them, and sets defaults.
fn begin(
    write: &WriteRequest<'_>,
    mut object: Value,
    mut problems: Vec<String>,
) -> Result<Admission, ApiError> {
    let resource = &write.call.resource;
    if let Some(why) = type_error(resource, &object) {
        return Err(unreadable(write.call, &object, write.patch, &why));
    }
    let seen = write.patch.is_some().then(|| object.clone());
    let unknown = schema::prune(&mut object, &resource.schema);
    problems.extend(unknown.into_iter().map(|path| format!("unknown field {path:?}")));
    if !resource.is_custom() {
        problems.truncate(MAX_PROBLEMS);
    }
    let warnings = match write.options.validation {
        _ if problems.is_empty() => problems,
        FieldValidation::Ignore => Vec::new(),
        FieldValidation::Warn => problems,
        FieldValidation::Strict => {
            let why = format!("strict decoding error: {}", problems.join(", "));
            return Err(unreadable(write.call, seen.as_ref().unwrap_or(&object), write.patch, &why));
        }
    };
    if let Some(builtin) = resource.builtin() {
        object = (builtin.typed)(object)
            .map_err(|error| unreadable(write.call, &Value::Null, write.patch, &error.to_string()))?;
        schema::omit_empty(&mut object, &resource.schema);
        (builtin.default)(&mut object);
    }
    schema::apply_defaults(&mut object, &resource.schema);
    Ok(Admission { object, warnings, unchanged: false, ends: false })
}

/// The first value with a wrong type: anywhere in an object of a built-in kind, in the metadata of a custom object.
fn type_error(resource: &Resource, object: &Value) -> Option<String> {
    let problem = match resource.builtin() {
        Some(_) => schema::type_error(object, &resource.schema),
        None => schema::metadata_type_error(object, &resource.schema),
    };
    problem.or_else(|| fields::check_form(object).err())
}

/// Checks that name and namespace agree with the path, and sets the namespace if it is left out.
fn set_place(write: &WriteRequest<'_>, object: &mut Value) -> Result<(), ApiError> {
    let target = &write.call.target;
    let (namespace, name) = (object::namespace(object).to_owned(), object::name(object).to_owned());
    let wanted = target.namespace.as_deref().unwrap_or_default();
    if !namespace.is_empty() && namespace != wanted {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    if let Some(wanted) = &target.name {
        if name.is_empty() {
            return Err(ApiError::bad_request("name must be provided"));
        }
        if name != *wanted {
            return Err(ApiError::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({wanted})"
            )));
        }
    }
    if write.call.resource.namespaced {
        metadata_mut(object).insert("namespace".to_owned(), json!(wanted));
    }
    Ok(())
}

/// Sets the system fields of a new object.
fn born(write: &WriteRequest<'_>, object: &mut Value) {
    let resource = &write.call.resource;
    let prefix = object::meta_text(object, "generateName").to_owned();
    let metadata = metadata_mut(object);
    if metadata.get("name").is_none_or(|name| name == "") && !prefix.is_empty() {
        metadata.insert("name".to_owned(), json!(generate_name(&prefix)));
    }
    for field in SYSTEM_FIELDS {
        metadata.remove(field);
    }
    metadata.insert("uid".to_owned(), json!(uuid::Uuid::new_v4().to_string()));
    metadata.insert("creationTimestamp".to_owned(), json!(whole_seconds(write.now)));
    if resource.has_generation() {
        metadata.insert("generation".to_owned(), json!(1));
    }
    if resource.status && write.part == Part::Main {
        set_or_remove(object, "status", Value::Null);
    }
}

/// Restores the fields of the live object that this request cannot change.
fn succeed(write: &WriteRequest<'_>, live: &Value, object: &mut Value) {
    if write.part == Part::Status {
        let status = object["status"].take();
        let managed = object["metadata"]["managedFields"].take();
        let metadata = object["metadata"].take();
        *object = live.clone();
        if !write.call.resource.is_custom() {
            // A write of the status changes labels and annotations, too, if the kind is built in.
            object["metadata"] = metadata;
        }
        set_or_remove(object, "status", status);
        let metadata = metadata_mut(object);
        match managed {
            Value::Null => metadata.remove("managedFields"),
            managed => metadata.insert("managedFields".to_owned(), managed),
        };
    } else if write.call.resource.status {
        set_or_remove(object, "status", live["status"].clone());
    }
    if let Some(resize) = resize_of(write) {
        let spec = (resize.spec)(object, live);
        set_or_remove(object, "spec", spec);
        for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
            set_or_remove(&mut object["metadata"], field, live["metadata"][field].clone());
        }
    }
    let deleted = |field: &str| field.starts_with("deletion") || (field == "uid" && write.patch.is_some());
    let metadata = metadata_mut(object);
    for field in SYSTEM_FIELDS {
        if deleted(field) && metadata.get(field).is_some_and(|value| !value.is_null()) {
            // Validation refuses the change later.
            continue;
        }
        match &live["metadata"][field] {
            Value::Null => metadata.remove(field),
            kept => metadata.insert(field.to_owned(), kept.clone()),
        };
    }
}

/// The rules of a write of the subresource `resize`.
fn resize_of<'a>(write: &WriteRequest<'a>) -> Option<&'a Resize> {
    write.call.resource.resize().filter(|_| write.part == Part::Resize)
}

fn set_or_remove(object: &mut Value, field: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        match value {
            Value::Null => object.remove(field),
            value => object.insert(field.to_owned(), value),
        };
    }
}

/// Refuses an update of another version or of another object than the live one.
fn check_preconditions(write: &WriteRequest<'_>, live: &Value, object: &Value) -> Result<(), ApiError> {
    let resource = &write.call.resource;
    let (asked, uid) = (object::meta_text(object, "resourceVersion"), object::uid(object));
    let applies = write.patch == Some(PatchKind::Apply);
    if asked.is_empty() && !resource.allows_unconditional_update() && !applies {
        let error =
            FieldError::invalid("metadata.resourceVersion", json!(0), "must be specified for an update");
        return Err(ApiError::invalid(&resource.group, &resource.names.plural, object::name(live), &[error]));
    }
    // Validation refuses a patch that changes the UID later.
    if write.patch.is_none() && !uid.is_empty() && uid != object::uid(live) {
        return Err(other_uid(write, uid, object::uid(live)));
    }
    if !asked.is_empty() && asked != object::meta_text(live, "resourceVersion") {
        let why =
            "the object has been modified; please apply your changes to the latest version and try again";
        return Err(ApiError::conflict(&resource.about(object::name(live)), why));
    }
    Ok(())
}

fn other_uid(write: &WriteRequest<'_>, wanted: &str, is: &str) -> ApiError {
    let name = write.call.target.name.as_deref().unwrap_or_default();
    let why = format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {is}");
    ApiError::conflict(&write.call.resource.about(name), &why)
}

/// Refuses to create an object by an apply that names a UID.
fn check_unborn(write: &WriteRequest<'_>, applied: &Value) -> Result<(), ApiError> {
    let uid = object::uid(applied);
    if uid.is_empty() {
        return Ok(());
    }
    let why =
        format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
    Err(ApiError::conflict(&write.call.resource.about(object::name(applied)), &why))
}

/// Sets the fields that only the kind's own rules set. They have no owner.
fn prepare(write: &WriteRequest<'_>, live: Option<&Value>, object: &mut Value) {
    if let Some(builtin) = write.call.resource.builtin() {
        (builtin.prepare)(object, live, write.now);
    }
}

/// Records the owners of fields.
fn track(write: &WriteRequest<'_>, live: Option<&Value>, object: &mut Value) {
    with_endpoint(write, |endpoint| match (&write.call.resource.scale, live, write.part) {
        (Some(paths), Some(live), Part::Scale) => {
            fields::track_scale(endpoint, &write.manager(), &paths.spec_replicas, live, object);
        }
        _ => fields::track_update(endpoint, &write.manager(), live, object),
    });
}

fn with_endpoint<R>(write: &WriteRequest<'_>, run: impl FnOnce(&Endpoint<'_>) -> R) -> R {
    let resource = &write.call.resource;
    let (subresource, reset) = match write.part {
        Part::Status => ("status", FieldSet::of(["spec"])),
        Part::Scale => ("scale", FieldSet::default()),
        Part::Resize => ("resize", FieldSet::of(["status"])),
        Part::Main if resource.status => ("", FieldSet::of(["status"])),
        Part::Main | Part::Whole => ("", FieldSet::default()),
    };
    run(&Endpoint {
        schema: &resource.schema,
        api_version: &resource.api_version(),
        kind: &resource.names.kind,
        subresource,
        reset: &reset,
        origin: match &resource.nature {
            Nature::Custom(_) => Origin::Custom,
            Nature::Builtin(native) => Origin::BuiltIn(&native.blank),
        },
    })
}

/// Checks the rules of metadata, schema and kind.
fn check(write: &WriteRequest<'_>, live: Option<&Value>, object: &Value) -> Result<(), ApiError> {
    let resource = &write.call.resource;
    let mut errors = metadata::validate(resource, live, object);
    errors.extend(fields::check_limits(object));
    match &resource.nature {
        Nature::Custom(custom) => errors.extend(match (live, write.part) {
            (None, _) => custom.validator.validate(object),
            (Some(live), Part::Status) => custom.validator.validate_status_update(object, live),
            (Some(live), _) => custom.validator.validate_update(object, live),
        }),
        Nature::Builtin(native) => {
            errors.extend(schema::missing_fields(object, &resource.schema));
            errors.extend(match (resize_of(write), live) {
                (Some(resize), Some(live)) => (resize.validate)(object, live),
                _ => (native.rules.validate)(object, live),
            });
        }
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid(&resource.group, &resource.names.kind, object::name(object), &errors))
}

/// Raises the generation, and decides whether the object has changed and whether it is removed.
fn finish(write: &WriteRequest<'_>, live: &Value, admission: &mut Admission) -> Result<(), ApiError> {
    let object = &mut admission.object;
    let resource = &write.call.resource;
    if resource.has_generation() && write.part != Part::Status && spec_differs(resource, live, object) {
        let generation = live["metadata"]["generation"].as_i64().unwrap_or_default() + 1;
        metadata_mut(object).insert("generation".to_owned(), json!(generation));
    }
    fields::keep_times_of_no_op(live, object);
    admission.ends = object::is_deleting(live) && has_ended(&resource.storage, object);
    admission.unchanged = !admission.ends && object == live;
    if admission.unchanged { Ok(()) } else { check(write, Some(live), &admission.object) }
}

/// Whether anything differs except metadata, and except the status if that is a subresource.
fn spec_differs(resource: &Resource, live: &Value, object: &Value) -> bool {
    let counts = |field: &&String| match field.as_str() {
        "metadata" | "apiVersion" | "kind" => false,
        "status" => !resource.status,
        _ => true,
    };
    let fields = |object: &Value| -> BTreeSet<String> {
        object.as_object().into_iter().flat_map(|fields| fields.keys()).filter(counts).cloned().collect()
    };
    fields(live).union(&fields(object)).any(|field| live[field] != object[field])
}
