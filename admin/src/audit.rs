//! The audit log: who did what, when, through which face, and how it ended. Append-only: a record is completed when what
//! it tells of ends, and equal ones within a minute are one with a count; nobody can take one out before its time.

mod log;
pub(crate) mod operations;
mod retention;
mod row;
mod security;

pub use log::{Audit, AuditPage, AuditQuery, NewRecord, RecordId};
pub(crate) use retention::start_forgetting;
pub(crate) use row::AUDIT;
pub use row::{AuditRow, Ending};
pub(crate) use security::start_recording;

#[cfg(test)]
mod tests;
