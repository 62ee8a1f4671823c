//! Server-Server API §Published Room Directory.

use axum::extract::State;
use rooms::PublicRoomsQuery;
use serde::Deserialize;
use serde_json::{Map, json};

use crate::Federation;
use crate::inbound::error::ServeError;
use crate::inbound::origin::{Origin, SignedJson};
use crate::serve::answer::{Answer, answer};
use crate::serve::arguments::Query;

/// The most rooms of one answer.
const MAX_ROOMS: usize = 500;

fn parse_place(text: &str) -> Result<usize, ServeError> {
    let skip = text.strip_prefix("p1_").and_then(|skip| skip.parse().ok());
    skip.ok_or_else(|| ServeError::invalid_param("since is malformed"))
}

fn page_size(limit: Option<usize>) -> usize {
    limit.filter(|limit| *limit > 0).unwrap_or(MAX_ROOMS).min(MAX_ROOMS)
}

fn list_rooms(federation: &Federation, wanted: &PublicRoomsQuery) -> Answer {
    if !federation.config.share_public_rooms {
        return Err(ServeError::forbidden("this server does not tell its public rooms to others"));
    }
    let page = federation.rooms.public_rooms(wanted)?;
    let mut body = Map::new();
    body.insert("chunk".into(), json!(page.rooms));
    body.insert("total_room_count_estimate".into(), page.total.into());
    if let Some(next) = page.next {
        body.insert("next_batch".into(), format!("p1_{next}").into());
    }
    if wanted.skip > 0 {
        let previous = wanted.skip.saturating_sub(page_size(wanted.limit));
        body.insert("prev_batch".into(), format!("p1_{previous}").into());
    }
    answer(&body)
}

/// `GET /publicRooms`.
pub(crate) async fn list(_: Origin, query: Query, State(federation): State<Federation>) -> Answer {
    let skip = query.text("since")?.map(|since| parse_place(&since)).transpose()?.unwrap_or(0);
    let limit = Some(page_size(query.parsed("limit")?));
    list_rooms(&federation, &PublicRoomsQuery { limit, skip, ..PublicRoomsQuery::default() })
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PublicFilter {
    generic_search_term: Option<String>,
    room_types: Option<Vec<Option<String>>>,
}

#[derive(Deserialize)]
pub(crate) struct SearchBody {
    limit: Option<usize>,
    since: Option<String>,
    #[serde(default)]
    filter: Option<PublicFilter>,
}

/// `POST /publicRooms`.
pub(crate) async fn search(
    State(federation): State<Federation>,
    SignedJson { body, .. }: SignedJson<SearchBody>,
) -> Answer {
    let skip = body.since.as_deref().map(parse_place).transpose()?.unwrap_or(0);
    let limit = Some(page_size(body.limit));
    let filter = body.filter.unwrap_or_default();
    let search = filter.generic_search_term.filter(|term| !term.is_empty());
    list_rooms(
        &federation,
        &PublicRoomsQuery { search, room_types: filter.room_types, limit, skip, ..PublicRoomsQuery::default() },
    )
}

#[cfg(test)]
mod tests;
