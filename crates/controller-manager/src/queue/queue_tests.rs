//! Single behaviours of the queue, under paused time.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use shared_cache::{DeletionReason, Delta};
use shared_cache::{Event, ObjectKey, Observer, Snapshot};
use tokio::time::{Instant, advance};

use super::attempt::{Attempt, Outcome, Work};
use super::gauges::{Depth, QueueGauges};
use super::options::QueueOptions;
use super::test_support::{applied, batch, deleted, deletion, name, object, queue};
use super::work_queue::WorkQueue;

fn snapshot(objects: Vec<Arc<ConfigMap>>) -> Snapshot<ConfigMap> {
    Snapshot { objects, sequence: 0, synced: true, closed: None }
}

fn default_queue() -> WorkQueue<ConfigMap> {
    queue(&QueueOptions::default())
}

fn names(queue: &WorkQueue<ConfigMap>) -> Vec<String> {
    std::iter::from_fn(|| queue.pop().ok()).map(|attempt| name(&attempt)).collect()
}

fn finish(queue: &WorkQueue<ConfigMap>, attempt: &Attempt<ConfigMap>, outcome: Outcome) {
    queue.finish(&attempt.key, matches!(attempt.work, Work::Deletion(_)), outcome);
}

#[tokio::test(start_paused = true)]
async fn x5_changes_go_before_the_initial_list() {
    let queue = default_queue();
    queue.start_from(snapshot((0..10).map(|n| object(&format!("old-{n}"), "1", 1)).collect()));
    queue.observe(&batch(1, applied(&object("new", "1", 2))));
    queue.observe(&batch(2, applied(&object("old-7", "1", 3))));
    assert_eq!(queue.depth(), Depth { high: 2, low: 10 });
    let names = names(&queue);
    assert_eq!(names[..3], ["new", "old-7", "old-0"]);
    assert_eq!(names.len(), 11, "{names:?}");
    assert_eq!(queue.depth(), Depth::default());
}

#[tokio::test(start_paused = true)]
async fn x5_an_object_that_waits_for_its_first_run_is_not_kept_in_memory() {
    let queue = default_queue();
    let (mut first, other) = (object("a", "1", 1), object("", "2", 2));
    queue.start_from(snapshot(vec![Arc::clone(&first), other]));
    assert!(Arc::get_mut(&mut first).is_some(), "the queue holds the object");
    let versions: Vec<_> = std::iter::from_fn(|| queue.pop().ok())
        .map(|attempt| match attempt.work {
            Work::Present { initial } => (attempt.key.object_key().to_string(), initial),
            Work::Deletion(_) => panic!("nothing was deleted"),
        })
        .collect();
    assert_eq!(versions, [("ns/a".to_owned(), Some(Some(1))), ("ns/".to_owned(), Some(Some(2)))]);
}

#[tokio::test(start_paused = true)]
async fn x5_a_steady_stream_of_changes_does_not_hold_up_the_initial_list_for_ever() {
    let queue = default_queue();
    queue.start_from(snapshot(vec![object("old", "1", 1)]));
    for turn in 1.. {
        queue.observe(&batch(turn, applied(&object("busy", "1", turn))));
        let attempt = queue.pop().unwrap();
        finish(&queue, &attempt, Outcome::Done);
        if name(&attempt) == "old" {
            break;
        }
        assert!(turn < 100, "it still waits");
    }
}

#[tokio::test(start_paused = true)]
async fn x5_retries_of_the_initial_list_yield_to_changes_until_something_happens_to_the_key() {
    let queue = default_queue();
    queue.start_from(snapshot(vec![object("a", "1", 1), object("b", "1", 1)]));
    for _ in 0..2 {
        let attempt = queue.pop().unwrap();
        finish(&queue, &attempt, Outcome::Requeue(Duration::from_secs(1)));
    }
    advance(Duration::from_secs(1)).await;
    queue.observe(&batch(1, applied(&object("new", "1", 2))));
    queue.observe(&batch(2, applied(&object("b", "1", 3))));
    assert_eq!(names(&queue), ["new", "b", "a"]);
}

