//! Finding in the log what waits for a service that was away, or whose notes were lost with a restart.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use rooms::{RoomNid, RoomSeq};
use storage::StreamPos;

use crate::Dispatcher;
use crate::error::DispatchError;
use crate::follow::skip_unreadable;
use crate::interest::Interest;
use crate::line::{Line, MAX_NOTED, Noted};
use crate::rows::Place;

/// How many events of one room are looked at at a time.
const CHUNK: usize = 64;
/// How many accounts are looked at at a time.
const ACCOUNTS: usize = 500;

/// One room, or the rooms that this server is not in: what is of interest there, oldest first.
struct Source {
    /// `None` once there is nothing more in the timeline.
    timeline: Option<(RoomNid, RoomSeq)>,
    found: VecDeque<Noted>,
}

impl Dispatcher {
    /// Fills a line from the log, until it has something or is live.
    pub(crate) async fn catch_up(&self, line: &Line) -> Result<(), DispatchError> {
        loop {
            let from = {
                let waiting = line.waiting.lock();
                if waiting.is_live || !waiting.events.is_empty() {
                    return Ok(());
                }
                waiting.upto
            };
            let target = *self.done.lock();
            let (found, is_all) = match from >= Place::after(target) {
                true => (Vec::new(), true),
                false => self.collect(line, from, target).await?,
            };
            let done = self.done.lock();
            let mut waiting = line.waiting.lock();
            waiting.upto = match found.last() {
                Some(last) if !is_all => last.place(),
                _ => Place::after(target),
            };
            waiting.events.extend(found);
            // What came meanwhile is found by the next round.
            waiting.is_live = is_all && *done == target;
        }
    }

    /// The oldest events after a place and up to a position that are of interest to a service, and whether these are
    /// all.
    async fn collect(&self, line: &Line, from: Place, upto: StreamPos) -> Result<(Vec<Noted>, bool), DispatchError> {
        let interest = self.interest();
        let Some(index) = interest.index_of(line.service.id()) else { return Ok((Vec::new(), true)) };
        let mut sources = Vec::new();
        // The commit of the place itself may have more.
        let before = StreamPos(from.pos.0.saturating_sub(1));
        for room in self.rooms.rooms_changed_after(before)? {
            let after = self.rooms.seq_at(room, before).map(|after| {
                sources.push(Source { timeline: Some((room, after)), found: VecDeque::new() });
            });
            skip_unreadable("room", room.0, after.map_err(DispatchError::from))?;
            tokio::task::yield_now().await;
        }
        sources.push(Source { timeline: None, found: self.collect_outside(&interest, index, from, upto).await? });
        let mut next = BinaryHeap::new();
        for (number, source) in sources.iter_mut().enumerate() {
            if let Some(first) = self.advance(&interest, index, source, from, upto)? {
                next.push(Reverse((first, number)));
            }
            tokio::task::yield_now().await;
        }
        let mut found = Vec::new();
        while let Some(Reverse((noted, number))) = next.pop() {
            if found.len() >= MAX_NOTED {
                return Ok((found, false));
            }
            found.push(noted);
            let Some(source) = sources.get_mut(number) else { continue };
            if let Some(following) = self.advance(&interest, index, source, from, upto)? {
                next.push(Reverse((following, number)));
            }
            if found.len() % 256 == 255 {
                tokio::task::yield_now().await;
            }
        }
        Ok((found, true))
    }

    /// The next event of a source.
    fn advance(
        &self,
        interest: &Interest,
        index: usize,
        source: &mut Source,
        from: Place,
        upto: StreamPos,
    ) -> Result<Option<Noted>, DispatchError> {
        while source.found.is_empty() {
            let Some((room, after)) = source.timeline.take() else { return Ok(None) };
            let looked = self.advance_in(interest, index, source, (room, after), (from, upto));
            skip_unreadable("room", room.0, looked)?;
        }
        Ok(source.found.pop_front())
    }

    /// Looks at the next events of a room.
    fn advance_in(
        &self,
        interest: &Interest,
        index: usize,
        source: &mut Source,
        (room, after): (RoomNid, RoomSeq),
        (from, upto): (Place, StreamPos),
    ) -> Result<(), DispatchError> {
        let events = self.rooms.events_after(room, after, CHUNK)?;
        let last = events.last().filter(|last| events.len() == CHUNK && last.pos() <= upto);
        source.timeline = last.map(|last| (room, last.seq()));
        for event in events {
            let noted = Noted { pos: event.pos(), room, seq: event.seq() };
            let is_new = noted.place() > from && noted.pos <= upto && event.flags().is_visible();
            if is_new && interest.in_event(&event)?.contains(&index) {
                source.found.push_back(noted);
            }
        }
        Ok(())
    }

    /// Member events of the service's users in rooms that this server is not in.
    async fn collect_outside(
        &self,
        interest: &Interest,
        index: usize,
        from: Place,
        upto: StreamPos,
    ) -> Result<VecDeque<Noted>, DispatchError> {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let accounts = self.users.list_accounts(after, ACCOUNTS)?;
            for account in &accounts {
                if !interest.of_user(account.user)?.contains(&index) {
                    continue;
                }
                for (room, row) in self.rooms.user_rooms(account.user)?.iter() {
                    if row.pos >= from.pos
                        && let Some(noted) = self.outside_event(*room, account.user)?
                        && noted.place() > from
                        && noted.pos <= upto
                    {
                        found.push(noted);
                    }
                }
            }
            if accounts.len() < ACCOUNTS {
                break;
            }
            after = accounts.last().map(|account| account.user);
            tokio::task::yield_now().await;
        }
        found.sort_unstable();
        Ok(found.into())
    }
}
