//! Authentication and authorization: tokens, impersonation and RBAC.
//!
//! A client without a socket says who it is ([`Sender`]); over TCP, a token does. The rules are read from the stored
//! roles and bindings at each request, so that a grant counts at once. Members of `system:masters` may do everything.

use std::collections::HashMap;

use http::{HeaderMap, header::AUTHORIZATION};
use parking_lot::Mutex;
use serde_json::Value;

use super::error::{About, ApiError};
use super::request::{Target, Verb};
use super::store::{Key, Range, Store};

/// The members of this group may do everything.
pub(crate) const MASTERS: &str = "system:masters";

const AUTHENTICATED: &str = "system:authenticated";
const UNAUTHENTICATED: &str = "system:unauthenticated";

// The collections that the rules are read from.
const CLUSTER_ROLES: &str = "clusterroles.rbac.authorization.k8s.io";
const CLUSTER_ROLE_BINDINGS: &str = "clusterrolebindings.rbac.authorization.k8s.io";
const ROLES: &str = "roles.rbac.authorization.k8s.io";
const ROLE_BINDINGS: &str = "rolebindings.rbac.authorization.k8s.io";

/// Paths that everyone may read, and that every known user may read, as by the default bindings of a cluster.
const PUBLIC: [&str; 4] = ["/healthz", "/livez", "/readyz", "/version"];
const DISCOVERY: [&str; 3] = ["/api", "/apis", "/openapi"];

/// The kinds that every known user may create, by group and plural.
const SELF_REVIEWS: [(&str, &str); 3] = [
    ("authorization.k8s.io", "selfsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectrulesreviews"),
    ("authentication.k8s.io", "selfsubjectreviews"),
];

/// The user that a request counts as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) groups: Vec<String>,
}

impl User {
    /// The administrator, who may do everything.
    pub(crate) fn admin() -> Self {
        Self { name: "admin".to_owned(), groups: vec![MASTERS.to_owned(), AUTHENTICATED.to_owned()] }
    }

    /// A user who may do what roles and bindings grant.
    pub(crate) fn named(name: &str) -> Self {
        Self { name: name.to_owned(), groups: vec![AUTHENTICATED.to_owned()] }
    }

    fn anonymous() -> Self {
        Self { name: "system:anonymous".to_owned(), groups: vec![UNAUTHENTICATED.to_owned()] }
    }

    pub(crate) fn is_master(&self) -> bool {
        self.groups.iter().any(|group| group == MASTERS)
    }

    pub(crate) fn is_known(&self) -> bool {
        self.groups.iter().any(|group| group == AUTHENTICATED)
    }
}

/// The sender of a request without a socket, as an extension of that request.
#[derive(Clone)]
pub(crate) struct Sender {
    pub(crate) user: User,
    /// Whether no fault strikes its requests.
    pub(crate) spared: bool,
    /// The number of revocations when the client was created, in the place of a token.
    pub(crate) issued: u64,
}

/// The attributes of a request that the rules of RBAC compare.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Attributes<'a> {
    pub(crate) verb: &'a str,
    pub(crate) group: &'a str,
    /// The plural, or `plural/subresource`.
    pub(crate) resource: &'a str,
    pub(crate) namespace: Option<&'a str>,
    pub(crate) name: Option<&'a str>,
}

/// The tokens that are valid. Never printed.
#[derive(Default)]
pub(crate) struct Access {
    tokens: Mutex<HashMap<String, User>>,
    revoked: Mutex<Revoked>,
}

/// Revocations, for clients without a socket, which have no token that could be removed.
#[derive(Default)]
struct Revoked {
    count: u64,
    /// The number of the last revocation of each user.
    last: HashMap<String, u64>,
}

impl Access {
    /// Creates a token of a user, which is valid until it is revoked.
    #[cfg(feature = "__serve")]
    pub(crate) fn issue(&self, user: User) -> String {
        let token = uuid::Uuid::new_v4().simple().to_string();
        self.tokens.lock().insert(token.clone(), user);
        token
    }

    /// The sender of a new client without a socket.
    pub(crate) fn sender(&self, user: User, spared: bool) -> Sender {
        Sender { user, spared, issued: self.revoked.lock().count }
    }

