//! What is stored of a job.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use storage::{Keyspace, Profile, stored};

use crate::caller::Face;
use crate::outcome::{Cell, Outcome};

/// Number of the job → the job.
pub(crate) const JOBS: Keyspace<u64, JobRow> = Keyspace::new("admin_jobs", Profile::Points);

/// The number of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct JobId(pub u64);

impl FromStr for JobId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(JobId).map_err(|_| "expected the number of a job".to_owned())
    }
}

/// What an operation answers that leaves its work to a job.
impl From<JobId> for Outcome {
    fn from(job: JobId) -> Outcome {
        Outcome::record(vec![("job", Cell::number(job.0))])
    }
}

impl std::fmt::Display for JobId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobState {
    /// It waits for others of its kind.
    Queued,
    /// Steps are being done.
    Running,
    /// It stops after its present step.
    Cancelling,
    /// It is done.
    Done,
    /// It failed.
    Failed,
    /// Somebody stopped it.
    Cancelled,
}

impl JobState {
    /// As it is shown.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            JobState::Queued => "queued",
            JobState::Running => "running",
            JobState::Cancelling => "cancelling",
            JobState::Done => "done",
            JobState::Failed => "failed",
            JobState::Cancelled => "cancelled",
        }
    }

    /// Whether nothing more will happen.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, JobState::Done | JobState::Failed | JobState::Cancelled)
    }
}

/// A job. Times are in milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRow {
    /// Its kind.
    pub kind: String,
    /// What it is done to, such as a room id.
    pub target: Option<String>,
    /// Its arguments, in JSON.
    pub arguments: String,
    /// Where its next step begins, in JSON; nothing before the first.
    pub cursor: Option<String>,
    /// How far it is.
    pub state: JobState,
    /// What is being done, for people.
    pub progress: String,
    /// How much is done.
    pub done: u64,
    /// Of how much, if that is known.
    pub total: Option<u64>,
    /// What came of it, in JSON.
    pub result: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
    /// Who started it: a user id, `operator` or `server`.
    pub who: String,
    /// Through what.
    pub face: Face,
    /// When it was asked for.
    pub created_ms: u64,
    /// When its first step began.
    pub started_ms: Option<u64>,
    /// When it was over.
    pub ended_ms: Option<u64>,
}
stored!(JobRow, 1);
