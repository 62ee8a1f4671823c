//! What the server says in the admin room by itself: new reports, and the end of work that was begun in the room.

use rooms::RoomError;
use tokio::sync::broadcast::error::RecvError;
use users::StoredReport;

use crate::admin::Admin;
use crate::caller::Face;
use crate::error::AdminError;
use crate::jobs::JobId;

/// The most characters of a report's reason that are repeated.
const MAX_REASON: usize = 300;

/// Announces until shutdown. What came while the server was too busy is not told one by one.
pub(super) async fn announce(admin: Admin) {
    let shutdown = admin.tasks().shutdown_token();
    let (mut reports, mut jobs) = (admin.users().watch_reports(), admin.jobs().ends());
    loop {
        let text = tokio::select! {
            report = reports.recv() => match report {
                Ok(id) => describe_report(&admin, id).map(Some),
                Err(RecvError::Lagged(missed)) => Ok(Some(format!("{missed} new reports: see !admin report list"))),
                Err(RecvError::Closed) => return,
            },
            job = jobs.recv() => match job {
                Ok(id) => describe_job(&admin, id),
                Err(RecvError::Lagged(_)) => Ok(None),
                Err(RecvError::Closed) => return,
            },
            () = shutdown.cancelled() => return,
        };
        match text {
            Ok(Some(text)) => admin.announce(text),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "something was not announced in the admin room"),
        }
    }
}

fn describe_report(admin: &Admin, id: u64) -> Result<String, AdminError> {
    let StoredReport { report, .. } = admin.users().report(id)?;
    let reporter = admin.rooms().user_id(report.reporter)?;
    let room = report.room.map(|room| admin.rooms().head(room).map(|head| head.room_id().clone()));
    let room = room.transpose().or_else(|error| match error {
        // It was deleted meanwhile.
        RoomError::RoomNotFound => Ok(None),
        error => Err(error),
    })?;
    let mut what = match (&report.event_id, &report.user_id) {
        (Some(event), _) => format!("the event {event}"),
        (None, Some(user)) => format!("the user {user}"),
        (None, None) => "the room".to_owned(),
    };
    if let Some(sender) = admin.users().reported_sender(&report)? {
        what.push_str(&format!(" of {sender}"));
    }
    if let Some(room) = room {
        what.push_str(&format!(" in {room}"));
    }
    let reason: String = report.reason.chars().take(MAX_REASON).collect();
    Ok(format!("Report {id}: {reporter} reports {what}. Reason: {reason}\n!admin report show {id}"))
}

/// How a job that was begun in the room ended.
fn describe_job(admin: &Admin, id: JobId) -> Result<Option<String>, AdminError> {
    let row = admin.jobs().get(id)?;
    if row.face != Face::Room {
        return Ok(None);
    }
    let error = row.error.map(|error| format!(": {error}")).unwrap_or_default();
    Ok(Some(format!("Job {} ({}) is over, {}{error}. !admin job show {}", id.0, row.kind, row.state.name(), id.0)))
}
