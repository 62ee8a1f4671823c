//! Operations on reports: what users reported, and what became of it.

mod answer;
mod list;
mod show;

pub use answer::{Answer, Assign, Delete};
pub use list::List;
pub use show::Show;
pub(crate) use show::find_event;

use rooms::RoomNid;
use users::{ReportKind, StoredReport};

use crate::admin::Admin;
use crate::error::AdminError;
use crate::outcome::Cell;

/// The word for what a report is about.
pub(crate) fn name_kind(kind: ReportKind) -> &'static str {
    match kind {
        ReportKind::Event => "event",
        ReportKind::Room => "room",
        ReportKind::User => "user",
    }
}

/// A report with the names of what it is about.
pub(crate) struct Named {
    pub id: u64,
    pub reporter: String,
    pub room_id: Option<String>,
    /// Of the event that is reported, if it is still here.
    pub sender: Option<String>,
    pub stored: StoredReport,
}

impl Named {
    pub(crate) fn find(admin: &Admin, stored: StoredReport) -> Result<Named, AdminError> {
        let report = &stored.report;
        let name = |room: RoomNid| admin.rooms().room_id(room).map(|id| id.as_str().to_owned());
        Ok(Named {
            id: stored.id,
            reporter: admin.rooms().user_id(report.reporter)?.as_str().to_owned(),
            room_id: report.room.map(name).transpose()?,
            sender: admin.users().reported_sender(report)?.map(|sender| sender.as_str().to_owned()),
            stored,
        })
    }

    /// Who or what is reported, in one cell.
    fn subject(&self) -> Cell {
        let report = &self.stored.report;
        let subject = report.event_id.clone().or_else(|| report.user_id.clone()).or_else(|| self.room_id.clone());
        Cell::or_none(subject, Cell::Text)
    }
}
