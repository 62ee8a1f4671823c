//! Gathering what a server has to be told, from the log.

use std::collections::BTreeSet;

use rooms::{Event, RoomError, RoomNid, RoomSeq};
use serde_json::Value;
use spec::ids::{RoomId, ServerName, UserId};
use users::Presence;

use super::eligible::Sent;
use super::ephemeral::{Ephemeral, Names, edu};
use super::pack::{CATCH_UP_ABOVE, CATCH_UP_NEWEST, MAX_EDUS, MAX_PDUS, Packer, Transaction, choose_after_outage};
use super::rows::{Progress, oldest_in_outbox};
use super::table::{PendingRoom, Stretch};
use super::{SendError, Sender};

/// How many events are read at a time.
const CHUNK: usize = 100;
/// How many events of a room are looked at for one transaction; the next one goes on from there.
const MAX_LOOKED_AT: usize = 2000;
/// How many EDUs of a transaction are device list updates, and how many to-device messages, at most: neither keeps the
/// other, or typing and receipts, out.
const MAX_DEVICE_EDUS: usize = 40;
const MAX_TO_DEVICE_EDUS: usize = 50;
/// A server that failed for longer was out, and is not sent everything: in milliseconds.
const OUTAGE_MS: u64 = 5 * 60 * 1000;

/// What is pending for a server, copied out of the table.
struct Agenda {
    rooms: Vec<(RoomNid, PendingRoom)>,
    extras: BTreeSet<(RoomNid, RoomSeq)>,
    has_outbox: bool,
    devices: Option<Stretch<storage::StreamPos>>,
    whole_lists: Vec<rooms::UserNid>,
    ephemeral: Ephemeral,
    max_pdus: usize,
    max_edus: usize,
}

impl Sender {
    /// The next transaction for a server. Its body is empty if it turned out that there is nothing to tell.
    pub(super) fn pack(&self, server: &ServerName) -> Result<Transaction, SendError> {
        let agenda = self.read_agenda(server);
        let mut packer = Packer::new(agenda.max_pdus, agenda.max_edus);
        let mut last_room = None;
        let in_rooms: BTreeSet<RoomNid> = agenda.rooms.iter().map(|(room, _)| *room).collect();
        for (room, pending) in &agenda.rooms {
            if packer.pdus_left() == 0 {
                break;
            }
            if let Err(error) = self.gather_room(server, *room, pending, &agenda.extras, &mut packer) {
                // It stays pending, and does not hold up the others.
                tracing::error!(destination = %server, room = room.0, %error, "a room's events cannot be sent");
            }
            last_room = Some(*room);
        }
        for (room, seq) in &agenda.extras {
            let is_taken = packer.acks.extras.contains(&(*room, *seq));
            // Those of a room come in the order of its other events.
            let is_later = in_rooms.contains(room) && packer.acks.rooms.get(room).is_none_or(|done| done.to < *seq);
            if !is_taken && !is_later && !self.gather_extra(*room, *seq, &mut packer) {
                break;
            }
        }
        self.gather_edus(server, agenda, &mut packer)?;
        if let Some(destination) = self.table.lock().get(server) {
            destination.last_room = last_room.or(destination.last_room);
        }
        Ok(packer.finish(self.random.token(20), self.server_name.as_str(), self.clock.now_ms()))
    }

    fn read_agenda(&self, server: &ServerName) -> Agenda {
        let was_out = self.was_out(server);
        let mut table = self.table.lock();
        let destination = table.destination(server);
        if was_out {
            destination.rooms.values_mut().for_each(|pending| pending.after_outage = true);
        }
        // Whoever was refused is sent less, down to one thing at a time, so that one that nobody wants is found.
        let divisor = 1usize << destination.refusals.min(6);
        let (max_pdus, max_edus) = ((MAX_PDUS / divisor).max(1), (MAX_EDUS / divisor).max(1));
        let after = destination.last_room.map_or(RoomNid(0), |room| RoomNid(room.0.saturating_add(1)));
        let in_turn = destination.rooms.range(after..).chain(destination.rooms.range(..after));
        Agenda {
            // Each room takes at least one look at the log; more than this would be wasted.
            rooms: in_turn.take(max_pdus * 4).map(|(room, pending)| (*room, *pending)).collect(),
            extras: destination.extras.iter().take(max_pdus).copied().collect(),
            has_outbox: std::mem::take(&mut destination.has_outbox),
            devices: destination.devices.filter(|stretch| !stretch.ending),
            whole_lists: destination.whole_lists.iter().take(MAX_DEVICE_EDUS).copied().collect(),
            ephemeral: destination.ephemeral.take(max_edus.div_ceil(4)),
            max_pdus,
            max_edus,
        }
    }

