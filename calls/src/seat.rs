//! What a client asks for: a place in a call, under the name of one of its devices.

use spec::ids::{RoomId, UserId};

use crate::error::CallError;
use crate::names::{hashed_identity, plain_identity, room_name};

/// The longest slot, device or member id, in bytes: that of other identifiers of Matrix.
const MAX_NAME: usize = 255;

/// A place in a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    /// The Matrix room.
    pub room: RoomId,
    /// The slot of the room ([`crate::CALL_SLOT`] for clients that know none).
    pub slot: String,
    /// As what its user is there.
    pub member: Member,
    /// The device that asks for it, where that is known and not only said.
    pub device: Option<String>,
}

/// As what a user takes part, as the three generations of clients say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Member {
    /// As a device, with the membership in room state.
    Device(String),
    /// As a member whose client names its device.
    Claimed {
        /// The `member.id` of the membership event.
        id: String,
        /// The device.
        device: String,
    },
    /// As a member, with nothing said of its device.
    Id(String),
}

impl Member {
    /// The device that is named.
    #[must_use]
    pub fn device(&self) -> Option<&str> {
        match self {
            Member::Device(device) | Member::Claimed { device, .. } => Some(device),
            Member::Id(_) => None,
        }
    }
}

impl Seat {
    /// Refuses what is empty or too long to be a name.
    ///
    /// # Errors
    /// [`CallError::BadRequest`].
    pub(crate) fn check(&self) -> Result<(), CallError> {
        let member = match &self.member {
            Member::Device(_) => None,
            Member::Claimed { id, .. } | Member::Id(id) => Some(id.as_str()),
        };
        let names = [Some(self.slot.as_str()), self.member.device(), member];
        names.into_iter().flatten().try_for_each(check_name)
    }

    /// The device that sits there, as far as it is known or said.
    pub(crate) fn any_device(&self) -> Option<&str> {
        self.device.as_deref().or(self.member.device())
    }

    /// The media server's names of the call and of the user in it.
    pub(crate) fn names(&self, user: &UserId) -> LegKey {
        let identity = match &self.member {
            Member::Device(device) => plain_identity(user, device),
            Member::Claimed { id, device } => hashed_identity(user, Some(device), id),
            Member::Id(id) => hashed_identity(user, None, id),
        };
        LegKey { room: room_name(&self.room, &self.slot), identity }
    }
}

/// Refuses what is empty or too long to be a slot, device or member id.
///
/// # Errors
/// [`CallError::BadRequest`].
pub(crate) fn check_name(name: &str) -> Result<(), CallError> {
    match name.len() {
        1..=MAX_NAME => Ok(()),
        _ => Err(CallError::BadRequest("a slot, device or member id has 1 to 255 bytes")),
    }
}

/// A participant of a call, by the names that the media server knows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LegKey {
    /// The call.
    pub room: String,
    /// Who is in it.
    pub identity: String,
}

impl LegKey {
    /// As the key of a row.
    pub fn row_key(&self) -> (String, String) {
        (self.room.clone(), self.identity.clone())
    }
}

impl From<(String, String)> for LegKey {
    fn from((room, identity): (String, String)) -> LegKey {
        LegKey { room, identity }
    }
}
