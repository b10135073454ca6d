//! Tests that a hold of one side excludes the other side until it is released.

use std::sync::Arc;

use super::error::WaitAction;
use super::holds::Holds;

const PAUSE: WaitAction = WaitAction::new("Pause");
const RESUME: WaitAction = WaitAction::new("Resume");

#[test]
fn f4_holds_of_one_side_stack_and_are_gone_with_the_last() {
    let holds = Arc::new(Holds::new());
    let first = holds.acquire("a".into(), PAUSE).unwrap();
    let second = holds.acquire("a".into(), PAUSE).unwrap();
    drop(first);
    assert_eq!(holds.acquire("a".into(), RESUME).err(), Some(PAUSE));
    drop(second);
    assert_eq!(holds.len(), 0);
    assert!(holds.acquire("a".into(), RESUME).is_ok());
}
