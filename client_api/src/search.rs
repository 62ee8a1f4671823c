//! Searching messages (Client-Server API §Server Side Search).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ::search::{Found, Group, Hit, Order, Search, SearchKey, SearchQuery, Token};
use ::sync::RoomEventFilter;
use axum::extract::State;
use rooms::{Cursor, Direction, Event, EventFormat, Renderer, RoomNid, RoomView, Rooms};
use runtime::Tasks;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use spec::ids::UserId;
use users::Users;

use crate::error::ApiError;
use crate::extract::User;
use crate::json::{Answer, JsonBody, answer_bytes};
use crate::messages::{find_senders, write_cursor};
use crate::query::Query;

const DEFAULT_RESULTS: u64 = 10;
const MAX_RESULTS: u64 = 100;
const DEFAULT_AROUND: usize = 5;
/// The most events before, and after, each result.
const MAX_AROUND: usize = 20;
/// An answer that is longer gets no further room's state, in bytes.
const MAX_BYTES: usize = 16 * 1024 * 1024;

#[derive(Deserialize)]
pub(crate) struct SearchBody {
    search_categories: Categories,
}

#[derive(Deserialize)]
struct Categories {
    room_events: Option<RoomEvents>,
}

#[derive(Deserialize)]
struct RoomEvents {
    search_term: String,
    keys: Option<BTreeSet<Key>>,
    filter: Option<Box<RawValue>>,
    order_by: Option<OrderBy>,
    event_context: Option<EventContext>,
    #[serde(default)]
    include_state: bool,
    groupings: Option<Groupings>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
enum Key {
    #[serde(rename = "content.body")]
    Body,
    #[serde(rename = "content.name")]
    Name,
    #[serde(rename = "content.topic")]
    Topic,
}

impl From<Key> for SearchKey {
    fn from(key: Key) -> SearchKey {
        match key {
            Key::Body => SearchKey::Body,
            Key::Name => SearchKey::Name,
            Key::Topic => SearchKey::Topic,
        }
    }
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OrderBy {
    Rank,
    Recent,
}

#[derive(Clone, Copy, Deserialize)]
struct EventContext {
    before_limit: Option<usize>,
    after_limit: Option<usize>,
    #[serde(default)]
    include_profile: bool,
}

#[derive(Deserialize)]
struct Groupings {
    #[serde(default)]
    group_by: Vec<GroupBy>,
}

#[derive(Deserialize)]
struct GroupBy {
    key: GroupKey,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
enum GroupKey {
    RoomId,
    Sender,
}

/// `POST /search`.
pub(crate) async fn search(
    user: User,
    query: Query,
    State(search): State<Option<Search>>,
    State(rooms): State<Rooms>,
    State(users): State<Users>,
    State(tasks): State<Tasks>,
    JsonBody(body): JsonBody<SearchBody>,
) -> Answer {
    let Some(search) = search else { return Err(ApiError::unrecognized()) };
    let Some(criteria) = body.search_categories.room_events else {
        return answer_bytes(&b"{\"search_categories\":{}}"[..]);
    };
    let from = query.parsed::<Token>("next_batch")?;
    let found = search.find(read_query(&criteria, &user, from)?).await?;
    let ignored = users.ignored_users(user.user)?;
    let answering = Answering { rooms, device: user.device_id.clone(), context: criteria.event_context, ignored };
    // A hundred contexts, and the state of as many rooms: too much for a thread that others wait for.
    let body = tasks.compute("search answer", move || answering.write_answer(&criteria, &found)).await;
    // Not at shutdown.
    answer_bytes(body.map_err(|_| ApiError::limit_exceeded(1000))??)
}

/// What a request asks for, in the words of the search.
fn read_query(criteria: &RoomEvents, user: &User, from: Option<Token>) -> Result<SearchQuery, ApiError> {
    let filter = match &criteria.filter {
        Some(filter) => RoomEventFilter::parse(filter.get().as_bytes())
            .map_err(|error| ApiError::bad_json(format!("search_categories.room_events.filter: {error}")))?,
        None => RoomEventFilter::default(),
    };
    let limit = filter.events.limit.unwrap_or(DEFAULT_RESULTS).min(MAX_RESULTS);
    if limit == 0 {
        return Err(ApiError::invalid_param("limit must be greater than zero"));
    }
    let all = || BTreeSet::from([SearchKey::Body, SearchKey::Name, SearchKey::Topic]);
    Ok(SearchQuery {
        viewer: user.user,
        term: criteria.search_term.clone(),
        keys: criteria.keys.as_ref().map_or_else(all, |keys| keys.iter().copied().map(SearchKey::from).collect()),
        rooms: filter.rooms.clone(),
        not_rooms: filter.not_rooms.clone(),
        senders: filter.events.senders.clone(),
        not_senders: filter.events.not_senders.clone(),
        order: match criteria.order_by {
            Some(OrderBy::Recent) => Order::Recent,
            Some(OrderBy::Rank) | None => Order::Rank,
        },
        limit: limit as usize,
        from,
        wanted: Box::new(move |event| filter.matches(event)),
    })
}

/// Writes results for one client.
struct Answering {
    rooms: Rooms,
    device: Arc<str>,
    context: Option<EventContext>,
    ignored: Arc<BTreeSet<UserId>>,
}

impl Answering {
    fn write_answer(&self, criteria: &RoomEvents, found: &Found) -> Result<Vec<u8>, ApiError> {
        let mut body = Vec::with_capacity(4096);
        body.extend_from_slice(b"{\"search_categories\":{\"room_events\":{\"count\":");
        write_json(&mut body, &found.count.into());
        body.extend_from_slice(b",\"highlights\":");
        write_json(&mut body, &json!(found.highlights));
        body.extend_from_slice(b",\"results\":[");
        for (index, hit) in found.hits.iter().enumerate() {
            if index > 0 {
                body.push(b',');
            }
            self.write_result(hit, &mut body)?;
        }
        body.push(b']');
        if criteria.include_state {
            body.extend_from_slice(b",\"state\":");
            self.write_states(&found.hits, &mut body)?;
        }
        if let Some(groupings) = &criteria.groupings {
            body.extend_from_slice(b",\"groups\":");
            write_json(&mut body, &list_groups(groupings, found));
        }
        if let Some(next) = &found.next {
            body.extend_from_slice(b",\"next_batch\":");
            write_json(&mut body, &next.to_string().into());
        }
        body.extend_from_slice(b"}}}");
        Ok(body)
    }

