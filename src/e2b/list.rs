//! The list of sandboxes: its query, its order, its pages. Pure functions.
//!
//! A page ends with a cursor: the key of its last sandbox. The next page begins behind that key, so a sandbox that is
//! created meanwhile makes no other one appear twice or not at all. Times are whole seconds, so the id decides between
//! sandboxes of one second.

use std::cmp::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;

use super::errors::{ApiError, quoted};
use super::key::sha256_hex;
use super::query::{Query, unescape};
use super::types::State;

/// The most sandboxes of one page, and the number if the query does not say.
const MOST: usize = 100;

/// The most pairs of a filter.
const MOST_PAIRS: usize = 64;

/// The longest cursor that is looked at.
const LONGEST_CURSOR: usize = 1024;

/// Digits of the fingerprint of a filter in a cursor.
const FINGERPRINT: usize = 16;

/// The order of a list by the start of the sandboxes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Oldest first: the exact reverse of [`Order::Desc`].
    Asc,
    /// Newest first; by id within one second.
    Desc,
}

impl Order {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Asc => "asc",
            Self::Desc => "desc",
        }
    }

    fn compare(self, one: &Key, other: &Key) -> Ordering {
        let newest_first = other.started.cmp(&one.started).then_with(|| one.id.cmp(&other.id));
        match self {
            Self::Desc => newest_first,
            Self::Asc => newest_first.reverse(),
        }
    }
}

/// The place of a sandbox in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// Second of the start since 1970.
    pub(super) started: i64,
    pub(super) id: String,
}

/// What a list shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ListQuery {
    /// Pairs that must all match.
    pub(super) metadata: Vec<(String, String)>,
    /// Empty: every state.
    states: Vec<State>,
    limit: usize,
    order: Order,
    pub(super) started_after: Option<Timestamp>,
    pub(super) template: Option<String>,
    /// The key behind which the page begins.
    after: Option<Key>,
}

impl ListQuery {
    /// Reads the query of a list with pages.
    ///
    /// # Errors
    ///
    /// 400 for each value that is not accepted.
    pub(super) fn parse(query: &Query) -> Result<Self, ApiError> {
        let mut parsed = Self {
            metadata: query.get("metadata").map_or(Ok(Vec::new()), metadata)?,
            states: query.get("state").map_or(Ok(Vec::new()), states)?,
            limit: query.get("limit").map_or(Ok(MOST), limit)?,
            order: query.get("order").map_or(Ok(Order::Desc), order)?,
            started_after: query.get("startedAfter").map(started_after).transpose()?,
            template: query.get("template").map(template).transpose()?,
            after: None,
        };
        parsed.after = query.get("nextToken").map(|token| parsed.cursor(token)).transpose()?;
        Ok(parsed)
    }

    /// Reads the query of the list without pages, which shows running sandboxes only. Its clients know no next page, so
    /// without a limit it is whole.
    ///
    /// # Errors
    ///
    /// As [`Self::parse`].
    pub(super) fn parse_running(query: &Query) -> Result<Self, ApiError> {
        let mut parsed = Self::parse(query)?;
        if query.get("limit").is_none() {
            parsed.limit = usize::MAX;
        }
        if parsed.states.is_empty() {
            parsed.states.push(State::Running);
        }
        Ok(parsed)
    }

    /// Returns true if the list shows sandboxes of this state.
    pub(super) fn shows(&self, state: State) -> bool {
        self.states.is_empty() || self.states.contains(&state)
    }

    /// Returns the page, in order, and the token of the next page if there is one.
    pub(super) fn page<T>(&self, mut all: Vec<(Key, T)>) -> (Vec<T>, Option<String>) {
        let order = self.order;
        if let Some(after) = &self.after {
            all.retain(|(key, _)| order.compare(key, after) == Ordering::Greater);
        }
        let has_more = all.len() > self.limit;
        if has_more {
            // Only the page is sorted, not everything that the user has.
            all.select_nth_unstable_by(self.limit - 1, |(one, _), (other, _)| order.compare(one, other));
            all.truncate(self.limit);
        }
        all.sort_unstable_by(|(one, _), (other, _)| order.compare(one, other));
        let next = all.last().filter(|_| has_more).map(|(last, _)| self.token(last));
        (all.into_iter().map(|(_, item)| item).collect(), next)
    }

    fn token(&self, last: &Key) -> String {
        let (order, filter) = (self.order.as_str(), self.fingerprint());
        URL_SAFE_NO_PAD.encode(format!("{}__{filter}__{order}__{}", last.started, last.id))
    }

