//! Changes of conditions by the conventions of the API (LC4): `lastTransitionTime` changes with the status only.

use jiff::Timestamp;

use crate::api::v1alpha1::{Condition, ConditionStatus, Generation, Symbol, Time};

/// Longest message that the CRDs accept, in characters.
const LONGEST_MESSAGE: usize = 32_768;

/// The conditions of a status, as its struct holds them.
pub(crate) type Conditions = Option<Vec<Condition>>;

/// Sets a condition, and replaces the one of the same type.
///
/// Nothing changes if status, reason and message are the same. So a condition that another controller wrote without
/// `observedGeneration` stays as it is. `generation` is that of the object that was observed.
pub(crate) fn set(
    conditions: &mut Conditions,
    type_: &str,
    status: ConditionStatus,
    (reason, message): (&str, &str),
    (generation, now): (Option<i64>, Timestamp),
) {
    let message: Symbol = shortened(message).into();
    let generation = generation.map(Generation::from);
    let list = conditions.get_or_insert_default();
    let Some(known) = list.iter_mut().find(|condition| condition.type_ == type_) else {
        list.push(Condition {
            last_transition_time: Some(Time::whole_seconds(now)),
            message,
            observed_generation: generation,
            reason: reason.into(),
            status,
            type_: type_.into(),
        });
        return;
    };
    let same = known.status == status && known.reason == reason && known.message == message;
    if same && known.observed_generation.is_none_or(|known| Some(known) == generation) {
        return;
    }
    if known.status != status {
        known.last_transition_time = Some(Time::whole_seconds(now));
    }
    (known.status, known.reason, known.message) = (status, reason.into(), message);
    known.observed_generation = generation;
}

/// Removes the condition of a type.
pub(crate) fn remove(conditions: &mut Conditions, type_: &str) {
    if let Some(list) = conditions {
        list.retain(|condition| condition.type_ != type_);
        if list.is_empty() {
            *conditions = None;
        }
    }
}

fn shortened(message: &str) -> &str {
    message.char_indices().nth(LONGEST_MESSAGE).map_or(message, |(end, _)| &message[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn ready(conditions: &mut Conditions, status: ConditionStatus, reason: &str, at_second: i64) {
        set(conditions, "Ready", status, (reason, "m"), (Some(at_second), at(at_second)));
    }

    #[test]
    fn lc4_the_transition_time_changes_with_the_status_only() {
        let mut conditions = None;
        ready(&mut conditions, ConditionStatus::False, "A", 1);
        ready(&mut conditions, ConditionStatus::False, "B", 2);
        let condition = &conditions.as_ref().unwrap()[0];
        assert_eq!(condition.last_transition_time, Some(at(1).into()));
        assert_eq!((&*condition.reason, condition.observed_generation), ("B", Some(2.into())));
        ready(&mut conditions, ConditionStatus::True, "B", 3);
        assert_eq!(conditions.as_ref().unwrap()[0].last_transition_time, Some(at(3).into()));
    }

    #[test]
    fn ls7_an_equal_condition_of_another_controller_is_left_as_it_is() {
        let mut conditions = None;
        ready(&mut conditions, ConditionStatus::True, "PodReady", 1);
        conditions.as_mut().unwrap()[0].observed_generation = None;
        let before = conditions.clone();
        ready(&mut conditions, ConditionStatus::True, "PodReady", 9);
        assert_eq!(conditions, before);
    }

    #[test]
    fn lc4_the_observed_generation_of_an_own_condition_follows_the_object() {
        let mut conditions = None;
        ready(&mut conditions, ConditionStatus::True, "PodReady", 1);
        ready(&mut conditions, ConditionStatus::True, "PodReady", 2);
        assert_eq!(conditions.unwrap()[0].observed_generation, Some(2.into()));
    }

    #[test]
    fn lc4_the_last_condition_that_is_removed_takes_the_list_with_it() {
        let mut conditions = None;
        ready(&mut conditions, ConditionStatus::True, "PodReady", 1);
        remove(&mut conditions, "Other");
        assert_eq!(conditions.as_ref().map(Vec::len), Some(1));
        remove(&mut conditions, "Ready");
        assert_eq!(conditions, None);
    }

    #[test]
    fn lc4_a_message_is_cut_at_the_limit_of_the_crd() {
        let mut conditions = None;
        let long = "ü".repeat(LONGEST_MESSAGE + 1);
        set(&mut conditions, "Ready", ConditionStatus::False, ("A", &long), (None, at(1)));
        assert_eq!(conditions.unwrap()[0].message.chars().count(), LONGEST_MESSAGE);
    }
}
