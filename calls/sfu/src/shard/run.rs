//! The loop of a media thread: take datagrams and commands, do what is due, send, rest.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use runtime::Clock;
use slab::Slab;
use str0m::net::Protocol;

use super::directory::{Arrival, Directory};
use super::exchange::Batch;
use super::ports::{TcpOrder, TcpWay};
use super::routes::{Route, Routes};
use super::udp::{Sender, UdpPort};
use super::{Backlog, Board, Command, Seat};
use crate::record::RecordError;
use crate::report::LegStats;
use crate::room::{Env, Fixed, Goodbye, JoinOptions, JoinRefusal, Notice, Outbox, PeerAt, Room, RouteChange, TICK};
use crate::server::{DisconnectReason, Observer};

/// After so long with commands media have their turn: a negotiation with many lines takes milliseconds.
const COMMANDS_TIME: Duration = Duration::from_millis(1);
/// Batches of datagrams of one round, so that commands have their turn.
const BATCHES_A_ROUND: usize = 64;
/// How often operators' overview is renewed.
const OVERVIEW_EVERY: Duration = Duration::from_secs(2);
/// How long the loop rests at most.
const REST: Duration = TICK;
/// What is due within so long is done together.
const SHORTEST_REST: Duration = Duration::from_millis(1);

/// A room and whether it has something to send.
pub(super) struct Slot {
    pub room: Room,
    pub touched: bool,
}

/// A media thread's state.
pub struct Shard {
    /// Its number.
    pub(super) thread: usize,
    pub(super) fixed: Arc<Fixed>,
    pub(super) clock: Clock,
    /// What [`Clock::monotonic`] is counted from, as the engine wants it.
    pub(super) started: Instant,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) board: Arc<Board>,
    pub(super) directory: Arc<Directory>,
    pub(super) inbox: Receiver<Command>,
    pub(super) backlog: Arc<Backlog>,
    pub(super) batches: Receiver<Batch>,
    pub(super) udp: Arc<Vec<UdpPort>>,
    pub(super) tcp: TcpWay,
    pub(super) sender: Sender,
    pub(super) rooms: Slab<Slot>,
    pub(super) by_name: HashMap<String, usize>,
    pub(super) touched: Vec<usize>,
    pub(super) routes: Routes,
    pub(super) wakes: BinaryHeap<Reverse<(Instant, usize, PeerAt)>>,
    pub(super) out: Outbox,
    pub(super) next_tick: Instant,
    pub(super) next_overview: Instant,
    pub(super) stopping: bool,
}

impl Shard {
    pub(super) fn now(&self) -> Instant {
        self.started + self.clock.monotonic()
    }

    /// Runs until stopped. A panic ends all calls of this thread and nothing else; clients come back.
    pub fn run(mut self) {
        while !self.stopping {
            let round = catch_unwind(AssertUnwindSafe(|| self.round()));
            if round.is_err() {
                tracing::error!("a media thread panicked: its calls are ended; this is a bug in the server");
                self.start_over();
            }
        }
    }

    fn start_over(&mut self) {
        for (_, slot) in &self.rooms {
            for identity in slot.room.active_identities() {
                self.observer.left(&slot.room.name, identity, LegStats::default());
            }
        }
        for name in self.by_name.keys() {
            self.directory.close(name);
        }
        self.rooms.clear();
        self.by_name.clear();
        self.touched.clear();
        self.routes.clear();
        self.wakes.clear();
        self.out = Outbox::default();
        self.renew_board(true);
    }

    fn round(&mut self) {
        let begun = self.now();
        let more = self.take_batches(begun) | self.take_commands(begun);
        self.wake_due(begun);
        if begun >= self.next_tick {
            self.tick(begun);
        }
        self.flush();
        let now = self.now();
        self.fixed.metrics.round_seconds.observe_duration(now.saturating_duration_since(begun));
        if !more {
            let wake = self.wakes.peek().map(|Reverse((at, ..))| at.saturating_duration_since(now));
            let rest = wake.unwrap_or(REST).min(self.next_tick.saturating_duration_since(now));
            // Whoever sends something ends the rest, also one that has not begun.
            std::thread::park_timeout(rest.clamp(SHORTEST_REST, REST));
        }
    }

