//! Other servers, as destinations.

use axum::extract::State;
use serde_json::{Value, json};
use spec::ids::ServerName;

use crate::admin::{Action, Admin};
use crate::error::AdminError;
use crate::federation::{Reset, destination, destinations};
use crate::http::{Answer, Args, Query, Refusal, SynapseCaller, answer};
use crate::operation::{Effect, Needs};
use crate::ports::DestinationState;

/// How many rows a page holds unless another number is asked for.
const PAGE: usize = 100;

fn reads(name: &str, arguments: Value) -> Action {
    Action { name: name.to_owned(), needs: Needs::Administrator, effect: Effect::Reads, arguments }
}

fn describe(server: &ServerName, state: &DestinationState) -> Value {
    let since = state.failing_since_ms.unwrap_or(0);
    json!({
        "destination": server.as_str(),
        "retry_last_ts": since,
        // From there on it is left alone so long.
        "retry_interval": state.retry_at_ms.map_or(0, |at| at.saturating_sub(since)),
        "failure_ts": state.failing_since_ms,
        "last_successful_stream_ordering": null,
    })
}

/// A page of `all`, which begins at `from`.
fn page<T>(query: &Query, all: &mut Vec<T>) -> Result<Option<String>, Refusal> {
    let from = query.parsed::<usize>("from")?.unwrap_or(0);
    let limit = query.limit(PAGE)?;
    let next = from.saturating_add(limit);
    let has_more = next < all.len();
    *all = std::mem::take(all).into_iter().skip(from).take(limit).collect();
    Ok(has_more.then(|| next.to_string()))
}

/// `GET /_synapse/admin/v1/federation/destinations`.
pub(super) async fn list(State(admin): State<Admin>, SynapseCaller(caller): SynapseCaller, query: Query) -> Answer {
    let search = query.text("destination")?.map(|text| text.into_owned());
    let action = reads("federation destinations", json!({"search": search}));
    let mut all = admin.audited(&caller, action, async { destinations(&admin) }).await?;
    if let Some(search) = search {
        all.retain(|(server, _)| server.as_str().contains(&search));
    }
    match query.text("order_by")?.as_deref() {
        None | Some("destination") => {}
        Some("failure_ts" | "retry_last_ts") => all.sort_by_key(|(_, state)| state.failing_since_ms),
        Some("retry_interval") => all.sort_by_key(|(_, state)| {
            state.retry_at_ms.zip(state.failing_since_ms).map(|(at, since)| at.saturating_sub(since))
        }),
        Some("last_successful_stream_ordering") => {}
        Some(_) => return Err(Refusal::invalid_param("order_by is unknown")),
    }
    match query.text("dir")?.as_deref() {
        None | Some("f") => {}
        Some("b") => all.reverse(),
        Some(_) => return Err(Refusal::invalid_param("dir is f or b")),
    }
    let total = all.len();
    let next = page(&query, &mut all)?;
    let rows: Vec<_> = all.iter().map(|(server, state)| describe(server, state)).collect();
    let mut body = json!({"destinations": rows, "total": total});
    if let Some(next) = next {
        body["next_token"] = next.into();
    }
    answer(&body)
}

/// `GET /_synapse/admin/v1/federation/destinations/{destination}`.
pub(super) async fn get_one(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(server): Args<String>,
) -> Answer {
    let action = reads("federation show", json!({"server": server}));
    let (server, state) = admin.audited(&caller, action, async { destination(&admin, &server) }).await?;
    answer(&describe(&server, &state))
}

/// `GET /_synapse/admin/v1/federation/destinations/{destination}/rooms`.
pub(super) async fn list_rooms(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(server): Args<String>,
    query: Query,
) -> Answer {
    let action = reads("federation rooms", json!({"server": server}));
    let work = async {
        let (server, _) = destination(&admin, &server)?;
        Ok::<_, AdminError>(admin.rooms().server_rooms(&server)?)
    };
    let mut rooms = admin.audited(&caller, action, work).await?;
    if query.text("dir")?.as_deref() == Some("b") {
        rooms.reverse();
    }
    let total = rooms.len();
    let next = page(&query, &mut rooms)?;
    let mut rows = Vec::new();
    for room in rooms {
        let room_id = admin.rooms().room_id(room).map_err(AdminError::from)?;
        rows.push(json!({"room_id": room_id.as_str(), "stream_ordering": 0}));
    }
    let mut body = json!({"rooms": rows, "total": total});
    if let Some(next) = next {
        body["next_token"] = next.into();
    }
    answer(&body)
}

/// `POST /_synapse/admin/v1/federation/destinations/{destination}/reset_connection`.
pub(super) async fn reset(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(server): Args<String>,
) -> Answer {
    let (_, state) = destination(&admin, &server)?;
    if state.failing_since_ms.is_none() {
        let message = "the server was not left alone: there is nothing to reset";
        return Err(AdminError::coded(400, "M_UNKNOWN", message).into());
    }
    admin.perform_operation(&caller, Reset { server }).await?;
    answer(&json!({}))
}
