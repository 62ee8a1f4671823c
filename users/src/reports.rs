//! Reports of events, rooms and users, and what the server's moderators did about them.
//!
//! A report never changes. Its state is a row of its own, absent while nobody has taken the report up; a deleted report
//! is gone with its state. A report's id is the position that stored it.
//!
//! Client-Server API §"Reporting Content".

use rooms::{RoomNid, UserNid};
use serde::{Deserialize, Serialize};
use spec::ids::UserId;
use storage::{Batch, CommitError, Keyspace, Profile, Read, StreamPos, stored};
use tokio::sync::broadcast;

use crate::{UserError, Users};

pub(crate) const REPORTS: Keyspace<StreamPos, Report> = Keyspace::new("reports", Profile::Log);
pub(crate) const REPORT_STATES: Keyspace<StreamPos, ReportState> = Keyspace::new("report_states", Profile::Points);

/// The longest reason, and the longest note in an answer, in bytes.
pub const MAX_REPORT_TEXT_BYTES: usize = 4096;
/// How many reports may come before whoever waits for them falls behind.
const WAITING: usize = 256;

/// What a user reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Who reports.
    pub reporter: UserNid,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// The room that is reported, or that the event is in.
    pub room: Option<RoomNid>,
    /// The event that is reported.
    pub event_id: Option<String>,
    /// The user who is reported.
    pub user_id: Option<String>,
    /// Why.
    pub reason: String,
    /// From -100 (most offensive) to 0, where older clients say so.
    pub score: Option<i64>,
}
stored!(Report, 1);

/// What a report is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportKind {
    /// An event in a room.
    Event,
    /// A room.
    Room,
    /// A user.
    User,
}

/// How far a report is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReportState {
    /// Nobody has taken it up.
    #[default]
    Open,
    /// Somebody is to look into it.
    Assigned {
        /// Who.
        to: UserNid,
        /// Who said so.
        by: String,
        /// When, in milliseconds since 1970.
        at_ms: u64,
    },
    /// It was answered.
    Closed {
        /// By whom.
        by: String,
        /// When, in milliseconds since 1970.
        at_ms: u64,
        /// What was found or done.
        note: String,
    },
}
stored!(ReportState, 1);

impl ReportState {
    /// The word for it: `open`, `assigned` or `closed`.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            ReportState::Open => "open",
            ReportState::Assigned { .. } => "assigned",
            ReportState::Closed { .. } => "closed",
        }
    }
}

impl Report {
    /// What it is about.
    #[must_use]
    pub fn kind(&self) -> ReportKind {
        match (&self.event_id, &self.user_id) {
            (Some(_), _) => ReportKind::Event,
            (None, Some(_)) => ReportKind::User,
            (None, None) => ReportKind::Room,
        }
    }
}

/// A report with its id and state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredReport {
    /// Its number; later reports have larger ones.
    pub id: u64,
    /// What was reported.
    pub report: Report,
    /// How far it is.
    pub state: ReportState,
}

/// Which reports to list; what is absent does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReportFilter {
    /// What they are about.
    pub kind: Option<ReportKind>,
    /// Text that the room's id contains.
    pub room: Option<String>,
    /// Text that the reporter's user id contains.
    pub reporter: Option<String>,
    /// Text that the reported user's id contains.
    pub subject: Option<String>,
    /// The sender of the reported event. Reads that event for each report that is left.
    pub sender: Option<String>,
    /// The word for their state, as [`ReportState::as_str`] says it.
    pub state: Option<String>,
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportPage {
    /// The reports.
    pub items: Vec<StoredReport>,
    /// How many the whole list has.
    pub total: u64,
}

/// Tells those who wait that a report was stored.
#[derive(Debug)]
pub(crate) struct NewReports(broadcast::Sender<u64>);

impl Default for NewReports {
    fn default() -> Self {
        NewReports(broadcast::Sender::new(WAITING))
    }
}

impl Users {
    /// Stores a report and returns its id. Cancel-safe.
    ///
    /// # Errors
    /// `TooLarge` and `InvalidParam` for the reason and the score.
    pub async fn store_report(&self, report: &Report) -> Result<u64, UserError> {
        if report.reason.len() > MAX_REPORT_TEXT_BYTES {
            return Err(UserError::TooLarge("the reason"));
        }
        if report.score.is_some_and(|score| !(-100..=0).contains(&score)) {
            return Err(UserError::InvalidParam("score lies between -100 and 0"));
        }
        let mut batch = Batch::new();
        batch.put(&REPORTS, &StreamPos::PENDING, report);
        let id = self.store().commit(batch).await?.0;
        // Nobody may be waiting.
        let _ = self.inner.new_reports.0.send(id);
        Ok(id)
    }

    /// The ids of reports from now on. Who falls behind finds what was missed by [`Users::list_reports`].
    #[must_use]
    pub fn watch_reports(&self) -> broadcast::Receiver<u64> {
        self.inner.new_reports.0.subscribe()
    }