    /// Takes datagrams; whether there may be more.
    fn take_batches(&mut self, begun: Instant) -> bool {
        for _ in 0..BATCHES_A_ROUND {
            let Ok(batch) = self.batches.try_recv() else { return false };
            self.receive_batch(&batch, begun);
        }
        true
    }

    /// Takes commands for a while; whether there may be more.
    fn take_commands(&mut self, begun: Instant) -> bool {
        loop {
            let Ok(command) = self.inbox.try_recv() else { return false };
            self.backlog.took();
            self.take_command(command);
            if self.stopping || self.now().saturating_duration_since(begun) > COMMANDS_TIME {
                return true;
            }
        }
    }

    fn take_command(&mut self, command: Command) {
        match command {
            Command::Join { options, arrival, reply } => {
                // Whoever asked may have given up; the link is closed then and the participant goes.
                let _ = reply.send(self.join(*options, &arrival));
            }
            Command::Message { seat, message } => self.with_room(seat.room, |room, env| {
                if room.is_linked(seat.participant, seat.connection) {
                    room.take_message(seat.participant, *message, env);
                }
            }),
            Command::Lost { seat } => self.with_room(seat.room, |room, env| {
                if room.is_linked(seat.participant, seat.connection) {
                    room.lose_link(seat.participant, seat.connection, env);
                }
            }),
            Command::Disconnect { room, identity, reason } => {
                let goodbye = match reason {
                    DisconnectReason::Removed => Goodbye::Removed,
                    DisconnectReason::RoomClosed => Goodbye::RoomClosed,
                    DisconnectReason::Shutdown => Goodbye::Shutdown,
                };
                self.with_named(&room, |room, env| room.remove_identity(&identity, goodbye, env));
            }
            Command::Mute { room, identity, track } => {
                self.with_named(&room, |room, _| room.mute_track(&identity, &track));
            }
            Command::Record { room, tap, reply } => {
                let mut outcome = Err(RecordError::NoCall);
                self.with_named(&room, |room, env| outcome = room.record(*tap, env));
                // Whoever asked may have given up: then nobody writes, and the first packet ends it.
                let _ = reply.send(outcome);
            }
            Command::StopRecording { room } => self.with_named(&room, |room, _| room.stop_recording()),
            Command::Stop { done } => {
                let rooms: Vec<usize> = self.rooms.iter().map(|(key, _)| key).collect();
                for key in rooms {
                    self.with_room(key, |room, env| room.close(Goodbye::Shutdown, env));
                }
                self.stopping = true;
                let _ = done.send(());
            }
        }
    }

    fn join(&mut self, options: JoinOptions, arrival: &Arrival) -> Result<Seat, JoinRefusal> {
        let connection = options.link.connection;
        let name = options.grant.room.clone();
        let key = match self.by_name.get(&name) {
            Some(key) => *key,
            None if options.resume.is_some() => return Err(JoinRefusal::NoSession),
            None if !options.grant.may_create => return Err(JoinRefusal::NoRoom),
            None if self.directory.rooms() >= self.fixed.config.max_rooms as usize => return Err(JoinRefusal::Full),
            None => self.open_room(name),
        };
        if options.resume.is_none() && self.directory.participants() >= self.fixed.config.max_participants as usize {
            return Err(JoinRefusal::Full);
        }
        let mut joined = Err(JoinRefusal::NoRoom);
        self.with_room(key, |room, env| joined = room.join(options, env));
        self.renew_board(false);
        joined.map(|participant| Seat { thread: arrival.thread, room: key, participant, connection })
    }

    fn open_room(&mut self, name: String) -> usize {
        let sid = format!("RM_{}", self.fixed.random.token(12));
        tracing::info!(room = %sid, "a call begins");
        let room = Room::new(name.clone(), sid, self.now(), self.clock.now_ms());
        let key = self.rooms.insert(Slot { room, touched: false });
        self.directory.open(&name);
        self.by_name.insert(name, key);
        key
    }

