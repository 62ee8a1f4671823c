//! Events that are sent later (MSC4140): scheduling, looking up, restarting, cancelling and sending them.
//!
//! The proposal was accepted in a newer form than the one that clients use: both are served. An event can be scheduled
//! by an endpoint of its own, or by the argument `org.matrix.msc4140.delay` of `/send` and `/state`. Under the unstable
//! paths whoever knows the id of a delayed event may act on it, as services do that look after calls.

use axum::extract::State;
use rooms::{DelayError, DelayedEvent, DelayedOutcome, Membership, NewDelayedEvent, RoomNid, Rooms};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use spec::ids::{EventId, RoomId, UserId};
use users::Users;

use crate::error::ApiError;
use crate::extract::{Args, OwnerOrHolder, User};
use crate::json::{Answer, JsonBody, answer, answer_empty};
use crate::newcomers::Newcomers;
use crate::query::Query;
use crate::send::{EVENT_BODY, find_room, new_transaction, sticky_of};
use crate::state::check_aliases;

/// The argument by which `/send` and `/state` schedule.
const DELAY: &str = "org.matrix.msc4140.delay";

/// The delay that a request to send an event asks for, in milliseconds.
///
/// # Errors
/// `M_INVALID_PARAM` for what is not a positive number.
pub(crate) fn delay_of(query: &Query) -> Result<Option<u64>, ApiError> {
    match query.parsed::<u64>(DELAY)? {
        Some(0) => Err(ApiError::invalid_param(format!("{DELAY} must be greater than zero"))),
        delay => Ok(delay),
    }
}

/// Schedules an event of a user; `transaction` is the client's id for the request.
pub(crate) async fn schedule(
    user: &User,
    rooms: &Rooms,
    room: &RoomId,
    event: NewDelayedEvent,
    transaction: Option<String>,
) -> Answer {
    let nid = find_room(rooms, room)?;
    check_event(rooms, room, nid, &event)?;
    let scope = format!("delay {} {}", nid.0, event.kind);
    let transaction = transaction.map(|id| new_transaction(user, scope, id)).transpose()?;
    let id = rooms.delay_event(nid, user.user, event, transaction).await?;
    answer(&json!({"delay_id": id}))
}

/// What sending it now would check in this edge. Some state cannot be delayed, because more follows from it than an
/// event.
fn check_event(rooms: &Rooms, id: &RoomId, room: RoomNid, event: &NewDelayedEvent) -> Result<(), ApiError> {
    match (&*event.kind, event.state_key.as_deref()) {
        ("m.room.member", Some(target)) => {
            UserId::parse(target).map_err(|error| ApiError::bad_json(format!("the state key: {error}")))?;
            let membership = event.content.get("membership").and_then(Value::as_str).and_then(Membership::parse);
            if !matches!(membership, Some(Membership::Leave | Membership::Ban)) {
                return Err(ApiError::invalid_param("of memberships only leaving and banning can be delayed"));
            }
        }
        ("m.room.guest_access", Some(_)) => {
            return Err(ApiError::invalid_param("the access of guests cannot be changed later"));
        }
        ("m.room.canonical_alias", Some("")) => check_aliases(rooms, id, room, &event.content)?,
        ("m.room.redaction", None) => {
            let redacts = event.content.get("redacts").and_then(Value::as_str);
            let redacts = redacts.ok_or_else(|| ApiError::bad_json("a redaction needs the event id in redacts"))?;
            EventId::parse(redacts).map_err(|error| ApiError::bad_json(format!("redacts: {error}")))?;
        }
        _ => {}
    }
    Ok(())
}

#[derive(Deserialize)]
pub(crate) struct DelayedBody {
    delay_ms: Option<u64>,
    state_key: Option<String>,
    content: Option<Map<String, Value>>,
}

/// `PUT /rooms/{roomId}/delayed_event/{eventType}/{txnId}`.
pub(crate) async fn put_delayed(
    user: User,
    Args((room, kind, transaction)): Args<(RoomId, String, String)>,
    query: Query,
    State(rooms): State<Rooms>,
    State(users): State<Users>,
    State(newcomers): State<Newcomers>,
    JsonBody(body): JsonBody<DelayedBody, EVENT_BODY>,
) -> Answer {
    let delay_ms = body.delay_ms.ok_or_else(|| ApiError::missing_param("delay_ms"))?;
    if delay_ms == 0 {
        return Err(ApiError::invalid_param("delay_ms must be greater than zero"));
    }
    let content = body.content.ok_or_else(|| ApiError::missing_param("content"))?;
    newcomers.check_links(&user, &content).await?;
    users.record_activity(user.user);
    let state_key = body.state_key.map(Into::into);
    let event = NewDelayedEvent { kind: kind.into(), state_key, content, delay_ms, sticky_ms: sticky_of(&query)? };
    schedule(&user, &rooms, &room, event, Some(transaction)).await
}

