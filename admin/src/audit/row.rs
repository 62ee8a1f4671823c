//! What is stored of an action.

use serde::{Deserialize, Serialize};
use storage::{Keyspace, Profile, stored};

use crate::caller::Face;

/// Number of the record → the record. The number begins with the time, so that times are ranges of numbers.
pub(crate) const AUDIT: Keyspace<u64, AuditRow> = Keyspace::new("admin_audit", Profile::Log);

/// How an action ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// It has begun; if that stays, it was interrupted.
    Begun,
    /// It was done.
    Done,
    /// Who asked may not, or nobody may.
    Refused,
    /// It failed.
    Failed,
}

impl Ending {
    /// As it is shown.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Ending::Begun => "begun",
            Ending::Done => "done",
            Ending::Refused => "refused",
            Ending::Failed => "failed",
        }
    }
}

/// A record. Times are in milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRow {
    /// When it began.
    pub at_ms: u64,
    /// When it was last completed or repeated.
    pub last_ms: u64,
    /// Who: a user id, `operator` or `server`.
    pub who: String,
    /// Through what.
    pub face: Face,
    /// What.
    pub operation: String,
    /// With which arguments: a JSON object.
    pub arguments: String,
    /// How it ended.
    pub ending: Ending,
    /// What was said about it, if it did not go well.
    pub message: Option<String>,
    /// How often it happened.
    pub count: u32,
}
stored!(AuditRow, 1);