    fn cursor(&self, token: &str) -> Result<Key, ApiError> {
        let invalid = || ApiError::bad_request("Invalid next token");
        if token.len() > LONGEST_CURSOR {
            return Err(invalid());
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| invalid())?;
        let text = String::from_utf8(bytes).map_err(|_| invalid())?;
        let mut parts = text.splitn(4, "__");
        let mut part = || parts.next().ok_or_else(invalid);
        let started = part()?.parse().map_err(|_| invalid())?;
        let (filter, order, id) = (part()?, part()?, part()?);
        if order != self.order.as_str() || filter != self.fingerprint() || id.is_empty() {
            return Err(invalid());
        }
        Ok(Key { started, id: id.to_owned() })
    }

    /// Tells filters apart: a token is only good for the list that it was made in.
    fn fingerprint(&self) -> String {
        let mut metadata = self.metadata.clone();
        metadata.sort_unstable();
        let shown = [State::Running, State::Paused].map(|state| self.shows(state));
        let filter = serde_json::json!([
            metadata,
            shown,
            self.started_after.map(|time| time.to_string()),
            self.template
        ]);
        let mut text = sha256_hex(filter.to_string().as_bytes());
        text.truncate(FINGERPRINT);
        text
    }
}

/// Reads the filter of metadata. The query has decoded it once. The SDKs escape the whole text again, and in it each key
/// and each value.
fn metadata(text: &str) -> Result<Vec<(String, String)>, ApiError> {
    let mut pairs = Vec::new();
    for part in unescape(text)?.split('&') {
        let (key, value) = part
            .split_once('=')
            .filter(|(_, value)| !value.contains('='))
            .ok_or_else(|| ApiError::bad_request("metadata: expected key=value pairs joined by &"))?;
        if pairs.len() == MOST_PAIRS {
            return Err(ApiError::bad_request("metadata: too many pairs"));
        }
        pairs.push((unescape(key)?, unescape(value)?));
    }
    Ok(pairs)
}

fn states(text: &str) -> Result<Vec<State>, ApiError> {
    let state = |word: &str| match word {
        "running" => Ok(State::Running),
        "paused" => Ok(State::Paused),
        _ => Err(ApiError::bad_request(format!("state: expected running or paused, not {}", quoted(word)))),
    };
    text.split(',').map(state).collect()
}

fn limit(text: &str) -> Result<usize, ApiError> {
    // FromStr would also accept a sign.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let limit = text.parse().ok().filter(|limit| digits && (1..=MOST).contains(limit));
    limit.ok_or_else(|| ApiError::bad_request(format!("limit: expected a number from 1 to {MOST}")))
}

fn order(text: &str) -> Result<Order, ApiError> {
    match text {
        "asc" => Ok(Order::Asc),
        "desc" => Ok(Order::Desc),
        _ => Err(ApiError::bad_request("order: expected asc or desc")),
    }
}

fn started_after(text: &str) -> Result<Timestamp, ApiError> {
    // A plus sign that was not escaped has become a space.
    text.replace(' ', "+").parse().map_err(|_| {
        ApiError::bad_request("startedAfter: expected a time with an offset, such as 2030-01-01T00:00:00Z")
    })
}