    /// Whether the server has failed for so long that it is not sent everything.
    pub(super) fn was_out(&self, server: &ServerName) -> bool {
        let noted = self.table.lock().get(server).and_then(|destination| destination.failing_since);
        let since = noted.into_iter().chain(self.destinations.failing_since(server)).min();
        since.is_some_and(|since| self.clock.now_ms().saturating_sub(since) > OUTAGE_MS)
    }

    /// Adds a room's events in their order, and notes up to where that is done.
    fn gather_room(
        &self,
        server: &ServerName,
        room: RoomNid,
        pending: &PendingRoom,
        extras: &BTreeSet<(RoomNid, RoomSeq)>,
        packer: &mut Packer,
    ) -> Result<(), RoomError> {
        let stretch = pending.stretch;
        if stretch.ending {
            return Ok(());
        }
        let newest = if pending.after_outage { self.newest_after_outage(server, room, stretch)? } else { None };
        if let Some(newest) = newest {
            let mut to = stretch.latest;
            for (index, event) in newest.iter().enumerate() {
                if !packer.add_pdu(event.json()) {
                    let Some(sent) = index.checked_sub(1).and_then(|last| newest.get(last)) else { return Ok(()) };
                    to = sent.seq();
                    break;
                }
            }
            packer.acks.rooms.insert(room, Progress { from: stretch.after, to });
            return Ok(());
        }
        let mut done = stretch.after;
        let mut looked_at = 0;
        'log: while done < stretch.latest && looked_at < MAX_LOOKED_AT {
            let events = self.rooms.events_after(room, done, CHUNK)?;
            looked_at += CHUNK;
            if events.is_empty() {
                done = stretch.latest;
            }
            for event in events.iter().take_while(|event| event.seq() <= stretch.latest) {
                let is_extra = extras.contains(&(room, event.seq()));
                if (is_extra || self.is_for(server, event)?) && !packer.add_pdu(event.json()) {
                    break 'log;
                }
                if is_extra {
                    packer.acks.extras.push((room, event.seq()));
                }
                done = event.seq();
            }
            if events.last().is_some_and(|event| event.seq() > stretch.latest) {
                done = stretch.latest;
            }
        }
        packer.acks.rooms.insert(room, Progress { from: stretch.after, to: done });
        Ok(())
    }

    fn gather_extra(&self, room: RoomNid, seq: RoomSeq, packer: &mut Packer) -> bool {
        match self.rooms.event_at(room, seq) {
            Ok(event) if !packer.add_pdu(event.json()) => return false,
            Ok(_) => {}
            Err(error) => tracing::error!(room = room.0, %error, "an event that was to be sent is gone"),
        }
        packer.acks.extras.push((room, seq));
        true
    }

    /// Whether a server is told of an event, by its being in the room.
    fn is_for(&self, server: &ServerName, event: &Event) -> Result<bool, RoomError> {
        let sender = event.sender_id();
        let origin = sender.as_ref().map_or("", UserId::server_name);
        let sent = Sent { seq: event.seq(), origin, flags: event.flags() };
        if !sent.is_ours(&self.server_name) {
            return Ok(false);
        }
        let stays = self.rooms.room_servers(event.room())?;
        Ok(stays.get(server).is_some_and(|stay| sent.is_for(&self.server_name, server, stay)))
    }

    /// The events to send of a room that waited through an outage, if they are so many that most are left out: the
    /// newest, and those that are sticky.
    fn newest_after_outage(
        &self,
        server: &ServerName,
        room: RoomNid,
        stretch: Stretch<RoomSeq>,
    ) -> Result<Option<Vec<Event>>, RoomError> {
        let Some(mut chosen) = self.choose_newest(server, room, stretch)? else { return Ok(None) };
        for event in self.rooms.sticky_events(room)? {
            let waits = event.seq() > stretch.after && event.seq() <= stretch.latest;
            let is_chosen = chosen.iter().any(|chosen| chosen.seq() == event.seq());
            if waits && !is_chosen && self.is_for(server, &event)? {
                chosen.push(event);
            }
        }
        chosen.sort_by_key(Event::seq);
        Ok(Some(chosen))
    }

    /// The newest events of a room that waited through an outage, if they are so many that most are left out.
    fn choose_newest(
        &self,
        server: &ServerName,
        room: RoomNid,
        stretch: Stretch<RoomSeq>,
    ) -> Result<Option<Vec<Event>>, RoomError> {
        let mut waiting = Vec::new();
        let (mut at, mut looked_at) = (stretch.after, 0);
        while at < stretch.latest && looked_at < MAX_LOOKED_AT && waiting.len() <= CATCH_UP_ABOVE {
            let events = self.rooms.events_after(room, at, CHUNK)?;
            looked_at += CHUNK;
            at = events.last().map_or(stretch.latest, Event::seq);
            for event in events.into_iter().filter(|event| event.seq() <= stretch.latest) {
                if self.is_for(server, &event)? {
                    waiting.push(event);
                }
            }
        }
        if at < stretch.latest {
            waiting = self.newest_for(server, room, stretch)?;
            return Ok(Some(waiting).filter(|newest| !newest.is_empty()));
        }
        let before = waiting.len();
        let chosen = choose_after_outage(waiting);
        Ok((chosen.len() < before).then_some(chosen))
    }

    /// The last events for a server, found from the end of the log.
    fn newest_for(
        &self,
        server: &ServerName,
        room: RoomNid,
        stretch: Stretch<RoomSeq>,
    ) -> Result<Vec<Event>, RoomError> {
        let mut newest = Vec::new();
        let (mut until, mut looked_at) = (stretch.latest, 0);
        while until > stretch.after && newest.len() < CATCH_UP_NEWEST && looked_at < MAX_LOOKED_AT {
            let from = RoomSeq(until.0.saturating_sub(CHUNK as i64)).max(stretch.after);
            let events = self.rooms.events_after(room, from, CHUNK)?;
            looked_at += CHUNK;
            for event in events.into_iter().rev().filter(|event| event.seq() <= until) {
                if newest.len() < CATCH_UP_NEWEST && self.is_for(server, &event)? {
                    newest.push(event);
                }
            }
            until = from;
        }
        newest.reverse();
        Ok(newest)
    }

    fn gather_edus(&self, server: &ServerName, agenda: Agenda, packer: &mut Packer) -> Result<(), SendError> {
        self.gather_device_lists(server, agenda.devices, &agenda.whole_lists, MAX_DEVICE_EDUS, packer)?;
        if agenda.has_outbox {
            self.gather_outbox(server, packer)?;
        }
        for edu in agenda.ephemeral.render(self) {
            if !packer.add_edu(&edu) {
                break;
            }
        }
        Ok(())
    }

    fn gather_outbox(&self, server: &ServerName, packer: &mut Packer) -> Result<(), SendError> {
        packer.outbox_left = true;
        let limit = MAX_TO_DEVICE_EDUS.min(packer.edus_left());
        let (messages, is_all) = oldest_in_outbox(&self.store, server, limit, packer.bytes_left())?;
        for (key, content) in messages {
            match serde_json::from_slice::<Value>(&content) {
                Ok(content) => {
                    if !packer.add_edu(&edu("m.direct_to_device", content)) {
                        return Ok(());
                    }
                }
                Err(error) => tracing::error!(destination = %server, %error, "a queued message is damaged"),
            }
            packer.acks.outbox.push(key);
        }
        packer.outbox_left = !is_all;
        Ok(())
    }
}

impl Names for Sender {
    fn room(&self, room: RoomNid) -> Option<RoomId> {
        self.rooms.room_id(room).ok()
    }

    fn user(&self, user: rooms::UserNid) -> Option<UserId> {
        self.rooms.user_id(user).ok()
    }

    fn presence(&self, user: rooms::UserNid) -> Option<(Presence, u64)> {
        Some((self.users.presence(user)?, self.clock.now_ms()))
    }
}
