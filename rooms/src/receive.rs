//! Events of other servers: from the wire into the room's one pipeline.
//!
//! The order of checks is that of Server-Server API §Checks performed on receipt of a PDU. What needs
//! the network (keys, missing events) happens before, outside of the queue: a [`CheckedPdu`] has its
//! hash and signatures verified, and [`RoomError::Missing`] names what is to be fetched first.

use std::sync::Arc;

use spec::auth;
use spec::ids::{EventId, UserId};
use spec::pdu::Pdu;
use spec::power::PowerLevels;
use spec::version::RoomVersion;
use storage::{CommitError, Read};

use crate::append::Append;
use crate::checked::{Advice, CheckedPdu};
use crate::error::RoomError;
use crate::event::EventFlags;
use crate::head::Head;
use crate::ids::{RoomNid, RoomSeq, SnapshotId, UserNid};
use crate::keyspaces::{EARLY_REDACTIONS, HEADS, ROOM_NIDS};
use crate::partial::PartialRow;
use crate::place::{Part, Placed, Placing, Stored};
use crate::policy::names_policy_server;
use crate::rooms::Rooms;

/// The most bytes of events that one command brings to a room's writer.
const MAX_COMMAND_BYTES: usize = 1024 * 1024;
/// The most events of one command.
const MAX_COMMAND_EVENTS: usize = 64;

/// An event for a room's writer, with what had to be fetched for it.
#[derive(Clone, Debug)]
pub struct Received {
    /// The event.
    pub pdu: CheckedPdu,
    /// The state before it as another server gave it, where events that it follows are not known here. All of these
    /// events are stored; those that were rejected do not count.
    pub state_before: Option<Vec<EventId>>,
    /// Whether this server took it in for its sender's server, and passes it on (`send_join` and the like).
    pub relay: bool,
    /// Whether it is placed although events that it follows are not known here. Only in a partial room, where the state
    /// before it is provisional anyhow: what is missing is asked for when the event is judged again
    /// ([`Rooms::replay`]). In other rooms this says nothing.
    pub later: bool,
    /// Whether it is an event of ours that another server took in, and passes on (`send_join` and the like).
    pub told: bool,
}

impl From<CheckedPdu> for Received {
    fn from(pdu: CheckedPdu) -> Self {
        Received { pdu, state_before: None, relay: false, later: false, told: false }
    }
}

/// What became of a received event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was here already.
    Known,
    /// It is part of the room.
    Accepted,
    /// It is allowed where it stands, but no more: it is kept and not shown.
    SoftFailed(String),
    /// It is not allowed; it is kept so that it is not asked for again.
    Rejected(String),
}

impl Rooms {
    /// Takes in events of a room that is known here, in the order given, in one commit if they are few. One result for
    /// each. Where the room uses a policy server, what that has not signed is asked for first
    /// ([`Rooms::look_for_advice`]), and soft-failed if it is not recommended; what follows an event that names a policy
    /// server is a commit of its own, so that it is that server that is asked. Cancel-safe: what is submitted is
    /// carried out.
    ///
    /// # Errors
    /// For one event: [`RoomError::Missing`] with events to fetch first. For all: [`RoomError::Busy`], storage errors.
    pub async fn receive_all(
        &self,
        room: RoomNid,
        received: Vec<Received>,
    ) -> Result<Vec<Result<Verdict, RoomError>>, RoomError> {
        self.intern_people(received.iter().map(|received| &received.pdu)).await?;
        let mut verdicts = Vec::with_capacity(received.len());
        for stretch in received.split_inclusive(|received| names_policy_server(received.pdu.pdu())) {
            let advised = self.advise_all(room, stretch.to_vec()).await?;
            for group in split_commands(advised, |received| &received.pdu) {
                verdicts.extend(self.submit_received(room, group).await?);
            }
        }
        Ok(verdicts)
    }

    /// [`Rooms::receive_all`] for one event.
    ///
    /// # Errors
    /// The same, and [`RoomError::RoomNotFound`].
    pub async fn receive(&self, pdu: CheckedPdu) -> Result<Verdict, RoomError> {
        let room = self.known_room(&pdu.pdu.room_id)?;
        let verdict = self.receive_all(room, vec![pdu.into()]).await?.pop();
        verdict.unwrap_or(Err(RoomError::Busy))
    }

