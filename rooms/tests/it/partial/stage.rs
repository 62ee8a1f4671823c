//! A room of server one and of users elsewhere, which a user of server two enters: once without its members, and once,
//! on another server of the same name, with all of its state, to compare.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use rooms::{
    CheckedPdu, Draft, Event, EventFlags, Finish, GivenState, Membership, Preset, Received, RoomError, RoomNid,
    RoomSeq, SnapshotId, Verdict,
};
use serde_json::{Value, json};
use spec::ids::{EventId, RoomId, ServerName, UserId};
use spec::pdu::{Pdu, ReceivedPdu};
use spec::version::RoomVersion;

use crate::foreign::{Foreign, member, set_member};
use crate::server::{Server, object, text};

pub const VERSIONS: [RoomVersion; 4] = [RoomVersion::V6, RoomVersion::V10, RoomVersion::V11, RoomVersion::V12];

/// The event ids of a state, by type and state key.
pub type State = BTreeMap<(String, String), String>;

#[derive(Clone)]
pub struct Stage {
    pub one: Server,
    /// Enters the room without its members.
    pub partial: Server,
    /// Enters the same room with the same join and all of its state.
    pub full: Server,
    pub far: Foreign,
    pub room: RoomId,
    pub version: RoomVersion,
    pub alice: UserId,
    /// Of server one, as Alice is.
    pub anna: UserId,
    /// Of the far server; a member.
    pub fred: UserId,
    /// Of the far server; may kick, but was banned before.
    pub eve: UserId,
    /// Of server two.
    pub bob: UserId,
    pub join: CheckedPdu,
    /// The state before the join.
    pub before: Vec<EventId>,
    /// Auth events that Eve's events cite: from the time before her ban.
    pub of_eve: Vec<EventId>,
}

impl Stage {
    /// A room that Bob is about to enter.
    pub async fn set(version: RoomVersion) -> Stage {
        let one = Server::named("one.test", 1);
        let far = Foreign::new("far.test");
        let ((alice, _), (anna, _)) = (one.user("alice").await, one.user("anna").await);
        let (fred, eve) = (far.user("fred"), far.user("eve"));
        let bob = UserId::parse("@bob:two.test").unwrap();
        let room = one.create(&alice, version, Preset::PublicChat).await;
        one.change(&room, &anna, &anna, Membership::Join).await.unwrap();
        let mut users = json!({eve.as_str(): 50});
        if version != RoomVersion::V12 {
            users[alice.as_str()] = 100.into();
        }
        let levels = object(json!({"users": users, "kick": 50, "ban": 50, "state_default": 0, "events_default": 0}));
        one.append(&room, Draft::state(alice.clone(), "m.room.power_levels", "", levels)).await.unwrap();
        far.turn(&one, &room, &fred, Membership::Join).await;
        far.turn(&one, &room, &eve, Membership::Join).await;
        let nid = one.rooms.known_room(&room).unwrap();
        let of_eve = far.prepare(&one, nid, Draft::message(eve.clone(), "m.room.message", text("x")));
        let of_eve = of_eve.pdu().auth_events.clone();
        set_member(&one, &room, &alice, &eve, Membership::Ban).await;
        let partial = Server::named("two.test", 2);
        let full = Server::named("two.test", 2);
        let (join, before) = take_in(&one, &room, &bob).await;
        Stage { one, partial, full, far, room, version, alice, anna, fred, eve, bob, join, before, of_eve }
    }

    /// The same, and Bob has entered on both servers.
    pub async fn entered(version: RoomVersion) -> Stage {
        let stage = Stage::set(version).await;
        stage.enter_partial(&stage.partial).await.unwrap();
        let nid = stage.full.rooms.begin_room(&stage.room, version).await.unwrap();
        stage.fetch(&stage.full, &stage.before).await;
        stage.full.rooms.enter(nid, stage.join.clone(), stage.before.clone()).await.unwrap();
        stage
    }

