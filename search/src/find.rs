//! Finding: from candidates of the index to events that the viewer may see.
//!
//! The index knows nothing of visibility and may lag. So each candidate is looked up in its room as the viewer sees it,
//! and its present text has to have what is searched for: nobody finds by a word what they could not read.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use rooms::{Event, EventFlags, Head, RoomError, RoomNid, RoomView, UserNid};
use serde_json::{Map, Value};
use spec::ids::{EventId, RoomId, UserId};

use crate::collect::{Candidate, Collect, Scope};
use crate::content::{SearchKey, read_text};
use crate::error::SearchError;
use crate::search::Search;
use crate::terms::{Terms, note_highlights};
use crate::text::split;
use crate::token::{Group, Order, Token};

/// How many candidates are taken from the index at a time.
const BATCH: usize = 256;
/// How many candidates one search looks up at most; there may then be more.
const MAX_LOOKED_UP: usize = 4_000;
/// How many of them are looked up only to count results.
const MAX_COUNTED: usize = 500;
/// How many predecessors of a room are searched with it.
const MAX_PREDECESSORS: usize = 16;
/// How many different words are highlighted.
const MAX_HIGHLIGHTS: usize = 64;

/// A search, as one user asks for it.
pub struct SearchQuery {
    /// Who asks.
    pub viewer: UserNid,
    /// What for.
    pub term: String,
    /// Where in events.
    pub keys: BTreeSet<SearchKey>,
    /// The rooms to search with those that they replaced; all that the viewer is or was in if absent.
    pub rooms: Option<BTreeSet<String>>,
    /// Rooms to leave out.
    pub not_rooms: BTreeSet<String>,
    /// Whose events; everybody's if absent.
    pub senders: Option<BTreeSet<String>>,
    /// Whose events to leave out. Those whom the viewer ignores are left out in any case.
    pub not_senders: BTreeSet<String>,
    /// What else an event has to be.
    pub wanted: Box<dyn Fn(&Event) -> bool + Send>,
    /// Which results come first.
    pub order: Order,
    /// How many results are wanted.
    pub limit: usize,
    /// Where to go on.
    pub from: Option<Token>,
}

/// A result.
pub struct Hit {
    /// Its room as the viewer sees it.
    pub view: Arc<RoomView>,
    /// The event; of an edited message the original.
    pub event: Event,
    /// How well it fits: more is better.
    pub rank: f32,
}

/// What was found.
pub struct Found {
    /// The results, in the order asked for.
    pub hits: Vec<Hit>,
    /// About how many there are in all, never less than were found so far: only results that the viewer may see are
    /// counted, and no more than some hundred.
    pub count: u64,
    /// The words that were found, as they stand in the results.
    pub highlights: BTreeSet<String>,
    /// Where the next page begins, if there may be one.
    pub next: Option<Token>,
}

impl Search {
    /// Searches the rooms that the viewer is, or was, in, as far as they may see them (Client-Server API §Server Side
    /// Search). Runs as a computation of its own. Cancel-safe.
    ///
    /// # Errors
    /// [`SearchError::BadToken`] if the token is of a search in another order; errors of the store and of the index.
    pub async fn find(&self, query: SearchQuery) -> Result<Found, SearchError> {
        let search = self.clone();
        self.tasks.compute("search", move || search.find_now(&query)).await?
    }

    fn find_now(&self, query: &SearchQuery) -> Result<Found, SearchError> {
        if query.from.is_some_and(|token| token.order != query.order) {
            return Err(SearchError::BadToken);
        }
        let terms = Terms::parse(&query.term);
        let scope = Arc::new(self.scope_of(query)?);
        let mut looking = Looking { search: self, query, terms, views: HashMap::new(), highlights: BTreeSet::new() };
        if looking.terms.is_empty() || scope.rooms.is_empty() {
            return Ok(Found { hits: Vec::new(), count: 0, highlights: BTreeSet::new(), next: None });
        }
        looking.find(&scope)
    }