    /// A report by its id.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn report(&self, id: u64) -> Result<StoredReport, UserError> {
        let report = self.store().get(&REPORTS, &StreamPos(id))?.ok_or(UserError::NotFound("report"))?;
        Ok(StoredReport { id, report, state: self.report_state(id)? })
    }

    /// The reports that match, by time. Looks at all reports.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn list_reports(
        &self,
        filter: &ReportFilter,
        newest_first: bool,
        from: usize,
        limit: usize,
    ) -> Result<ReportPage, UserError> {
        let scan = self.store().scan(&REPORTS, &());
        let scan = if newest_first { scan.reverse() } else { scan };
        let mut page = ReportPage { items: Vec::new(), total: 0 };
        let mut found = 0usize;
        for row in scan.iter() {
            let (StreamPos(id), report) = row?;
            if !self.matches_report(filter, id, &report)? {
                continue;
            }
            if found >= from && page.items.len() < limit {
                page.items.push(StoredReport { id, report, state: self.report_state(id)? });
            }
            found = found.saturating_add(1);
        }
        page.total = u64::try_from(found).unwrap_or(u64::MAX);
        Ok(page)
    }

    /// Deletes a report with its state; `false` if there was none. Cancel-safe.
    ///
    /// # Errors
    /// Storage errors only.
    pub async fn delete_report(&self, id: u64) -> Result<bool, UserError> {
        if !self.store().contains(&REPORTS, &StreamPos(id))? {
            return Ok(false);
        }
        let mut batch = Batch::new();
        batch.delete(&REPORTS, &StreamPos(id)).delete(&REPORT_STATES, &StreamPos(id));
        self.store().commit(batch).await?;
        Ok(true)
    }

    /// Says who looks into a report: nobody (it is open again), or an administrator or moderator of this server. Also
    /// opens a closed report again. Cancel-safe.
    ///
    /// # Errors
    /// `NotFound`: no such report.
    pub async fn assign_report(&self, id: u64, to: Option<UserNid>, by: &str) -> Result<(), UserError> {
        let at_ms = self.now_ms();
        let state = to.map_or(ReportState::Open, |to| ReportState::Assigned { to, by: by.to_owned(), at_ms });
        self.set_report_state(id, &state).await
    }

    /// Closes a report with a note on what was found or done. Cancel-safe.
    ///
    /// # Errors
    /// `NotFound`: no such report. `TooLarge`: the note.
    pub async fn answer_report(&self, id: u64, note: &str, by: &str) -> Result<(), UserError> {
        if note.len() > MAX_REPORT_TEXT_BYTES {
            return Err(UserError::TooLarge("the note"));
        }
        let state = ReportState::Closed { by: by.to_owned(), at_ms: self.now_ms(), note: note.to_owned() };
        self.set_report_state(id, &state).await
    }

    /// The sender of the event that a report is about; none if it is about none, or the event is not here any more.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn reported_sender(&self, report: &Report) -> Result<Option<UserId>, UserError> {
        let (Some(room), Some(event_id)) = (report.room, &report.event_id) else { return Ok(None) };
        Ok(self.rooms().find_in_room(room, event_id)?.and_then(|event| event.sender_id()))
    }

    fn report_state(&self, id: u64) -> Result<ReportState, UserError> {
        Ok(self.store().get(&REPORT_STATES, &StreamPos(id))?.unwrap_or_default())
    }

    async fn set_report_state(&self, id: u64, state: &ReportState) -> Result<(), UserError> {
        let report = self.report(id)?.report;
        let mut batch = Batch::new();
        // A report that is deleted meanwhile must not leave a state behind.
        batch.expect_equals(&REPORTS, &StreamPos(id), &report).put(&REPORT_STATES, &StreamPos(id), state);
        match self.store().commit(batch).await {
            Ok(_) => Ok(()),
            Err(CommitError::Expectation { .. }) => Err(UserError::NotFound("report")),
            Err(error) => Err(error.into()),
        }
    }

    fn matches_report(&self, filter: &ReportFilter, id: u64, report: &Report) -> Result<bool, UserError> {
        let has = |part: &str, text: &str| text.contains(part);
        if filter.kind.is_some_and(|kind| kind != report.kind()) {
            return Ok(false);
        }
        if let Some(part) = &filter.subject
            && !report.user_id.as_deref().is_some_and(|user| has(part, user))
        {
            return Ok(false);
        }
        if let Some(state) = &filter.state
            && self.report_state(id)?.as_str() != state
        {
            return Ok(false);
        }
        if let Some(part) = &filter.room {
            let room = report.room.map(|room| self.rooms().room_id(room)).transpose()?;
            if !room.is_some_and(|room| has(part, room.as_str())) {
                return Ok(false);
            }
        }
        if let Some(part) = &filter.reporter
            && !has(part, self.rooms().user_id(report.reporter)?.as_str())
        {
            return Ok(false);
        }
        let Some(sender) = &filter.sender else { return Ok(true) };
        Ok(self.reported_sender(report)?.is_some_and(|found| found.as_str() == sender))
    }
}

#[cfg(test)]
mod tests;
