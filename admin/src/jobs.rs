//! Jobs: work that takes long, in small steps.
//!
//! A job is a row. Each step is small and can be repeated; where the next one begins is stored after each, so that a
//! restart resumes the job there. Jobs of one kind run one after the other, and rest between steps as long as the steps
//! take, at most a second, so that live traffic has its turn.

mod kind;
mod row;
mod runner;
mod table;

pub use kind::{JobKind, Progress, Step};
pub(crate) use row::JOBS;
pub use row::{JobId, JobRow, JobState};
pub(crate) use runner::start_runners;
pub use table::{JobPage, JobQuery, Jobs};

#[cfg(test)]
mod tests;
