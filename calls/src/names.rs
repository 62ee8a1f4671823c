//! How calls and participants are called on the media server (MSC4195 §LiveKit room alias and participant identity).
//!
//! Clients compute these names as well, to tell whose media they see: they have to be these exactly. For the media
//! server they are opaque.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde_json::Value;
use sha2::{Digest, Sha256};
use spec::canonical;
use spec::ids::{RoomId, UserId};

/// The slot of the one call that a room has for clients that know no slots.
pub const CALL_SLOT: &str = "m.call#ROOM";

/// The media server's name of the call in a slot of a room; the same for clients of all generations.
#[must_use]
pub fn room_name(room: &RoomId, slot: &str) -> String {
    hash(&[room.as_str(), slot])
}

/// A participant's name as clients expect it that keep their membership in room state.
pub(crate) fn plain_identity(user: &UserId, device: &str) -> String {
    format!("{user}:{device}")
}

/// A participant's name where the membership is a sticky event: of user, device (if its client names it) and member.
pub(crate) fn hashed_identity(user: &UserId, device: Option<&str>, member: &str) -> String {
    match device {
        Some(device) => hash(&[user.as_str(), device, member]),
        None => hash(&[user.as_str(), member]),
    }
}

/// Unpadded base64 of the SHA-256 of the canonical JSON array of these texts.
fn hash(parts: &[&str]) -> String {
    let array: Vec<Value> = parts.iter().map(|part| Value::from(*part)).collect();
    STANDARD_NO_PAD.encode(Sha256::digest(canonical::write(&Value::Array(array))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_proposal() {
        let alice = UserId::parse("@alice:example.com").unwrap();
        let room = RoomId::parse("!roomid:example.com").unwrap();
        assert_eq!(room_name(&room, "slot1234"), "O8437W3+jmzMVjoIP3tNwbm+XxHQk2iKpOA7aqw3qSc");
        let by_device = hashed_identity(&alice, Some("DEVICE123"), "memberABC");
        assert_eq!(by_device, "J+T45tGruxc+HrUOqJJlyQSV33m728Cme4+vt8/SWrU");
        let by_member = hashed_identity(&alice, None, "memberABC");
        assert_eq!(by_member, "M3VnsLXrkbxIDINXO64u8PZzFyD9ZYFiQULR2dshWYs");
        assert_eq!(plain_identity(&alice, "DEVICE123"), "@alice:example.com:DEVICE123");
    }

    #[test]
    fn parts_are_kept_apart() {
        let alice = UserId::parse("@alice:example.com").unwrap();
        assert_ne!(hashed_identity(&alice, Some("a"), "b"), hashed_identity(&alice, Some("a\",\"b"), ""));
        assert_ne!(hashed_identity(&alice, Some("a"), "b"), hashed_identity(&alice, None, "ab"));
    }
}
