//! The gate: whoever moderates the server is asked before somebody is invited, joins or knocks through it, and whether
//! what users of other servers send besides events is taken.
//!
//! The answer is this server's alone: an event of another server that is in a room's history already is not judged by it.

use std::sync::Arc;

use spec::ids::{RoomId, UserId};

use crate::error::RoomError;
use crate::membership::Membership;
use crate::rooms::Rooms;

/// What somebody wants to do through this server.
#[derive(Clone, Copy, Debug)]
pub struct Deed<'a> {
    /// Whom it makes a member of which kind: [`Membership::Invite`], [`Membership::Join`] or [`Membership::Knock`].
    pub membership: Membership,
    /// Who acts.
    pub sender: &'a UserId,
    /// Whose membership changes.
    pub target: &'a UserId,
    /// The room; `None` while it is being made.
    pub room: Option<&'a RoomId>,
}

/// Whoever moderates the server. Asked in the course of requests: it answers from memory.
pub trait Gate: Send + Sync {
    /// Whether this server takes part in it; otherwise the reason, as the one who acts is told it.
    ///
    /// # Errors
    /// The reason.
    fn judge(&self, deed: &Deed<'_>) -> Result<(), &'static str>;

    /// Whether this server takes what a user of another server sends besides events: typing, receipts, presence, messages
    /// to devices.
    fn hears(&self, user: &UserId) -> bool;
}

impl Rooms {
    /// Sets who is asked from now on. The first one stays.
    pub fn set_gate(&self, gate: Arc<dyn Gate>) {
        if self.gate.set(gate).is_err() {
            tracing::warn!("there is somebody at the gate already");
        }
    }

    /// Asks whether this server takes part in something. Changes of membership by this server's users are asked for by
    /// the functions that make them; edges ask for what other servers want. Into a blocked room nobody comes.
    ///
    /// # Errors
    /// [`RoomError::Refused`] with the reason.
    pub fn check_gate(&self, deed: &Deed<'_>) -> Result<(), RoomError> {
        let asks = matches!(deed.membership, Membership::Invite | Membership::Join | Membership::Knock);
        if let Some(room) = deed.room.filter(|_| asks) {
            self.expect_unblocked(room)?;
        }
        match self.gate.get().filter(|_| asks) {
            Some(gate) => gate.judge(deed).map_err(RoomError::Refused),
            None => Ok(()),
        }
    }

    /// [`Gate::hears`]; without a gate everybody is heard.
    #[must_use]
    pub fn hears(&self, user: &UserId) -> bool {
        self.gate.get().is_none_or(|gate| gate.hears(user))
    }
}