    fn renderer<'v>(&'v self, view: &'v RoomView) -> Renderer<'v> {
        Renderer::new(view, Some(&self.device), EventFormat::Client)
    }

    fn write_result(&self, hit: &Hit, body: &mut Vec<u8>) -> Result<(), ApiError> {
        body.extend_from_slice(b"{\"rank\":");
        write_json(body, &json!(hit.rank));
        body.extend_from_slice(b",\"result\":");
        self.renderer(&hit.view).render(&hit.event, body)?;
        if let Some(context) = self.context {
            body.extend_from_slice(b",\"context\":");
            self.write_context(hit, context, body)?;
        }
        body.push(b'}');
        Ok(())
    }

    fn write_context(&self, hit: &Hit, wanted: EventContext, body: &mut Vec<u8>) -> Result<(), ApiError> {
        let view = &*hit.view;
        let is_heard = |event: &Event| event.sender_id().is_none_or(|sender| !self.ignored.contains(&sender));
        let around = |limit: Option<usize>| limit.unwrap_or(DEFAULT_AROUND).min(MAX_AROUND);
        let after = Cursor::after(&hit.event);
        let (mut start, mut end) = (after.before(), after);
        let (mut earlier, mut later) = (Vec::new(), Vec::new());
        let (before_limit, after_limit) = (around(wanted.before_limit), around(wanted.after_limit));
        if before_limit > 0 {
            let page = view.page(start, None, Direction::Backward, before_limit, &is_heard)?;
            start = page.end.unwrap_or(Cursor::START);
            earlier = page.events;
        }
        if after_limit > 0 {
            let page = view.page(end, None, Direction::Forward, after_limit, &is_heard)?;
            end = page.end.map_or_else(|| view.newest(), Ok)?;
            later = page.events;
        }
        let renderer = self.renderer(view);
        body.extend_from_slice(b"{\"events_before\":");
        renderer.render_all(&earlier, body)?;
        body.extend_from_slice(b",\"events_after\":");
        renderer.render_all(&later, body)?;
        body.extend_from_slice(b",\"start\":");
        write_cursor(body, start);
        body.extend_from_slice(b",\"end\":");
        write_cursor(body, end);
        if wanted.include_profile {
            let shown: Vec<Event> = earlier.into_iter().chain([hit.event.clone()]).chain(later).collect();
            body.extend_from_slice(b",\"profile_info\":");
            write_json(body, &self.list_profiles(view, &shown)?);
        }
        body.push(b'}');
        Ok(())
    }