    /// Makes all present tokens and clients of a user invalid.
    pub(crate) fn revoke(&self, name: &str) {
        self.tokens.lock().retain(|_, user| user.name != name);
        let mut revoked = self.revoked.lock();
        revoked.count += 1;
        let count = revoked.count;
        revoked.last.insert(name.to_owned(), count);
    }

    /// The user who sends a request, and whether the request is spared from faults.
    ///
    /// # Errors
    ///
    /// If the token is not valid.
    pub(crate) fn identify(&self, parts: &http::request::Parts) -> Result<(User, bool), ApiError> {
        let Some(sender) = parts.extensions.get::<Sender>() else {
            return Ok((self.user_of_token(&parts.headers)?, false));
        };
        let last = self.revoked.lock().last.get(&sender.user.name).copied().unwrap_or_default();
        if last > sender.issued && !sender.spared {
            return Err(ApiError::unauthorized());
        }
        Ok((sender.user.clone(), sender.spared))
    }

    fn user_of_token(&self, headers: &HeaderMap) -> Result<User, ApiError> {
        let Some(value) = headers.get(AUTHORIZATION) else { return Ok(User::anonymous()) };
        let token = value.to_str().ok().and_then(|text| text.strip_prefix("Bearer "));
        let known = token.and_then(|token| self.tokens.lock().get(token).cloned());
        known.ok_or_else(ApiError::unauthorized)
    }
}

/// The user that a request counts as: its sender, or the user that the sender impersonates.
///
/// # Errors
///
/// If the sender may not impersonate.
pub(crate) fn impersonate(sender: User, headers: &HeaderMap) -> Result<User, ApiError> {
    let text = |value: &http::HeaderValue| value.to_str().ok().map(str::to_owned);
    let Some(name) = headers.get("impersonate-user").and_then(text) else { return Ok(sender) };
    if !sender.is_master() {
        let about = About { plural: "users", name: &name, ..Default::default() };
        let why = format!(
            "User {:?} cannot impersonate resource \"users\" in API group \"\" at the cluster scope",
            sender.name
        );
        return Err(ApiError::forbidden(&about, &why));
    }
    let mut user = User::named(&name);
    // The group of all known users comes last, as on the real server.
    user.groups.splice(0..0, headers.get_all("impersonate-group").iter().filter_map(text));
    Ok(user)
}