    /// Begins a room of another server's at its create event. Cancel-safe.
    ///
    /// # Errors
    /// [`RoomError::Forbidden`] if it is no acceptable create event.
    pub async fn receive_create(&self, pdu: CheckedPdu, version: RoomVersion) -> Result<(), RoomError> {
        let pdu = pdu.pdu;
        if &*pdu.kind != "m.room.create" {
            return Err(RoomError::Invalid("a room begins with its create event"));
        }
        auth::check_auth_events(version.rules(), &pdu, &[])?;
        self.intern_people([&CheckedPdu::of_ours(pdu.clone())]).await?;
        let sender = self.user_nid(&pdu.sender)?.ok_or(RoomError::Inconsistent("sender without a number"))?;
        let room = self.new_room_nid();
        let mut append = Append::new(self, Head::empty(room, pdu.room_id.clone(), version));
        append.add_event(&pdu, sender, None)?;
        let mut change = append.finish().ok_or(RoomError::Inconsistent("a room without events"))?;
        let id = pdu.room_id.as_str().to_owned();
        change.batch.expect_absent(&ROOM_NIDS, &id).expect_absent(&HEADS, &room).put(&ROOM_NIDS, &id, &room);
        match self.commit_new(room, change.head, change.batch).await {
            // It was here already, or somebody was faster.
            Err(RoomError::Commit(CommitError::Expectation { .. })) => Ok(()),
            result => result,
        }
    }

    /// Numbers for the senders and, for member events, for whom they are about: the writer commits no batch but its own.
    pub(crate) async fn intern_people(&self, pdus: impl IntoIterator<Item = &CheckedPdu>) -> Result<(), RoomError> {
        let mut people = Vec::new();
        for CheckedPdu { pdu, .. } in pdus {
            people.push(pdu.sender.clone());
            if &*pdu.kind == "m.room.member" {
                people.extend(pdu.state_key.as_deref().and_then(|user| UserId::parse(user).ok()));
            }
        }
        self.intern_users(&people).await
    }

    /// Which of these events are not stored; with `outliers`, one that is stored as an outlier counts as stored.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn unknown_events(&self, room: RoomNid, ids: &[EventId], outliers: bool) -> Result<Vec<EventId>, RoomError> {
        let mut unknown = Vec::new();
        for id in ids {
            let place = self.find_event(id.as_str())?.filter(|place| place.room == room);
            if place.is_none_or(|place| !outliers && place.seq >= RoomSeq::FIRST_OUTLIER) {
                unknown.push(id.clone());
            }
        }
        Ok(unknown)
    }
}

/// Parts of a few events and bytes each, so that no command holds a room's queue for long.
pub(crate) fn split_commands<T>(items: Vec<T>, pdu: impl Fn(&T) -> &CheckedPdu) -> Vec<Vec<T>> {
    let (mut groups, mut bytes) = (Vec::new(), 0);
    for item in items {
        let size = pdu(&item).pdu.json.len();
        bytes += size;
        match groups.last_mut() {
            Some(group) if bytes <= MAX_COMMAND_BYTES && Vec::len(group) < MAX_COMMAND_EVENTS => group.push(item),
            _ => {
                groups.push(vec![item]);
                bytes = size;
            }
        }
    }
    groups
}