/// A delayed event as its owner is told of it. The list also uses the names of older forms of the proposal.
fn describe(rooms: &Rooms, event: &DelayedEvent, older_names: bool) -> Result<Value, ApiError> {
    let content: Box<RawValue> = serde_json::from_str(&event.content).map_err(|error| ApiError::internal(&error))?;
    let mut described = json!({
        "delay_id": event.id,
        "room_id": rooms.room_id(event.room)?.as_str(),
        "type": event.kind,
        "delay_ms": event.delay_ms,
        "delayed_since_ts": event.since_ms,
        "content": content,
    });
    let Value::Object(fields) = &mut described else { return Ok(described) };
    if let Some(state_key) = &event.state_key {
        fields.insert("state_key".into(), state_key.to_string().into());
    }
    if older_names {
        fields.insert("delay".into(), event.delay_ms.into());
        fields.insert("running_since".into(), event.since_ms.into());
    }
    if let Some(outcome) = &event.outcome {
        let mut finalised = json!({"finalised_ts": outcome.at_ms()});
        match outcome {
            DelayedOutcome::Sent { event_id, .. } => finalised["event_id"] = event_id.to_string().into(),
            DelayedOutcome::Cancelled { .. } => {}
            DelayedOutcome::Failed { forbidden, reason, .. } => {
                let errcode = if *forbidden { "M_FORBIDDEN" } else { "M_UNKNOWN" };
                finalised["error"] = json!({"errcode": errcode, "error": reason});
            }
        }
        fields.insert("finalised".into(), finalised);
    }
    Ok(described)
}

/// `GET /delayed_events`: what the caller has scheduled, the next one first. There are never more than a user may
/// have scheduled, so they come at once.
pub(crate) async fn list(user: User, State(rooms): State<Rooms>) -> Answer {
    let events = rooms.delayed_events(user.user)?;
    let events: Vec<Value> = events.iter().map(|event| describe(&rooms, event, true)).collect::<Result<_, _>>()?;
    answer(&json!({"delayed_events": events}))
}

/// `GET /delayed_events/{delay_id}`: scheduled, or what became of it lately.
pub(crate) async fn get_one(user: User, Args(id): Args<String>, State(rooms): State<Rooms>) -> Answer {
    let event = rooms.delayed_event(&id)?.filter(|event| event.owner == user.user).ok_or(DelayError::NotFound)?;
    answer(&describe(&rooms, &event, false)?)
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Action {
    Restart,
    Cancel,
    Send,
}

impl Action {
    fn parse(text: &str) -> Result<Action, ApiError> {
        match text {
            "restart" => Ok(Action::Restart),
            "cancel" => Ok(Action::Cancel),
            "send" => Ok(Action::Send),
            _ => Err(ApiError::unrecognized()),
        }
    }
}

/// Does what was asked for. An event is known only to its owner and to those without a token who know its id.
async fn act(
    rooms: &Rooms,
    users: &Users,
    caller: Option<&User>,
    id: &str,
    action: Action,
) -> Result<Result<(), DelayError>, ApiError> {
    let event = rooms.delayed_event(id)?.ok_or(DelayError::NotFound)?;
    if caller.is_some_and(|user| user.user != event.owner) {
        return Err(DelayError::NotFound.into());
    }
    Ok(match action {
        Action::Restart => rooms.restart_delayed(id).await,
        Action::Cancel => rooms.cancel_delayed(id).await,
        Action::Send if !users.may_send(event.owner)? => {
            return Err(ApiError::forbidden("the account that scheduled the event may not send"));
        }
        Action::Send => rooms.send_delayed(id).await.map(drop),
    })
}

/// Answers under the unstable paths: clients that use these know no conflicts. For them an event that has ended is not
/// there any more, so that they schedule another one.
fn answer_unstable(outcome: Result<(), DelayError>) -> Answer {
    match outcome {
        Err(DelayError::Ended) => Err(DelayError::NotFound.into()),
        outcome => {
            outcome?;
            answer_empty()
        }
    }
}

/// `POST /v1/delayed_events/{delay_id}/{action}`, by the owner.
pub(crate) async fn act_as_owner(
    user: User,
    Args((id, action)): Args<(String, String)>,
    State(rooms): State<Rooms>,
    State(users): State<Users>,
    JsonBody(_): JsonBody<Map<String, Value>>,
) -> Answer {
    act(&rooms, &users, Some(&user), &id, Action::parse(&action)?).await??;
    answer_empty()
}

/// `POST /unstable/org.matrix.msc4140/delayed_events/{delay_id}/{action}`, by whoever knows the id.
pub(crate) async fn act_by_id(
    OwnerOrHolder(user): OwnerOrHolder,
    Args((id, action)): Args<(String, String)>,
    State(rooms): State<Rooms>,
    State(users): State<Users>,
    JsonBody(_): JsonBody<Map<String, Value>>,
) -> Answer {
    answer_unstable(act(&rooms, &users, user.as_ref(), &id, Action::parse(&action)?).await?)
}

#[derive(Deserialize)]
pub(crate) struct ActionBody {
    action: Action,
}

/// `POST /unstable/org.matrix.msc4140/delayed_events/{delay_id}`: the action stands in the body.
pub(crate) async fn act_by_body(
    OwnerOrHolder(user): OwnerOrHolder,
    Args(id): Args<String>,
    State(rooms): State<Rooms>,
    State(users): State<Users>,
    JsonBody(body): JsonBody<ActionBody>,
) -> Answer {
    answer_unstable(act(&rooms, &users, user.as_ref(), &id, body.action).await?)
}