    /// The profiles that the senders had then.
    fn list_profiles(&self, view: &RoomView, events: &[Event]) -> Result<Value, ApiError> {
        let mut profiles = Map::new();
        for member in find_senders(&self.rooms, view, events)? {
            let mut profile: Map<String, Value> = member.content_as().unwrap_or_default();
            profile.retain(|key, _| matches!(key.as_str(), "displayname" | "avatar_url"));
            profiles.insert(member.state_key().unwrap_or_default().to_owned(), profile.into());
        }
        Ok(profiles.into())
    }

    /// The newest state that the client may see of each room in the results, as far as the answer does not get too
    /// large.
    fn write_states(&self, hits: &[Hit], body: &mut Vec<u8>) -> Result<(), ApiError> {
        let views: BTreeMap<RoomNid, &Arc<RoomView>> = hits.iter().map(|hit| (hit.view.room(), &hit.view)).collect();
        body.push(b'{');
        for (index, view) in views.into_values().enumerate() {
            if body.len() > MAX_BYTES {
                break;
            }
            if index > 0 {
                body.push(b',');
            }
            write_json(body, &view.head().room_id().as_str().into());
            body.push(b':');
            self.renderer(view).render_all(&view.state_events()?, body)?;
        }
        body.push(b'}');
        Ok(())
    }
}

/// The results of this page by room, and by sender. A group goes on where the page ends.
fn list_groups(groupings: &Groupings, found: &Found) -> Value {
    let keys: BTreeSet<GroupKey> = groupings.group_by.iter().map(|group| group.key).collect();
    let mut listed = Map::new();
    for key in keys {
        let mut groups: Vec<(String, Group, Vec<&str>)> = Vec::new();
        for hit in &found.hits {
            let (name, group) = match key {
                GroupKey::RoomId => (hit.view.head().room_id().as_str(), Group::Room(hit.view.room())),
                GroupKey::Sender => (hit.event.sender(), Group::Sender(hit.event.sender_nid())),
            };
            match groups.iter_mut().find(|(known, ..)| known == name) {
                Some((_, _, results)) => results.push(hit.event.event_id()),
                None => groups.push((name.to_owned(), group, vec![hit.event.event_id()])),
            }
        }
        let mut entries = Map::new();
        for (order, (name, group, results)) in groups.into_iter().enumerate() {
            let mut entry = json!({"order": order + 1, "results": results});
            if let Some(next) = found.next {
                entry["next_batch"] = next.within(group).to_string().into();
            }
            entries.insert(name, entry);
        }
        let name = match key {
            GroupKey::RoomId => "room_id",
            GroupKey::Sender => "sender",
        };
        listed.insert(name.to_owned(), entries.into());
    }
    listed.into()
}

fn write_json(body: &mut Vec<u8>, value: &Value) {
    // Writing a value to memory cannot fail.
    let _ = serde_json::to_writer(body, value);
}