/// Whether a user may read a path that is not of a resource.
pub(crate) fn may_read_path(user: &User, path: &str) -> bool {
    let below = |roots: &[&str]| {
        roots
            .iter()
            .any(|root| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    };
    user.is_master() || below(&PUBLIC) || (user.is_known() && below(&DISCOVERY))
}

/// Refuses a request that the roles and bindings do not allow.
///
/// # Errors
///
/// If nothing allows it.
pub(crate) fn permit(store: &Store, user: &User, verb: Verb, target: &Target) -> Result<(), ApiError> {
    let resource = resource_of(target);
    let asked = Attributes::of(verb, target, &resource);
    if is_allowed(store, user, &asked) { Ok(()) } else { Err(refusal(user, target, &asked)) }
}

/// The error for a request that nothing allows.
pub(crate) fn forbid(user: &User, verb: Verb, target: &Target) -> ApiError {
    let resource = resource_of(target);
    refusal(user, target, &Attributes::of(verb, target, &resource))
}

fn refusal(user: &User, target: &Target, asked: &Attributes<'_>) -> ApiError {
    let about = About {
        group: &target.group,
        plural: &target.plural,
        name: target.name.as_deref().unwrap_or_default(),
    };
    ApiError::forbidden(&about, &denial(user, asked))
}

fn resource_of(target: &Target) -> String {
    match &target.subresource {
        Some(subresource) => format!("{}/{subresource}", target.plural),
        None => target.plural.clone(),
    }
}

impl<'a> Attributes<'a> {
    fn of(verb: Verb, target: &'a Target, resource: &'a str) -> Self {
        let of_namespaces = target.plural == "namespaces" && target.group.is_empty();
        Self {
            verb: verb.as_str(),
            group: &target.group,
            resource,
            namespace: target.namespace.as_deref().or(target.name.as_deref().filter(|_| of_namespaces)),
            name: target.name.as_deref(),
        }
    }
}

/// Whether the stored roles and bindings allow a user to do something.
pub(crate) fn is_allowed(store: &Store, user: &User, asked: &Attributes<'_>) -> bool {
    user.is_master()
        || (user.is_known() && asks_about_self(asked))
        || bound(store, user, CLUSTER_ROLE_BINDINGS, None, asked)
        || asked.namespace.is_some_and(|namespace| bound(store, user, ROLE_BINDINGS, Some(namespace), asked))
}

/// Whether a user asks for the own name or rights, which the default bindings of a cluster grant to every known user.
fn asks_about_self(asked: &Attributes<'_>) -> bool {
    let kind = (asked.group, asked.resource);
    asked.verb == "create" && SELF_REVIEWS.contains(&kind)
}

fn denial(user: &User, asked: &Attributes<'_>) -> String {
    let place = match asked.namespace {
        Some(namespace) => format!("in the namespace {namespace:?}"),
        None => "at the cluster scope".to_owned(),
    };
    let Attributes { verb, group, resource, .. } = asked;
    let name = &user.name;
    format!("User {name:?} cannot {verb} resource {resource:?} in API group {group:?} {place}")
}

fn bound(
    store: &Store,
    user: &User,
    bindings: &str,
    namespace: Option<&str>,
    asked: &Attributes<'_>,
) -> bool {
    let range = Range { namespace, after: None };
    let bindings = store.list(bindings, &range, None, 0);
    bindings.map(|snapshot| snapshot.objects).unwrap_or_default().iter().any(|binding| {
        let binding = binding.value();
        array(&binding["subjects"]).any(|subject| is_subject(user, subject))
            && grants(store, &binding["roleRef"], namespace, asked)
    })
}

/// Returns the rules of all roles that are bound to a user in a namespace or in the cluster.
pub(crate) fn granted_rules(store: &Store, user: &User, namespace: &str) -> Vec<Value> {
    let mut rules = Vec::new();
    for (bindings, namespace) in [(CLUSTER_ROLE_BINDINGS, None), (ROLE_BINDINGS, Some(namespace))] {
        let range = Range { namespace, after: None };
        let bindings = store.list(bindings, &range, None, 0);
        for binding in bindings.map(|snapshot| snapshot.objects).unwrap_or_default() {
            let binding = binding.value();
            if array(&binding["subjects"]).any(|subject| is_subject(user, subject))
                && let Some(role) = role(store, &binding["roleRef"], namespace)
            {
                rules.extend(array(&role["rules"]).cloned());
            }
        }
    }
    rules
}

fn is_subject(user: &User, subject: &Value) -> bool {
    let name = subject["name"].as_str().unwrap_or_default();
    match subject["kind"].as_str() {
        Some("User") => name == user.name,
        Some("Group") => user.groups.iter().any(|group| group == name),
        Some("ServiceAccount") => {
            let namespace = subject["namespace"].as_str().unwrap_or_default();
            user.name == format!("system:serviceaccount:{namespace}:{name}")
        }
        _ => false,
    }
}

fn grants(store: &Store, reference: &Value, namespace: Option<&str>, asked: &Attributes<'_>) -> bool {
    let found = role(store, reference, namespace);
    found.is_some_and(|role| array(&role["rules"]).any(|rule| rule_grants(rule, asked)))
}

/// The role that a binding refers to.
fn role(store: &Store, reference: &Value, namespace: Option<&str>) -> Option<Value> {
    let name = reference["name"].as_str().unwrap_or_default();
    let found = match (reference["kind"].as_str(), namespace) {
        (Some("ClusterRole"), _) => store.get(CLUSTER_ROLES, &Key::new("", name)),
        (Some("Role"), Some(namespace)) => store.get(ROLES, &Key::new(namespace, name)),
        _ => None,
    };
    found.map(|role| role.value())
}

fn rule_grants(rule: &Value, asked: &Attributes<'_>) -> bool {
    let names = |field: &str, wanted: &str| array(&rule[field]).any(|value| value == wanted || value == "*");
    let subresource = asked.resource.split_once('/').map(|(_, subresource)| format!("*/{subresource}"));
    let resource = names("resources", asked.resource)
        || subresource.is_some_and(|any| array(&rule["resources"]).any(|value| *value == any));
    let restricted = array(&rule["resourceNames"]).next().is_some();
    let is_covered = !restricted
        || asked.name.is_some_and(|name| array(&rule["resourceNames"]).any(|value| value == name));
    names("verbs", asked.verb) && names("apiGroups", asked.group) && resource && is_covered
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
