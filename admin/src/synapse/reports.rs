//! Reports of events and of users.

use axum::extract::State;
use serde_json::{Map, Value, json};
use users::{ReportFilter, ReportKind, ReportPage};

use super::{is_backwards, reading};
use crate::admin::{Action, Admin};
use crate::error::AdminError;
use crate::http::{Answer, Args, Query, Refusal, SynapseCaller, answer};
use crate::report::{Delete, Named, Show, find_event};

fn read_id(id: &str) -> Result<u64, Refusal> {
    id.parse().map_err(|_| Refusal::invalid_param("the id of a report is a positive integer"))
}

fn read_filter(query: &Query, kind: ReportKind) -> Result<ReportFilter, Refusal> {
    let text = |name| Ok::<_, Refusal>(query.text(name)?.map(|text| text.into_owned()));
    Ok(ReportFilter {
        kind: Some(kind),
        room: text("room_id")?.filter(|_| kind == ReportKind::Event),
        reporter: text("user_id")?,
        subject: text("target_user_id")?.filter(|_| kind == ReportKind::User),
        sender: text("sender_user_id")?.filter(|_| kind == ReportKind::Event),
        state: None,
    })
}

/// Answers with a part of a list, under the name of the list.
async fn list(
    admin: Admin,
    SynapseCaller(caller): SynapseCaller,
    query: Query,
    kind: ReportKind,
    describe: fn(&Admin, Named) -> Result<Value, AdminError>,
) -> Answer {
    let filter = read_filter(&query, kind)?;
    let newest_first = is_backwards(&query, true)?;
    let (from, limit) = (query.parsed::<usize>("from")?.unwrap_or(0), query.limit(100)?);
    let name = if kind == ReportKind::User { "user_reports" } else { "event_reports" };
    let work = async {
        let ReportPage { items, total } = admin.users().list_reports(&filter, newest_first, from, limit)?;
        let mut reports = Vec::new();
        for stored in items {
            reports.push(describe(&admin, Named::find(&admin, stored)?)?);
        }
        Ok::<_, AdminError>((reports, total))
    };
    let (reports, total) = admin.audited(&caller, reading("report list", json!({"list": name})), work).await?;
    let next = from.saturating_add(reports.len());
    let has_more = !reports.is_empty() && u64::try_from(next).is_ok_and(|next| next < total);
    let mut found = Map::new();
    found.insert(name.to_owned(), reports.into());
    found.insert("total".to_owned(), total.into());
    if has_more {
        found.insert("next_token".to_owned(), next.into());
    }
    answer(&found)
}

fn describe_event_report(admin: &Admin, named: Named) -> Result<Value, AdminError> {
    let report = named.stored.report;
    let (mut name, mut alias) = (None, None);
    if let Some(room) = report.room {
        let summary = admin.rooms().summary(room)?;
        (name, alias) = (summary.name, summary.canonical_alias);
    }
    Ok(json!({
        "id": named.id,
        "received_ts": report.at_ms,
        "room_id": named.room_id,
        "name": name,
        "canonical_alias": alias,
        "event_id": report.event_id,
        "user_id": named.reporter,
        "reason": report.reason,
        "score": report.score,
        "sender": named.sender,
    }))
}

fn describe_user_report(_: &Admin, named: Named) -> Result<Value, AdminError> {
    let report = named.stored.report;
    Ok(json!({
        "id": named.id,
        "received_ts": report.at_ms,
        "target_user_id": report.user_id,
        "user_id": named.reporter,
        "reason": report.reason,
    }))
}

/// The report of this kind.
fn find(admin: &Admin, id: u64, kind: ReportKind) -> Result<Named, AdminError> {
    let stored = admin.users().report(id)?;
    if stored.report.kind() != kind {
        return Err(AdminError::not_found("there is no such report"));
    }
    Named::find(admin, stored)
}

/// `GET /_synapse/admin/v1/event_reports`.
pub(super) async fn list_event_reports(State(admin): State<Admin>, caller: SynapseCaller, query: Query) -> Answer {
    list(admin, caller, query, ReportKind::Event, describe_event_report).await
}

/// `GET /_synapse/admin/v1/event_reports/{report_id}`.
pub(super) async fn get_event_report(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(id): Args<String>,
) -> Answer {
    let report = read_id(&id)?;
    let work = async {
        let named = find(&admin, report, ReportKind::Event)?;
        let event = find_event(&admin, &named)?;
        let mut found = describe_event_report(&admin, named)?;
        found["event_json"] = match event {
            Some(event) => serde_json::from_str(event.json()).map_err(AdminError::internal)?,
            None => json!({}),
        };
        Ok(found)
    };
    answer(&admin.audited(&caller, Action::of(&Show { report }), work).await?)
}

async fn delete(admin: Admin, SynapseCaller(caller): SynapseCaller, id: &str, kind: ReportKind) -> Answer {
    let report = read_id(id)?;
    find(&admin, report, kind)?;
    admin.perform_operation(&caller, Delete { report }).await?;
    answer(&json!({}))
}

/// `DELETE /_synapse/admin/v1/event_reports/{report_id}`.
pub(super) async fn delete_event_report(
    State(admin): State<Admin>,
    caller: SynapseCaller,
    Args(id): Args<String>,
) -> Answer {
    delete(admin, caller, &id, ReportKind::Event).await
}

/// `GET /_synapse/admin/v1/user_reports`.
pub(super) async fn list_user_reports(State(admin): State<Admin>, caller: SynapseCaller, query: Query) -> Answer {
    list(admin, caller, query, ReportKind::User, describe_user_report).await
}

/// `GET /_synapse/admin/v1/user_reports/{report_id}`.
pub(super) async fn get_user_report(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(id): Args<String>,
) -> Answer {
    let report = read_id(&id)?;
    let work = async { describe_user_report(&admin, find(&admin, report, ReportKind::User)?) };
    answer(&admin.audited(&caller, Action::of(&Show { report }), work).await?)
}

/// `DELETE /_synapse/admin/v1/user_reports/{report_id}`.
pub(super) async fn delete_user_report(
    State(admin): State<Admin>,
    caller: SynapseCaller,
    Args(id): Args<String>,
) -> Answer {
    delete(admin, caller, &id, ReportKind::User).await
}