    /// Bob has left, and is about to enter again.
    pub async fn next_stay(&self) -> Stage {
        let (join, before) = take_in(&self.one, &self.room, &self.bob).await;
        Stage { join, before, ..self.clone() }
    }

    /// The same room for those who are invited, as Carl of server two is, who is about to enter in Bob's place.
    pub async fn invited(version: RoomVersion) -> Stage {
        let stage = Stage::set(version).await;
        let rule = object(json!({"join_rule": "invite"}));
        stage.one.append(&stage.room, Draft::state(stage.alice.clone(), "m.room.join_rules", "", rule)).await.unwrap();
        let carl = UserId::parse("@carl:two.test").unwrap();
        set_member(&stage.one, &stage.room, &stage.alice, &carl, Membership::Invite).await;
        let (join, before) = take_in(&stage.one, &stage.room, &carl).await;
        Stage { join, before, bob: carl, ..stage }
    }

    pub async fn enter_partial(&self, server: &Server) -> Result<(), RoomError> {
        let nid = server.rooms.begin_room(&self.room, self.version).await.unwrap();
        let told: Vec<EventId> =
            self.before.iter().filter(|id| self.event(id).kind() != "m.room.member").cloned().collect();
        self.fetch(server, &told).await;
        self.fetch(server, &self.join.pdu().auth_events).await;
        let via = ServerName::parse("one.test").unwrap();
        let servers = vec![via.clone(), self.far.name.clone()];
        server.rooms.enter_partial(nid, self.join.clone(), told, &via, servers).await
    }

    pub fn nid(&self, server: &Server) -> RoomNid {
        server.rooms.known_room(&self.room).unwrap()
    }

    /// An event as server one has it.
    pub fn event(&self, id: &EventId) -> Event {
        find(&self.one, &self.room, id.as_str()).unwrap()
    }

    pub fn check(&self, event: &Event) -> CheckedPdu {
        let rules = self.version.rules();
        let received = ReceivedPdu::check(serde_json::from_str(event.json()).unwrap(), rules).unwrap();
        CheckedPdu::of_ours(received.into_pdu(rules).unwrap().into())
    }

    /// Stores events of server one, and those that authorise them, outside of the timeline of another.
    pub async fn fetch(&self, server: &Server, ids: &[EventId]) {
        self.try_fetch(server, ids).await.unwrap();
    }

    pub async fn try_fetch(&self, server: &Server, ids: &[EventId]) -> Result<(), RoomError> {
        let (mut waiting, mut met, mut events) = (ids.to_vec(), HashSet::new(), Vec::new());
        while let Some(id) = waiting.pop() {
            if met.insert(id.clone()) {
                let event = self.event(&id);
                let pdu = self.check(&event);
                waiting.extend(pdu.pdu().auth_events.iter().cloned());
                events.push((event.seq(), pdu));
            }
        }
        // What server one took in first authorises what came later.
        events.sort_by_key(|(seq, _)| *seq);
        let pdus = events.into_iter().map(|(_, pdu)| pdu).collect();
        for verdict in server.rooms.receive_outliers(self.nid(server), pdus).await? {
            verdict?;
        }
        Ok(())
    }

    /// Hands an event to a server, which fetches what authorises it; the partial one takes it whatever it follows.
    pub async fn deliver(&self, server: &Server, pdu: &CheckedPdu) -> Result<Verdict, RoomError> {
        let received = Received { later: true, ..pdu.clone().into() };
        let mut verdicts = server.rooms.receive_all(self.nid(server), vec![received.clone()]).await.unwrap();
        match verdicts.pop().unwrap() {
            Err(RoomError::Missing(missing)) => {
                let auth: Vec<EventId> = missing.into_iter().filter(|id| pdu.pdu().auth_events.contains(id)).collect();
                self.fetch(server, &auth).await;
                server.rooms.receive_all(self.nid(server), vec![received]).await.unwrap().pop().unwrap()
            }
            verdict => verdict,
        }
    }

    /// Hands what server one has to both others, in its order.
    pub async fn deliver_to_both(&self, id: &EventId) -> (Verdict, Verdict) {
        let pdu = self.check(&self.event(id));
        (self.deliver(&self.partial, &pdu).await.unwrap(), self.deliver(&self.full, &pdu).await.unwrap())
    }

