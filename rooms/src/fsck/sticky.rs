//! Checks of sticky events: each is an event of the timeline that asks for it, and will be taken out.

use storage::{Read, Store};

use super::Findings;
use crate::error::RoomError;
use crate::keyspaces::TIMELINE;
use crate::sticky::{STICKY, STICKY_DUE};

pub(super) fn check_sticky(store: &Store, findings: &mut Findings) -> Result<(), RoomError> {
    for row in store.scan(&STICKY, &()).iter() {
        let ((room, seq), row) = row?;
        let place = format!("sticky event {} of room {}", seq.0, room.0);
        findings.expect(store.contains(&TIMELINE, &(room, seq))?, &place, || "there is no such event".to_owned());
        findings.expect(store.contains(&STICKY_DUE, &(row.expires_ms, room, seq))?, &place, || {
            format!("nothing will take it out at {}", row.expires_ms)
        });
    }
    Ok(())
}