    /// Which indexed events may be results.
    fn scope_of(&self, query: &SearchQuery) -> Result<Scope, SearchError> {
        let wanted = query.rooms.as_ref().map(|rooms| self.with_predecessors(rooms)).transpose()?;
        let unwanted = self.room_nids(&query.not_rooms)?;
        let mut rooms = HashSet::new();
        for (room, row) in self.rooms.user_rooms(query.viewer)?.iter() {
            let is_wanted = wanted.as_ref().is_none_or(|wanted| wanted.contains(room)) && !unwanted.contains(room);
            if is_wanted && row.was_joined() && !row.forgotten && !self.is_encrypted(*room)? {
                rooms.insert(*room);
            }
        }
        let mut senders = query.senders.as_ref().map(|senders| self.user_nids(senders)).transpose()?;
        let mut not_senders = self.user_nids(&query.not_senders)?;
        for ignored in self.users.ignored_users(query.viewer)?.iter() {
            not_senders.extend(self.rooms.user_nid(ignored)?);
        }
        match query.from.and_then(Token::group) {
            Some(Group::Room(room)) => rooms.retain(|known| *known == room),
            Some(Group::Sender(sender)) if senders.as_ref().is_none_or(|senders| senders.contains(&sender)) => {
                senders = Some(BTreeSet::from([sender]));
            }
            Some(Group::Sender(_)) => rooms.clear(),
            None => {}
        }
        Ok(Scope { rooms, senders, not_senders, keys: query.keys.clone() })
    }

    /// What was said there before it was encrypted is not searched either: the clients' own search has it.
    fn is_encrypted(&self, room: RoomNid) -> Result<bool, SearchError> {
        let state = match self.rooms.head(room) {
            Ok(head) => head.state(),
            Err(RoomError::Inconsistent(_)) => return Ok(true),
            Err(error) => return Err(error.into()),
        };
        Ok(self.rooms.state_seq(room, state, "m.room.encryption", "")?.is_some())
    }

    fn room_nids(&self, rooms: &BTreeSet<String>) -> Result<HashSet<RoomNid>, SearchError> {
        let mut nids = HashSet::new();
        for room in rooms.iter().filter_map(|room| RoomId::parse(room).ok()) {
            nids.extend(self.rooms.room_nid(&room)?);
        }
        Ok(nids)
    }

    fn user_nids(&self, users: &BTreeSet<String>) -> Result<BTreeSet<UserNid>, SearchError> {
        let mut nids = BTreeSet::new();
        for user in users.iter().filter_map(|user| UserId::parse(user).ok()) {
            nids.extend(self.rooms.user_nid(&user)?);
        }
        Ok(nids)
    }

    /// Rooms, and those that they replaced: for people they are one.
    fn with_predecessors(&self, rooms: &BTreeSet<String>) -> Result<HashSet<RoomNid>, SearchError> {
        let mut all = self.room_nids(rooms)?;
        for mut room in all.clone() {
            for _ in 0..MAX_PREDECESSORS {
                let head = match self.rooms.head(room) {
                    // Known by its id alone.
                    Err(RoomError::Inconsistent(_)) => break,
                    head => head?,
                };
                let Some(predecessor) = predecessor_of(&head) else { break };
                match self.rooms.room_nid(&predecessor)? {
                    Some(older) if all.insert(older) => room = older,
                    _ => break,
                }
            }
        }
        Ok(all)
    }
}

fn predecessor_of(head: &Head) -> Option<RoomId> {
    let content: Map<String, Value> = head.create()?.content().ok()?;
    RoomId::parse(content.get("predecessor")?.get("room_id")?.as_str()?).ok()
}

/// One search under way.
struct Looking<'a> {
    search: &'a Search,
    query: &'a SearchQuery,
    terms: Terms,
    /// `None` for rooms that are there no more.
    views: HashMap<RoomNid, Option<Arc<RoomView>>>,
    highlights: BTreeSet<String>,
}