    /// An event of a user of the far server that nobody would have let them send.
    pub fn forge(&self, draft: Draft, follows: &[EventId], auth: &[EventId], depth: i64) -> CheckedPdu {
        let ids = |ids: &[EventId]| ids.iter().map(|id| id.as_str().to_owned()).collect::<Vec<_>>();
        let mut event = object(json!({
            "type": draft.kind, "sender": draft.sender.as_str(), "room_id": self.room.as_str(),
            "content": Value::Object(draft.content), "prev_events": ids(follows), "auth_events": ids(auth),
            "depth": depth, "origin_server_ts": 1_700_000_000_000_i64 + depth,
        }));
        if let Some(state_key) = draft.state_key {
            event.insert("state_key".into(), (&*state_key).into());
        }
        self.far.sign(event, self.version.rules())
    }

    /// Eve, who was banned before, kicks a user.
    pub fn bogus_kick(&self, target: &UserId, follows: &[EventId], depth: i64) -> CheckedPdu {
        let mut auth = self.of_eve.clone();
        let key = ("m.room.member".to_owned(), target.as_str().to_owned());
        auth.extend(current_state(&self.one, &self.room).get(&key).map(|id| EventId::parse(id).unwrap()));
        self.forge(member(&self.eve, target, Membership::Leave), follows, &auth, depth)
    }

    pub fn end_of_one(&self) -> Vec<EventId> {
        let head = self.one.rooms.head(self.nid(&self.one)).unwrap();
        head.extremities().map(|id| EventId::parse(id).unwrap()).collect()
    }

    /// The state before the join is here.
    pub async fn begin_replay(&self, server: &Server) {
        self.fetch(server, &self.before).await;
        let given = GivenState { state: self.before.clone(), then: None };
        server.rooms.begin_replay(self.nid(server), &self.join.pdu().event_id, vec![given]).await.unwrap();
    }

    /// Judges all that is marked again, a few events at a time, and finishes.
    pub async fn replay(&self, server: &Server, given: Vec<(EventId, GivenState)>) {
        let nid = self.nid(server);
        for _ in 0..100 {
            let marked = server.rooms.partial_events(nid).unwrap();
            for few in marked.chunks(3) {
                let seqs = few.iter().map(|event| event.seq).collect();
                server.rooms.replay(nid, seqs, given.clone()).await.unwrap();
                server.assert_sound();
            }
            if server.rooms.finish_partial(nid).await.unwrap() == Finish::Done {
                return;
            }
        }
        panic!("the replay does not end");
    }

    pub fn current(&self, server: &Server) -> State {
        current_state(server, &self.room)
    }

    pub fn flags(&self, server: &Server, id: &EventId) -> EventFlags {
        find(server, &self.room, id.as_str()).unwrap().flags()
    }