impl Append<'_> {
    /// Authorises received events and adds them. One that fails leaves nothing behind, or everything is dropped for its
    /// failure: without it, the others may come again.
    pub(crate) fn receive_group(
        &mut self,
        received: Vec<Received>,
    ) -> Result<Vec<Result<Verdict, RoomError>>, RoomError> {
        let mut verdicts = Vec::with_capacity(received.len());
        for received in received {
            let before = self.added();
            match self.receive(received, None) {
                Err(error) if self.added() != before => return Err(error),
                verdict => verdicts.push(verdict),
            }
        }
        Ok(verdicts)
    }

    /// Judges one event and adds it. `mark` is kept with an event of ours: the device that sent it, and with which id.
    pub(crate) fn receive(
        &mut self,
        received: Received,
        mark: Option<(Box<str>, Box<str>)>,
    ) -> Result<Verdict, RoomError> {
        let Received { pdu: CheckedPdu { pdu, advice }, state_before, relay, later, told } = received;
        if pdu.room_id != self.head.room_id {
            return Err(RoomError::Invalid("the event is of another room"));
        }
        let promoted = match self.find_known(&pdu)? {
            Known::Placed => return Ok(Verdict::Known),
            Known::Outlier(outlier) => Some(outlier),
            Known::No => None,
        };
        let (auth_events, before) = self.gather_states(&pdu, state_before.as_deref(), later)?;
        let verdict = match self.judge(&pdu, &auth_events, before, true)? {
            Verdict::Accepted if advice == Advice::NotRecommended => {
                Verdict::SoftFailed("the room's policy server does not recommend it".to_owned())
            }
            verdict => verdict,
        };
        let mut flags = match &verdict {
            Verdict::Rejected(_) => EventFlags::REJECTED,
            Verdict::SoftFailed(_) => EventFlags::SOFT_FAILED,
            Verdict::Accepted | Verdict::Known => EventFlags::default(),
        };
        if relay && verdict == Verdict::Accepted {
            flags = flags.with(EventFlags::RELAY);
        }
        if told {
            flags = flags.with(EventFlags::TOLD);
        }
        let sender = self.rooms.user_nid(&pdu.sender)?.ok_or(RoomError::Inconsistent("sender without a number"))?;
        if verdict == Verdict::Accepted {
            self.expect_place_at_end(&pdu)?;
        }
        let placing = Placing { part: Part::Timeline, sender, before, flags, transaction: mark, promoted };
        let placed = self.place_event(&pdu, placing)?;
        match verdict {
            Verdict::Rejected(_) => self.end_backward_extremity(&pdu)?,
            _ => self.move_backward_extremities(&pdu)?,
        }
        if verdict == Verdict::Accepted {
            self.move_extremities(&pdu, placed.seq);
            self.move_onto(&pdu, &placed)?;
            self.connect(&pdu, sender, placed.seq)?;
        }
        Ok(verdict)
    }

    /// The current state follows an event that was accepted at the end of the room.
    fn move_onto(&mut self, pdu: &Arc<Pdu>, placed: &Placed) -> Result<(), RoomError> {
        if !self.is_replaying() {
            return self.resolve_current_state();
        }
        self.advance_current_state(pdu, placed)?;
        match self.read_member(pdu) {
            Ok(Some((user, membership))) => self.add_membership(user, membership, placed.seq),
            _ => Ok(()),
        }
    }

    /// What an accepted event means to others: what it redacts, what redacted it before it came, what it relates to.
    pub(crate) fn connect(&mut self, pdu: &Arc<Pdu>, sender: UserNid, seq: RoomSeq) -> Result<(), RoomError> {
        self.apply_redaction(pdu, seq)?;
        self.apply_early_redactions(pdu)?;
        if let Some(relation) = self.find_relation(pdu)? {
            self.add_relation(relation, pdu, sender, seq)?;
        }
        Ok(())
    }

    /// Whether the event is stored already, and as what.
    ///
    /// # Errors
    /// [`RoomError::Invalid`] if its id is that of an event of another room: room versions 1 and 2 let servers choose
    /// ids, and one id stands for one event here.
    pub(crate) fn find_known(&self, pdu: &Pdu) -> Result<Known, RoomError> {
        let id = pdu.event_id.as_str();
        let seq = match (self.ids.get(id), self.rooms.find_event(id)?) {
            (Some(seq), _) => *seq,
            (None, Some(place)) if place.room == self.head.room => place.seq,
            (None, Some(_)) => return Err(RoomError::Invalid("the event id is that of an event of another room")),
            (None, None) => return Ok(Known::No),
        };
        Ok(if seq < RoomSeq::FIRST_OUTLIER { Known::Placed } else { Known::Outlier(self.stored(seq)?) })
    }

    /// The auth events of a received event, and the state before it; in a partial room a provisional one, for which no
    /// previous event is needed that comes `later`, and which no other server has to give.
    ///
    /// # Errors
    /// [`RoomError::Missing`] with all that has to be fetched.
    pub(crate) fn gather_states(
        &mut self,
        pdu: &Pdu,
        state_before: Option<&[EventId]>,
        later: bool,
    ) -> Result<(Vec<Stored>, SnapshotId), RoomError> {
        let (auth_events, mut missing) = self.cited_auth_events(pdu)?;
        if state_before.is_none() && !(later && self.head.is_partial()) {
            for id in &pdu.prev_events {
                if self.anchored_with_states(id)?.is_none() {
                    missing.push(id.clone());
                }
            }
        }
        if !missing.is_empty() {
            return Err(RoomError::Missing(missing));
        }
        let partial = self.head.partial.clone();
        let before = match (partial, state_before) {
            (Some(partial), _) => self.provisional_state(pdu, &partial)?,
            (None, Some(ids)) => self.state_on(ids, self.head.row.state)?,
            (None, None) => self.state_before(pdu)?,
        };
        Ok((auth_events, before))
    }

    /// A state before an event of a partial room until it is judged again: what is known of its previous events, or the
    /// current state if nothing is. While the room is being replayed always the current state: some of the events
    /// before have their true states by then, and those must not be resolved with the ones that lack members.
    fn provisional_state(&mut self, pdu: &Pdu, partial: &PartialRow) -> Result<SnapshotId, RoomError> {
        let mut places = Vec::with_capacity(pdu.prev_events.len());
        if partial.full.is_none() {
            for id in &pdu.prev_events {
                places.extend(self.anchored(id)?.filter(|place| *place >= partial.join));
            }
        }
        if places.is_empty() {
            return Ok(self.head.row.state);
        }
        let roots = self.states_after(places)?;
        self.resolve(&roots)
    }

    /// Whether the room's events are being judged again.
    pub(crate) fn is_replaying(&self) -> bool {
        self.head.partial.as_ref().is_some_and(|partial| partial.full.is_some())
    }

    /// Empties what an accepted redaction names, if its sender may (Room Versions §Handling redactions). What is not
    /// here yet is emptied when it comes.
    fn apply_redaction(&mut self, pdu: &Pdu, by: RoomSeq) -> Result<(), RoomError> {
        let Some(id) = pdu.redacts(self.head.rules()) else { return Ok(()) };
        let target = self.stored_by_id(&id)?;
        if target.as_ref().is_none_or(|target| target.seq >= RoomSeq::FIRST_OUTLIER) {
            self.put_early_redaction(&id, by);
        }
        match target {
            Some(target) if self.may_redact(pdu, &target.pdu)? => self.redact(target.seq, by),
            _ => Ok(()),
        }
    }

    /// Notes a redaction of ours whose target is not here.
    pub(crate) fn note_early_redaction(&mut self, pdu: &Pdu, by: RoomSeq) {
        if let Some(id) = pdu.redacts(self.head.rules()) {
            self.put_early_redaction(&id, by);
        }
    }

    fn put_early_redaction(&mut self, target: &EventId, by: RoomSeq) {
        self.batch.put(&EARLY_REDACTIONS, &(self.head.room, target.as_str().to_owned(), by), &());
    }

    fn apply_early_redactions(&mut self, pdu: &Pdu) -> Result<(), RoomError> {
        let (room, id) = (self.head.room, pdu.event_id.as_str().to_owned());
        let keys: Vec<_> = self.rooms.store.scan(&EARLY_REDACTIONS, &(room, id)).keys().collect::<Result<_, _>>()?;
        for key in keys {
            self.batch.delete(&EARLY_REDACTIONS, &key);
            let redaction = self.stored(key.2)?;
            if let Some(target) = self.place_of(pdu.event_id.as_str())?
                && self.may_redact(&redaction.pdu, pdu)?
            {
                self.redact(target, key.2)?;
            }
        }
        Ok(())
    }

    fn may_redact(&self, redaction: &Pdu, target: &Pdu) -> Result<bool, RoomError> {
        let create = self.head.create.as_ref().ok_or(RoomError::Inconsistent("room without a create event"))?;
        let levels = PowerLevels::from_state(self.head.power_levels.as_deref(), create, self.head.rules());
        let may = target.sender.server_name() == redaction.sender.server_name()
            || levels.user(&redaction.sender).at_least(levels.redact());
        Ok(may && &*target.kind != "m.room.create")
    }
}

/// Whether an event is stored.
pub(crate) enum Known {
    /// In the timeline, or in the history before it.
    Placed,
    /// Outside of it.
    Outlier(Stored),
    /// Not at all.
    No,
}