fn template(text: &str) -> Result<String, ApiError> {
    if text.contains(':') {
        return Err(ApiError::bad_request("template: expected an id or an alias without a tag"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(query: &str) -> Result<ListQuery, ApiError> {
        ListQuery::parse(&Query::parse(query).unwrap())
    }

    fn pairs(query: &str) -> Vec<(String, String)> {
        parse(query).unwrap().metadata
    }

    #[test]
    fn e2b_2_5_metadata_is_unescaped_three_times() {
        assert_eq!(pairs("metadata=b%25252B%3Dx%252520y"), [("b+".to_owned(), "x y".to_owned())]);
        assert_eq!(pairs("metadata=a%3D1"), [("a".to_owned(), "1".to_owned())]);
        // The value `a b@c/d=e&f` of the key `user id`, as the SDK sends it.
        let sent = "metadata=run%3D1%26user%252520id%3Da%252520b%252540c%25252Fd%25253De%252526f";
        let expected = [("run", "1"), ("user id", "a b@c/d=e&f")];
        assert_eq!(pairs(sent), expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
        assert_eq!(pairs("metadata="), []);
        assert_eq!(pairs("metadata=a+b%3Dc%2Bd"), [("a b".to_owned(), "c d".to_owned())]);
    }

    #[test]
    fn e2b_2_5_the_list_without_pages_is_whole_unless_it_is_limited() {
        for (query, expected) in [("", 150), ("limit=7", 7)] {
            let list = ListQuery::parse_running(&Query::parse(query).unwrap()).unwrap();
            let all = (0..150).map(|id| (Key { started: 0, id: id.to_string() }, id));
            assert_eq!(list.page(all.collect()).0.len(), expected, "{query}");
        }
    }

    #[test]
    fn e2b_2_5_what_is_not_accepted_is_refused() {
        for query in [
            "metadata=a",
            "metadata=a%3D1%3D2",
            "metadata=a%3D1%26",
            "state=dead",
            "state=running,dead",
            "limit=0",
            "limit=101",
            "limit=x",
            "limit=%2B5",
            "limit=-1",
            "order=newest",
            "startedAfter=2030-01-01",
            "startedAfter=2030-01-01T00:00:00",
            "template=a:b",
            "nextToken=!",
            "nextToken=AAAA",
        ] {
            assert_eq!(parse(query).unwrap_err().status().as_u16(), 400, "{query}");
        }
        for query in [
            "",
            "state=",
            "state=running%2Cpaused",
            "limit=1",
            "limit=100",
            "order=asc",
            "startedAfter=2026-01-01T00%3A00%3A00%2B00%3A00",
            "startedAfter=2026-01-01T00:00:00+00:00",
            "template=x",
            "unknown=y",
        ] {
            parse(query).unwrap();
        }
        let parsed = parse("state=paused").unwrap();
        assert!(parsed.shows(State::Paused) && !parsed.shows(State::Running));
    }

    fn keys(all: &[(i64, &str)]) -> Vec<(Key, String)> {
        let key = |(started, id): &(i64, &str)| {
            let key = Key { started: *started, id: (*id).to_owned() };
            (key, (*id).to_owned())
        };
        all.iter().map(key).collect()
    }

    #[test]
    fn e2b_2_5_the_order_is_by_time_and_then_by_id_and_asc_is_the_exact_reverse() {
        let all = [(1, "b"), (2, "d"), (1, "a"), (2, "c")];
        let (desc, none) = parse("").unwrap().page(keys(&all));
        assert_eq!((desc.join(""), none), ("cdab".to_owned(), None));
        let (asc, _) = parse("order=asc").unwrap().page(keys(&all));
        assert_eq!(asc.join(""), "badc");
    }

    #[test]
    fn e2b_2_5_a_token_is_good_for_its_own_list_only() {
        let all = [(1, "a__b"), (2, "b")];
        let (first, token) = parse("limit=1&order=desc").unwrap().page(keys(&all));
        let token = token.unwrap();
        assert_eq!(first, ["b"]);
        let (second, none) = parse(&format!("limit=1&nextToken={token}")).unwrap().page(keys(&all));
        assert_eq!((second, none), (vec!["a__b".to_owned()], None));
        for other in
            ["order=asc", "state=paused", "metadata=a%3D1", "template=x", "startedAfter=2030-01-01T00:00:00Z"]
        {
            let error = parse(&format!("{other}&nextToken={token}")).unwrap_err();
            assert_eq!(error, ApiError::bad_request("Invalid next token"), "{other}");
        }
        // Both states are the same as none.
        parse(&format!("state=paused,running&nextToken={token}")).unwrap();
    }

    #[test]
    fn e2b_5_1_a_full_last_page_has_no_token() {
        let (page, token) = parse("limit=2").unwrap().page(keys(&[(1, "a"), (2, "b")]));
        assert_eq!((page.len(), token), (2, None));
    }

    proptest! {
        /// Sandboxes that are created between the pages are newer than all others.
        #[test]
        fn pages_show_each_sandbox_once_whatever_is_created_or_removed_meanwhile(
            times in prop::collection::vec(0..4_i64, 0..30),
            limit in 1..6_usize,
            asc in any::<bool>(),
            created in prop::collection::vec(any::<bool>(), 40),
        ) {
            let order = if asc { "asc" } else { "desc" };
            let mut all: Vec<(Key, String)> = times.iter().enumerate().map(|(number, started)| {
                let id = format!("id-{number:02}");
                (Key { started: *started, id: id.clone() }, id)
            }).collect();
            let before = all.clone();
            let (unpaged, _) = parse(&format!("order={order}")).unwrap().page(all.clone());
            let (mut seen, mut token) = (Vec::new(), String::new());
            for (page, is_created) in created.into_iter().enumerate() {
                let query = parse(&format!("order={order}&limit={limit}{token}")).unwrap();
                let (items, next) = query.page(all.clone());
                prop_assert!(items.len() <= limit);
                seen.extend(items);
                let Some(next) = next else { break };
                token = format!("&nextToken={next}");
                if is_created {
                    let id = format!("new-{page}");
                    all.push((Key { started: 9, id: id.clone() }, id));
                }
            }
            seen.retain(|id| before.iter().any(|(_, known)| known == id));
            prop_assert_eq!(seen, unpaged);
        }

        #[test]
        fn any_token_is_answered(token in "[A-Za-z0-9_-]{0,40}") {
            let _ = parse(&format!("nextToken={token}"));
        }
    }
}