    /// Events from the join on that two servers judge differently, or before which they see another state.
    pub fn differences(&self, a: &Server, b: &Server) -> Vec<String> {
        let (a, b) = (self.judged(a), self.judged(b));
        let mut found = Vec::new();
        for id in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
            match (a.get(id), b.get(id)) {
                (Some(a), Some(b)) if a == b => {}
                (Some(a), Some(b)) => {
                    let only = |a: &State, b: &State| {
                        a.iter()
                            .filter(|(key, id)| b.get(*key) != Some(*id))
                            .map(|(key, id)| format!("{key:?} {id}"))
                            .collect::<Vec<_>>()
                    };
                    found.push(format!("{id} {} {} {:?} {:?}", a.0, b.0, only(&a.1, &b.1), only(&b.1, &a.1)));
                }
                (a, b) => found.push(format!("{id} is known: {} {}", a.is_some(), b.is_some())),
            }
        }
        found
    }

    /// Events from the join on, with what became of them and the state before them.
    pub fn judged(&self, server: &Server) -> BTreeMap<String, (bool, State)> {
        let nid = self.nid(server);
        let join = find(server, &self.room, self.join.pdu().event_id.as_str()).unwrap().seq();
        let events = server.rooms.events_after(nid, RoomSeq(join.0 - 1), usize::MAX).unwrap();
        let judged = events.into_iter().map(|event| {
            let state = state_at(server, nid, event.state_before());
            (event.event_id().to_owned(), (event.flags().has(EventFlags::REJECTED), state))
        });
        judged.collect()
    }

    pub fn has_soft_failed(&self, server: &Server) -> bool {
        let events = server.rooms.events_after(self.nid(server), RoomSeq(0), usize::MAX).unwrap();
        events.iter().any(|event| event.flags().has(EventFlags::SOFT_FAILED))
    }

    /// Members, servers and extremities: what follows from the current state.
    pub fn present(&self, server: &Server) -> Present {
        let nid = self.nid(server);
        let head = server.rooms.head(nid).unwrap();
        let members = server.rooms.members(nid).unwrap();
        let servers = server.rooms.room_servers(nid).unwrap();
        Present {
            state: self.current(server),
            extremities: head.extremities().map(str::to_owned).collect(),
            members: members
                .into_iter()
                .map(|(user, is, _)| (server.rooms.user_id(user).unwrap().to_string(), is.as_str()))
                .collect(),
            counts: (head.joined_count(), head.invited_count()),
            servers: servers
                .iter()
                .filter(|(_, stay)| stay.joined > 0)
                .map(|(name, stay)| (name.to_string(), stay.joined))
                .collect(),
        }
    }

    /// The partial server has become what the other one was all the time.
    pub fn assert_same(&self) {
        assert_eq!(self.differences(&self.partial, &self.full), Vec::<String>::new());
        assert_eq!(self.present(&self.partial), self.present(&self.full));
        self.partial.assert_sound();
        self.full.assert_sound();
    }
}

#[derive(Debug, PartialEq, Eq)]
pub struct Present {
    state: State,
    extremities: BTreeSet<String>,
    members: BTreeMap<String, &'static str>,
    counts: (u32, u32),
    servers: BTreeMap<String, u32>,
}

/// Server one takes in Bob's join: the event, and the state before it.
async fn take_in(one: &Server, room: &RoomId, bob: &UserId) -> (CheckedPdu, Vec<EventId>) {
    let before = current_state(one, room).into_values().map(|id| EventId::parse(id).unwrap()).collect();
    one.rooms.intern_user(bob).await.unwrap();
    let nid = one.rooms.known_room(room).unwrap();
    let rules = one.rooms.head(nid).unwrap().rules();
    let join = one.rooms.prepare(nid, member(bob, bob, Membership::Join)).unwrap();
    let two = ServerName::parse("two.test").unwrap();
    let join = CheckedPdu::of_ours(Pdu::sign(join, &two, &Server::key(2), rules).unwrap().into());
    assert_eq!(one.rooms.receive(join.clone()).await.unwrap(), Verdict::Accepted);
    (join, before)
}

pub fn state_at(server: &Server, nid: RoomNid, snapshot: SnapshotId) -> State {
    let seqs = server.rooms.state_seqs(nid, snapshot).unwrap().into_iter();
    let entry =
        |event: Event| ((event.kind().to_owned(), event.state_key().unwrap().to_owned()), event.event_id().to_owned());
    seqs.map(|seq| entry(server.rooms.event_at(nid, seq).unwrap())).collect()
}

pub fn current_state(server: &Server, room: &RoomId) -> State {
    let nid = server.rooms.known_room(room).unwrap();
    state_at(server, nid, server.rooms.head(nid).unwrap().state())
}

/// An event of the timeline, or of the history before it.
pub fn find(server: &Server, room: &RoomId, id: &str) -> Option<Event> {
    let nid = server.rooms.known_room(room).unwrap();
    server
        .rooms
        .events_after(nid, RoomSeq(i64::MIN), usize::MAX)
        .unwrap()
        .into_iter()
        .find(|event| event.event_id() == id)
}