impl Looking<'_> {
    fn find(&mut self, scope: &Arc<Scope>) -> Result<Found, SearchError> {
        let (limit, order) = (self.query.limit, self.query.order);
        let mut after = self.query.from.map(|token| token.after);
        let (mut hits, mut further, mut looked_up) = (Vec::new(), 0u64, 0usize);
        // The place of the last result of this page, or of the last candidate without one.
        let mut end = after;
        let is_complete = loop {
            let collect = Collect { scope: scope.clone(), order, after, most: BATCH };
            let candidates = self.search.index.collect(&self.terms, &collect)?;
            let (mut is_enough, is_last) = (false, candidates.len() < BATCH);
            for candidate in candidates {
                after = Some(candidate.place);
                let is_full = hits.len() >= limit;
                match self.look_up(&candidate, !is_full)? {
                    Some(_) if is_full => further += 1,
                    Some(hit) => hits.push(hit),
                    None => {}
                }
                if !is_full {
                    end = after;
                }
                looked_up += 1;
                // Later pages know the count, and ask only whether there is more.
                let counts = self.query.from.is_none() && looked_up < MAX_COUNTED;
                let is_settled = hits.len() >= limit && further > 0 && !counts;
                let is_counted = hits.len() >= limit && looked_up >= limit.saturating_add(MAX_COUNTED);
                is_enough = is_settled || is_counted || looked_up >= MAX_LOOKED_UP;
                if is_enough {
                    break;
                }
            }
            if is_enough || is_last {
                break !is_enough;
            }
        };
        let seen = hits.len() as u64 + further;
        let count = self.query.from.map_or(seen, |token| token.count.max(seen));
        let group = self.query.from.and_then(Token::group);
        let next = end.filter(|_| further > 0 || !is_complete);
        let next = next.map(|after| Token { order, group, after, count });
        Ok(Found { hits, count, highlights: std::mem::take(&mut self.highlights), next })
    }

    /// The result that a candidate stands for, if it is one for this viewer.
    fn look_up(&mut self, candidate: &Candidate, is_shown: bool) -> Result<Option<Hit>, SearchError> {
        let place = candidate.place;
        let Some(view) = self.view(place.room)? else { return Ok(None) };
        let event = match self.search.rooms.event_at(place.room, place.seq) {
            // It was taken out of the store since.
            Err(RoomError::Inconsistent(_)) => return Ok(None),
            event => event?,
        };
        let Some(found) = read_text(&event) else { return Ok(None) };
        let Some(places) = self.terms.find_in(&split(&found.text)) else { return Ok(None) };
        let Some(event) = view.visible(vec![event])?.pop() else { return Ok(None) };
        let event = match &found.edits {
            Some(original) => edited(&view, &event, original)?,
            None => Some(event).filter(|event| !is_outdated(&view, event)),
        };
        let Some(event) = event.filter(|event| (self.query.wanted)(event)) else { return Ok(None) };
        if is_shown {
            note_highlights(&found.text, &places, MAX_HIGHLIGHTS, &mut self.highlights);
        }
        Ok(Some(Hit { view, event, rank: candidate.rank }))
    }

    fn view(&mut self, room: RoomNid) -> Result<Option<Arc<RoomView>>, SearchError> {
        if let Some(view) = self.views.get(&room) {
            return Ok(view.clone());
        }
        let view = match self.search.rooms.view(room, self.query.viewer) {
            Err(RoomError::Inconsistent(_)) => None,
            view => Some(Arc::new(view?)),
        };
        self.views.insert(room, view.clone());
        Ok(view)
    }
}

/// The message that an edit changes, if the edit is what the viewer sees of it now.
fn edited(view: &RoomView, edit: &Event, original: &str) -> Result<Option<Event>, SearchError> {
    let Ok(original) = EventId::parse(original) else { return Ok(None) };
    let original = match view.event(&original) {
        Err(RoomError::EventNotFound) => return Ok(None),
        original => original?,
    };
    let shown = view.bundle(&original)?.replacement;
    Ok(shown.is_some_and(|shown| shown.seq() == edit.seq()).then_some(original))
}

/// Whether the viewer sees another text in the event's place.
fn is_outdated(view: &RoomView, event: &Event) -> bool {
    event.flags().has(EventFlags::HAS_RELATIONS) && view.bundle(event).is_ok_and(|bundle| bundle.replacement.is_some())
}