#[tokio::test(start_paused = true)]
async fn r5_a_key_that_runs_is_not_handed_out_again() {
    let queue = default_queue();
    queue.observe(&batch(1, applied(&object("a", "1", 1))));
    let running = queue.pop().unwrap();
    queue.observe(&batch(2, applied(&object("a", "1", 2))));
    queue.observe(&batch(3, applied(&object("a", "1", 3))));
    assert!(queue.pop().is_err());
    finish(&queue, &running, Outcome::Done);
    let again = queue.pop().unwrap();
    finish(&queue, &again, Outcome::Done);
    assert!(queue.pop().is_err(), "one more, not two");
    assert_eq!(queue.remembered(), 0);
}

#[tokio::test(start_paused = true)]
async fn x2_the_next_run_is_the_sooner_of_the_wish_and_the_back_off() {
    let options = QueueOptions { first_backoff: Duration::from_secs(10), ..QueueOptions::default() };
    for (wish, expected) in [(None, 10), (Some(3), 3), (Some(30), 10)] {
        let queue = queue(&options);
        queue.observe(&batch(1, applied(&object("a", "1", 1))));
        let attempt = queue.pop().unwrap();
        finish(&queue, &attempt, Outcome::Failed { wish: wish.map(Duration::from_secs) });
        let due = queue.pop().unwrap_err().unwrap();
        assert_eq!(due.duration_since(Instant::now()), Duration::from_secs(expected), "{wish:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_of_a_waiting_key_runs_it_at_once_and_cancels_the_time() {
    let queue = default_queue();
    queue.observe(&batch(1, applied(&object("a", "1", 1))));
    let attempt = queue.pop().unwrap();
    finish(&queue, &attempt, Outcome::Requeue(Duration::MAX));
    assert!(queue.pop().is_err());
    queue.observe(&batch(2, applied(&object("a", "1", 2))));
    let attempt = queue.pop().unwrap();
    finish(&queue, &attempt, Outcome::Done);
    assert!(queue.pop().unwrap_err().is_none(), "nothing is due any more");
    assert_eq!(queue.remembered(), 0);
}

#[tokio::test(start_paused = true)]
async fn x1_one_deletion_is_owed_though_the_name_was_deleted_three_times() {
    let queue = default_queue();
    let [a, b, c] = ["1", "2", "3"].map(|uid| object("a", uid, 1));
    queue.observe(&batch(1, deleted(&a)));
    let attempt = queue.pop().unwrap();
    assert_eq!(deletion(&attempt), Some("1"));
    queue.observe(&batch(2, applied(&b)));
    queue.observe(&batch(3, deleted(&b)));
    queue.observe(&batch(4, applied(&c)));
    finish(&queue, &attempt, Outcome::Requeue(Duration::from_mins(1)));
    let attempt = queue.pop().unwrap();
    assert_eq!(deletion(&attempt), Some("1"), "it is owed still, and something has happened");
    finish(&queue, &attempt, Outcome::Done);
    let attempt = queue.pop().unwrap();
    assert_eq!(deletion(&attempt), None, "the third object");
    queue.observe(&batch(5, deleted(&c)));
    finish(&queue, &attempt, Outcome::Failed { wish: None });
    let attempt = queue.pop().unwrap();
    assert_eq!(deletion(&attempt), Some("3"));
    finish(&queue, &attempt, Outcome::Done);
    assert_eq!(queue.remembered(), 0);
}

#[tokio::test(start_paused = true)]
async fn x1_an_attempt_that_has_read_a_successor_shows_the_deletion_first() {
    let queue = default_queue();
    let (a, b) = (object("a", "1", 1), object("a", "2", 3));
    queue.observe(&batch(1, applied(&a)));
    let attempt = queue.pop().unwrap();
    assert!(deletion(&attempt).is_none());
    // The store has deleted `a` and created `b`; the observer is called only now.
    let mut observed = Box::pin(queue.wait_until_observed(3));
    assert!(futures::poll!(&mut observed).is_pending());
    queue.observe(&batch(2, deleted(&a)));
    assert!(futures::poll!(&mut observed).is_pending());
    queue.observe(&batch(3, applied(&b)));
    assert!(futures::poll!(&mut observed).is_ready());
    let owed = queue.owed(&attempt.key).unwrap();
    assert_eq!(owed.last_known.metadata.uid.as_deref(), Some("1"));
    queue.finish(&attempt.key, true, Outcome::Done);
    let attempt = queue.pop().unwrap();
    assert!(deletion(&attempt).is_none());
    assert!(queue.owed(&attempt.key).is_none(), "the successor may be shown");
}

#[tokio::test(start_paused = true)]
async fn x3_the_true_end_of_an_object_follows_the_report_that_it_is_undecodable() {
    let hidden = |object: &Arc<ConfigMap>| Delta::Deleted {
        last_known: Arc::clone(object),
        reason: DeletionReason::Undecodable,
    };
    let reason = |attempt: &Attempt<ConfigMap>| match &attempt.work {
        Work::Deletion(owed) => Some(owed.reason),
        Work::Present { .. } => None,
    };
    let (queue, a) = (default_queue(), object("a", "1", 1));
    // Before the first report is taken, and while its handlers run.
    queue.observe(&batch(1, hidden(&a)));
    queue.observe(&batch(2, deleted(&a)));
    let attempt = queue.pop().unwrap();
    assert_eq!(reason(&attempt), Some(DeletionReason::Removed));
    finish(&queue, &attempt, Outcome::Done);
    assert!(queue.pop().is_err());

    queue.observe(&batch(3, hidden(&a)));
    let attempt = queue.pop().unwrap();
    assert_eq!(reason(&attempt), Some(DeletionReason::Undecodable));
    queue.observe(&batch(4, deleted(&a)));
    finish(&queue, &attempt, Outcome::Done);
    let attempt = queue.pop().unwrap();
    assert_eq!(reason(&attempt), Some(DeletionReason::Removed));
    finish(&queue, &attempt, Outcome::Done);
    assert_eq!(queue.remembered(), 0);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_batch_ends_when_none_will_come() {
    let queue = default_queue();
    let mut observed = Box::pin(queue.wait_until_observed(1));
    assert!(futures::poll!(&mut observed).is_pending());
    queue.closed(true);
    assert!(futures::poll!(&mut observed).is_ready());
}

#[tokio::test(start_paused = true)]
async fn x4_a_postponed_key_keeps_its_number_of_errors() {
    let queue = default_queue();
    queue.observe(&batch(1, applied(&object("a", "1", 1))));
    let delays = [
        Outcome::Failed { wish: None },
        Outcome::Postponed(Duration::from_secs(1)),
        Outcome::Failed { wish: None },
    ]
    .map(|outcome| {
        let attempt = queue.pop().unwrap();
        finish(&queue, &attempt, outcome);
        let delay = queue.pop().unwrap_err().unwrap().duration_since(Instant::now());
        (delay, queue.trigger(&[ObjectKey::new("ns", "a")])).0
    });
    assert_eq!(delays, [5, 1000, 10].map(Duration::from_millis));
}

#[tokio::test(start_paused = true)]
async fn a_predicate_that_panics_loses_no_event() {
    let metrics = super::QueueMetricFamilies::register(&prometheus::Registry::new()).unwrap().of("test");
    let predicate = |event: &Event<ConfigMap>| {
        let uid = event.object().and_then(|object| object.metadata.uid.clone());
        assert_ne!(uid.as_deref(), Some("bad"), "a panic that belongs to the test");
        uid.as_deref() != Some("ignored")
    };
    let queue = WorkQueue::new(&QueueOptions::default(), Some(Box::new(predicate)), metrics);
    queue.start_from(snapshot(vec![
        object("a", "ignored", 1),
        object("b", "bad", 1),
        object("c", "good", 1),
    ]));
    queue.observe(&batch(1, applied(&object("d", "ignored", 2))));
    queue.observe(&batch(2, applied(&object("e", "bad", 2))));
    assert_eq!(names(&queue), ["e", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn memory_of_a_burst_is_given_back() {
    let queue = default_queue();
    for number in 1..=20_000 {
        queue.observe(&batch(number, applied(&object(&format!("key-{number}"), "1", number))));
    }
    assert!(queue.capacity() >= 20_000);
    while let Ok(attempt) = queue.pop() {
        finish(&queue, &attempt, Outcome::Done);
    }
    assert_eq!(queue.remembered(), 0);
    assert!(queue.capacity() <= 1024, "{}", queue.capacity());
}
