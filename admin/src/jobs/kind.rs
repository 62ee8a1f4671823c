//! What a kind of job is, and the list of them.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::admin::Admin;
use crate::entry::BoxFuture;
use crate::error::AdminError;

/// A kind of job.
pub trait JobKind: Send + Sync + 'static {
    /// Its name, such as `purge-room`: part of the stored format.
    const NAME: &'static str;
    /// What it is told to do. Part of the stored format, as JSON: new fields need `#[serde(default)]`.
    type Arguments: Serialize + DeserializeOwned + Send + Sync;
    /// Where a step begins; the first one at the default. Part of the stored format, as JSON of at most 32 KiB.
    type Cursor: Default + Serialize + DeserializeOwned + Send;

    /// What a job with these arguments is done to, by which it can be found, such as a room id; none for the whole server.
    fn target(arguments: &Self::Arguments) -> Option<String>;

    /// Does a little (some 100 rows, some 10 ms), beginning at `cursor`. It may be done again from the same cursor: after a
    /// crash the last step is repeated.
    ///
    /// An error for which [`AdminError::is_temporary`] holds is tried again later; any other ends the job.
    fn step(
        admin: &Admin,
        arguments: &Self::Arguments,
        cursor: Self::Cursor,
    ) -> impl Future<Output = Result<Step<Self::Cursor>, AdminError>> + Send;
}

/// What a step has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<C> {
    /// There is more to do, from here on.
    More(C, Progress),
    /// That was all. The value is the job's result, shown to whoever asks: an object.
    Done(Value),
}

/// How far a job is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// For people: `deleting events`.
    pub text: String,
    /// How much is done.
    pub done: u64,
    /// Of how much, if that is known.
    pub total: Option<u64>,
}

impl Progress {
    /// So much is done.
    pub fn new(text: impl Into<String>, done: u64, total: Option<u64>) -> Progress {
        Progress { text: text.into(), done, total }
    }
}

type StepOutcome = Result<Step<String>, AdminError>;

/// A kind of job, without its types.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// Arguments and cursor in JSON.
    pub(crate) step: fn(Admin, String, Option<String>) -> BoxFuture<StepOutcome>,
}

impl Kind {
    /// The kind without its types.
    pub(crate) fn of<K: JobKind>() -> Kind {
        Kind {
            name: K::NAME,
            step: |admin, arguments, cursor| {
                Box::pin(async move {
                    let arguments = serde_json::from_str(&arguments).map_err(AdminError::internal)?;
                    let cursor = match cursor {
                        Some(cursor) => serde_json::from_str(&cursor).map_err(AdminError::internal)?,
                        None => K::Cursor::default(),
                    };
                    Ok(match K::step(&admin, &arguments, cursor).await? {
                        Step::More(cursor, progress) => {
                            Step::More(serde_json::to_string(&cursor).map_err(AdminError::internal)?, progress)
                        }
                        Step::Done(result) => Step::Done(result),
                    })
                })
            },
        }
    }
}

/// Every kind of job. This list is the only one.
pub(crate) fn kinds() -> Vec<Kind> {
    vec![
        Kind::of::<crate::user::RedactJob>(),
        Kind::of::<crate::search::RebuildSearch>(),
        Kind::of::<crate::media::SweepMedia>(),
        Kind::of::<crate::room::DeleteRoom>(),
        Kind::of::<crate::room::PurgeHistory>(),
        Kind::of::<crate::policy::SweepPeople>(),
        #[cfg(test)]
        Kind::of::<super::tests::Count>(),
    ]
}