    fn with_named(&mut self, name: &str, act: impl FnOnce(&mut Room, &mut Env<'_>)) {
        if let Some(key) = self.by_name.get(name).copied() {
            self.with_room(key, act);
        }
    }

    /// Lets a room do something, and takes over where datagrams are to go and when it wants to be woken.
    pub(super) fn with_room(&mut self, key: usize, act: impl FnOnce(&mut Room, &mut Env<'_>)) {
        let now = self.now();
        let Some(slot) = self.rooms.get_mut(key) else { return };
        let mut env = Env { fixed: &self.fixed, now, now_ms: self.clock.now_ms(), out: &mut self.out };
        act(&mut slot.room, &mut env);
        if !std::mem::replace(&mut slot.touched, true) {
            self.touched.push(key);
        }
        for change in self.out.routes.drain(..) {
            match change {
                RouteChange::AddName(name, at) => self.routes.add_name(name, Route { room: key, at }),
                RouteChange::RemoveName(name) => self.routes.remove_name(&name),
                RouteChange::RemoveAddress(address) => self.routes.remove_address(address, key),
            }
        }
        self.wakes.extend(self.out.wakes.drain(..).map(|(at, peer)| Reverse((at, key, peer))));
        for notice in self.out.notices.drain(..) {
            match notice {
                Notice::Joined { identity } => self.observer.joined(&slot.room.name, &identity),
                Notice::Left { identity, stats } => self.observer.left(&slot.room.name, &identity, stats),
            }
        }
    }

    fn wake_due(&mut self, now: Instant) {
        while let Some(Reverse((at, key, peer))) = self.wakes.peek().copied() {
            if at > now {
                break;
            }
            self.wakes.pop();
            self.with_room(key, |room, env| room.wake(peer, env));
        }
    }

    fn tick(&mut self, now: Instant) {
        self.next_tick = now + TICK;
        let keys: Vec<usize> = self.rooms.iter().map(|(key, _)| key).collect();
        for key in keys {
            let mut over = false;
            self.with_room(key, |room, env| {
                room.tick(env);
                over = room.is_over(env);
            });
            if over {
                self.close_room(key);
            }
        }
        let overview = now >= self.next_overview;
        if overview {
            self.next_overview = now + OVERVIEW_EVERY;
        }
        self.renew_board(overview);
    }

    fn close_room(&mut self, key: usize) {
        let Some(slot) = self.rooms.try_remove(key) else { return };
        tracing::info!(room = %slot.room.sid, "a call ends");
        self.by_name.remove(&slot.room.name);
        self.directory.close(&slot.room.name);
        self.routes.remove_room(key);
        self.touched.retain(|other| *other != key);
    }

    fn renew_board(&self, overview: bool) {
        let now = self.now();
        self.directory.note_load(self.thread, self.rooms.iter().map(|(_, slot)| slot.room.len()).sum());
        if overview {
            self.board.renew(self.rooms.iter().map(|(_, slot)| slot.room.overview(now)).collect());
        }
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.fixed.metrics.rooms.set(count(self.directory.rooms()));
        self.fixed.metrics.participants.set(count(self.directory.participants()));
    }

    /// Lets all rooms that did something finish, and sends what they have.
    pub(super) fn flush(&mut self) {
        let mut over_tcp = self.send();
        while let Some(key) = self.touched.last().copied() {
            let mut more = false;
            self.with_room(key, |room, env| more = room.flush_next(env));
            over_tcp |= self.send();
            if !more {
                self.touched.pop();
                if let Some(slot) = self.rooms.get_mut(key) {
                    slot.touched = false;
                }
            }
        }
        if over_tcp {
            self.tcp.wake();
        }
    }

    /// Sends what rooms have given; whether some of it goes over TCP, which has to be woken for it.
    fn send(&mut self) -> bool {
        let metrics = &self.fixed.metrics;
        let mut over_tcp = false;
        for datagram in self.out.datagrams.drain(..) {
            if datagram.proto == Protocol::Udp {
                let (source, destination) = (datagram.source, datagram.destination);
                self.sender.push(&self.udp, source, destination, &datagram.contents, metrics);
            } else {
                self.tcp.order(TcpOrder::Send(datagram.destination, datagram.contents.into()));
                over_tcp = true;
            }
        }
        for (way, packet) in self.out.media.packets() {
            if way.protocol == Protocol::Udp {
                self.sender.push(&self.udp, way.source, way.destination, packet, metrics);
            } else {
                self.tcp.order(TcpOrder::Send(way.destination, packet.to_vec()));
                over_tcp = true;
            }
        }
        self.out.media.clear();
        self.sender.flush(&self.udp, metrics);
        over_tcp
    }
}
