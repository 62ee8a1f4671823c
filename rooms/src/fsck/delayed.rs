//! Checks of delayed events: each is found by its time, its owner and the state that it would set. An index may name a
//! row that has moved on; so only what is missing is wrong.

use storage::{Read, Store};

use super::Findings;
use crate::delayed::DelayedOutcome;
use crate::error::RoomError;
use crate::keyspaces::{DELAYED, DELAYED_DUE, DELAYED_OF_STATE, DELAYED_OF_USER};

pub(super) fn check_delayed(store: &Store, findings: &mut Findings) -> Result<(), RoomError> {
    for row in store.scan(&DELAYED, &()).iter() {
        let (id, row) = row?;
        let (pos, row) = (row.pos, row.value);
        let place = format!("delayed event of user {}", row.owner.0);
        let ended_at = row.outcome.as_ref().map(DelayedOutcome::at_ms);
        findings.expect(store.contains(&DELAYED_DUE, &(row.due_ms, pos, id.clone()))?, &place, || {
            format!("nothing will be done with it at {}", row.due_ms)
        });
        let of_user = (row.owner, ended_at.is_some(), ended_at.unwrap_or(row.due_ms), id.clone());
        findings
            .expect(store.contains(&DELAYED_OF_USER, &of_user)?, &place, || "its owner does not have it".to_owned());
        if let (Some(state_key), None) = (&row.state_key, ended_at) {
            let of_state = (row.room, row.kind.to_string(), state_key.to_string(), id);
            findings.expect(store.contains(&DELAYED_OF_STATE, &of_state)?, &place, || {
                "it is not found by the state that it sets".to_owned()
            });
        }
    }
    Ok(())
}
