//! Rooms that use a policy server: what it is asked, what its answers do, and what it holds up.

#![expect(clippy::disallowed_methods, reason = "the senders of a test are joined by it")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rooms::{
    CheckedPdu, Draft, Event, EventFlags, Membership, NewDelayedEvent, PolicyQuestion, PolicyServers, Preset, Remote,
    RoomError, RoomNid, RoomSeq, Rooms, Transaction, UserNid, Verdict,
};
use serde_json::{Map, Value, json};
use spec::hash::redacted_bytes;
use spec::ids::{EventId, RoomId, UserId};
use spec::pdu::Pdu;
use spec::policy::POLICY_KEY_ID;
use spec::signing::SigningKey;
use spec::version::RoomVersion;
use storage::{Backend, Options, Store};
use tokio::sync::Semaphore;

use crate::foreign::{Foreign, member};
use crate::server::{Server, object, text};

const VIA: &str = "policy.test";
const VERSION: RoomVersion = RoomVersion::V11;

/// What the policy server does with an event.
enum Reply {
    Sign,
    SignWith(Box<SigningKey>),
    Refuse,
    Say(Value),
    BeGone,
    /// Signs once there is a permit.
    Hold(Arc<Semaphore>),
}

type Replies = Box<dyn Fn(&Pdu) -> Reply + Send + Sync>;

/// A policy server, and what it was asked.
struct Policy {
    replies: Mutex<Replies>,
    asked: Mutex<Vec<(String, bool)>>,
    at_a_time: AtomicUsize,
    most_at_a_time: AtomicUsize,
}

fn policy_key(seed: u8) -> SigningKey {
    SigningKey::from_seed([seed; 32], "policy_server").unwrap()
}

fn signature(key: &SigningKey, event: &Pdu) -> Map<String, Value> {
    let signature = key.sign(&redacted_bytes(&event.to_object().unwrap(), VERSION.rules()));
    object(json!({VIA: {POLICY_KEY_ID: signature}}))
}

impl Policy {
    fn answer(&self, replies: impl Fn(&Pdu) -> Reply + Send + Sync + 'static) {
        *self.replies.lock() = Box::new(replies);
    }

    /// Signs what this user sends once there is a permit, and what others send at once.
    fn hold(&self, localpart: &'static str) -> Arc<Semaphore> {
        let gate = Arc::new(Semaphore::new(0));
        let held = gate.clone();
        self.answer(move |pdu| match pdu.sender.localpart() == localpart {
            true => Reply::Hold(held.clone()),
            false => Reply::Sign,
        });
        gate
    }

    /// The types of the events that it was asked for since the last time.
    fn take_asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock()).into_iter().map(|(kind, _)| kind).collect()
    }
}

impl PolicyServers for Policy {
    fn sign<'a>(&'a self, question: PolicyQuestion<'a>) -> Remote<'a, Map<String, Value>> {
        let PolicyQuestion { server, event, is_urgent } = question;
        assert_eq!(server.as_str(), VIA);
        self.asked.lock().push((event.kind.to_string(), is_urgent));
        let reply = (self.replies.lock())(event);
        Box::pin(async move {
            let now = self.at_a_time.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_at_a_time.fetch_max(now, Ordering::SeqCst);
            let answer = match reply {
                Reply::Sign => Ok(signature(&policy_key(9), event)),
                Reply::SignWith(key) => Ok(signature(&key, event)),
                Reply::Say(answer) => Ok(object(answer)),
                Reply::Refuse => Err(refusal()),
                Reply::BeGone => Err(RoomError::RemoteUnavailable(VIA.to_owned())),
                Reply::Hold(gate) => {
                    gate.acquire().await.unwrap().forget();
                    Ok(signature(&policy_key(9), event))
                }
            };
            self.at_a_time.fetch_sub(1, Ordering::SeqCst);
            answer
        })
    }
}

fn refusal() -> RoomError {
    let server = spec::ids::ServerName::parse(VIA).unwrap();
    let (errcode, message) = ("M_FORBIDDEN".into(), "spam".into());
    RoomError::NotRecommended { server, status: 400, errcode, message, retry_after_ms: None }
}

fn is_refusal(error: &RoomError) -> bool {
    matches!(error, RoomError::NotRecommended { status: 400, errcode, message, .. }
        if errcode == "M_FORBIDDEN" && message == "spam")
}

fn policy_content(key: &SigningKey) -> Map<String, Value> {
    object(json!({"via": VIA, "public_keys": {"ed25519": key.public_base64()}}))
}

/// A public room of Alice's that uses the policy server, whose user is in it.
struct Scene {
    server: Server,
    policy: Arc<Policy>,
    alice: UserId,
    alice_nid: UserNid,
    room: RoomId,
    nid: RoomNid,
    /// The policy server's user.
    guard: UserId,
    theirs: Foreign,
}

impl Scene {
    async fn new() -> Scene {
        let scene = Scene::without_policy().await;
        scene.theirs.turn(&scene.server, &scene.room, &scene.guard, Membership::Join).await;
        scene.name_policy_server(policy_content(&policy_key(9))).await;
        assert!(scene.policy.take_asked().is_empty());
        scene
    }

    async fn without_policy() -> Scene {
        let policy = Arc::new(Policy {
            replies: Mutex::new(Box::new(|_| Reply::Sign)),
            asked: Mutex::default(),
            at_a_time: AtomicUsize::new(0),
            most_at_a_time: AtomicUsize::new(0),
        });
        let store = Store::open(Options::new(Backend::Memory, rooms::KEYSPACES.to_vec())).unwrap();
        let server = Server::with_policy(store, "hs.test", 7, 7, Some(policy.clone()));
        let (alice, alice_nid) = server.user("alice").await;
        let room = server.create(&alice, VERSION, Preset::PublicChat).await;
        let nid = server.rooms.known_room(&room).unwrap();
        let theirs = Foreign::new(VIA);
        Scene { server, policy, alice, alice_nid, room, nid, guard: theirs.user("guard"), theirs }
    }

    async fn name_policy_server(&self, content: Map<String, Value>) {
        let draft = Draft::state(self.alice.clone(), "m.room.policy", "", content);
        self.server.append(&self.room, draft).await.unwrap();
    }

    async fn say(&self, body: &str) -> Result<EventId, RoomError> {
        self.server.append(&self.room, Draft::message(self.alice.clone(), "m.room.message", text(body))).await
    }

    fn events(&self) -> Vec<Event> {
        self.server.rooms.events_after(self.nid, RoomSeq(0), usize::MAX).unwrap()
    }

    fn event(&self, id: &EventId) -> Event {
        self.events().into_iter().find(|event| event.event_id() == id.as_str()).unwrap()
    }

    /// Whether an event is stored with the policy server's signature.
    fn is_signed(&self, event: &Event) -> bool {
        let object: Value = serde_json::from_str(event.json()).unwrap();
        object["signatures"][VIA][POLICY_KEY_ID].is_string()
    }

    /// A message of the policy server's user, unsigned by it as a policy server.
    fn received(&self, body: &str) -> CheckedPdu {
        let draft = Draft::message(self.guard.clone(), "m.room.message", text(body));
        self.theirs.prepare(&self.server, self.nid, draft)
    }

    async fn receive(&self, pdu: CheckedPdu) -> Verdict {
        self.server.rooms.receive(pdu).await.unwrap()
    }
}

fn in_scene<F: Future<Output = ()>>(test: impl FnOnce(Scene) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let limit = Duration::from_secs(300);
        tokio::time::timeout(limit, async { test(Scene::new().await).await }).await.unwrap();
    });
}

async fn eventually(mut done: impl FnMut() -> bool) {
    for _ in 0..12_000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it never happens");
}

#[test]
fn rooms_that_use_none_ask_nobody() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let scene = Scene::without_policy().await;
        scene.say("no policy server").await.unwrap();
        // Named, but nobody of it is in the room.
        scene.name_policy_server(policy_content(&policy_key(9))).await;
        scene.say("it is not here").await.unwrap();
        assert!(scene.server.rooms.policy_server(scene.nid).unwrap().is_none());
        scene.theirs.turn(&scene.server, &scene.room, &scene.guard, Membership::Join).await;
        assert!(scene.server.rooms.policy_server(scene.nid).unwrap().is_some());
        assert!(scene.policy.take_asked().is_empty());
        // Contents that are not valid.
        for content in [json!({}), json!({"via": VIA}), json!({"via": VIA, "public_keys": {"ed25519": 1}})] {
            scene.name_policy_server(object(content)).await;
            scene.say("anything").await.unwrap();
        }
        assert!(scene.policy.take_asked().is_empty());
        scene.server.assert_sound();
    });
}

#[test]
fn it_ends_when_the_policy_server_leaves_or_is_redacted() {
    in_scene(async |scene| {
        scene.say("one").await.unwrap();
        // Its own leave is asked for, like all else.
        scene.theirs.turn(&scene.server, &scene.room, &scene.guard, Membership::Leave).await;
        assert_eq!(scene.policy.take_asked(), ["m.room.message", "m.room.member"]);
        scene.say("two").await.unwrap();
        assert!(scene.policy.take_asked().is_empty());
        scene.theirs.turn(&scene.server, &scene.room, &scene.guard, Membership::Join).await;
        let head = scene.server.rooms.head(scene.nid).unwrap();
        let named = scene.server.rooms.state_event(scene.nid, head.state(), "m.room.policy", "").unwrap().unwrap();
        let redaction = Draft::redaction(scene.alice.clone(), EventId::parse(named.event_id()).unwrap(), Map::new());
        scene.server.append(&scene.room, redaction).await.unwrap();
        assert_eq!(scene.policy.take_asked(), ["m.room.redaction"]);
        scene.say("three").await.unwrap();
        assert!(scene.policy.take_asked().is_empty());
        scene.server.assert_sound();
    });
}

#[test]
fn all_events_of_ours_are_signed_but_the_one_that_names_the_server() {
    in_scene(async |scene| {
        let Scene { server, policy, alice, room, .. } = &scene;
        let (bob, bob_nid) = server.user("bob").await;
        let said = scene.say("hello").await.unwrap();
        let topic = Draft::state(alice.clone(), "m.room.topic", "", object(json!({"topic": "t"})));
        let topic = server.append(room, topic).await.unwrap();
        let keyed = Draft::state(alice.clone(), "m.room.policy", "other", Map::new());
        let keyed = server.append(room, keyed).await.unwrap();
        let plain = server.append(room, Draft::message(alice.clone(), "m.room.policy", Map::new())).await.unwrap();
        let redaction = Draft::redaction(alice.clone(), said.clone(), Map::new());
        let redaction = server.append(room, redaction).await.unwrap();
        server.change(room, alice, &bob, Membership::Invite).await.unwrap();
        server.change(room, &bob, &bob, Membership::Join).await.unwrap();
        server.rooms.update_member(scene.nid, &bob, object(json!({"displayname": "Bob"}))).await.unwrap();
        server.change(room, alice, &bob, Membership::Leave).await.unwrap();
        server.change(room, alice, &bob, Membership::Ban).await.unwrap();
        let asked = policy.take_asked();
        assert_eq!(asked[..3], ["m.room.message", "m.room.topic", "m.room.policy"]);
        assert_eq!(asked[3..], [["m.room.policy", "m.room.redaction"].as_slice(), &["m.room.member"; 5]].concat());
        for id in [&topic, &keyed, &plain, &redaction] {
            assert!(scene.is_signed(&scene.event(id)));
        }
        // What an event does, it does as ever.
        assert!(scene.event(&said).flags().has(EventFlags::REDACTED));
        assert_eq!(server.rooms.membership(scene.nid, bob_nid).unwrap().unwrap().membership, Membership::Ban);
        let head = server.rooms.head(scene.nid).unwrap();
        let state = server.rooms.state_event(scene.nid, head.state(), "m.room.topic", "").unwrap().unwrap();
        assert_eq!(state.event_id(), topic.as_str());
        assert_eq!(head.extremities().count(), 1);
        scene.name_policy_server(policy_content(&policy_key(9))).await;
        assert!(policy.take_asked().is_empty());
        // What changes nothing makes no event to ask for.
        server.change(room, alice, alice, Membership::Join).await.unwrap();
        server.change(room, alice, alice, Membership::Join).await.unwrap();
        assert_eq!(policy.take_asked().len(), 0);
        server.assert_sound();
    });
}

#[test]
fn what_is_not_recommended_is_not_stored() {
    in_scene(async |scene| {
        let (before, head) = (scene.events().len(), scene.server.rooms.head(scene.nid).unwrap());
        scene.policy.answer(|_| Reply::Refuse);
        let refused = scene.say("buy").await.unwrap_err();
        assert!(is_refusal(&refused), "{refused:?}");
        let (bob, bob_nid) = scene.server.user("bob").await;
        let refused = scene.server.change(&scene.room, &bob, &bob, Membership::Join).await.unwrap_err();
        assert!(is_refusal(&refused), "{refused:?}");
        assert!(scene.server.rooms.membership(scene.nid, bob_nid).unwrap().is_none());
        scene.policy.answer(|_| Reply::BeGone);
        let failed = scene.say("anybody there?").await;
        assert!(matches!(failed, Err(RoomError::RemoteUnavailable(_))), "{failed:?}");
        // An answer without a signature, or with one that the room's key did not make.
        for answer in [json!({}), json!({VIA: {"ed25519:1": "AAAA"}}), json!({VIA: {POLICY_KEY_ID: "AAAA"}})] {
            scene.policy.answer(move |_| Reply::Say(answer.clone()));
            assert!(matches!(scene.say("x").await, Err(RoomError::Refused(_))));
        }
        scene.policy.answer(|_| Reply::SignWith(Box::new(policy_key(10))));
        assert!(matches!(scene.say("x").await, Err(RoomError::Refused(_))));
        assert_eq!(scene.events().len(), before);
        let after = scene.server.rooms.head(scene.nid).unwrap();
        assert_eq!((head.last_seq(), head.state()), (after.last_seq(), after.state()));
        // Whoever may name a policy server gets rid of it without asking.
        scene.name_policy_server(Map::new()).await;
        scene.say("free").await.unwrap();
        scene.server.assert_sound();
    });
}

#[test]
fn what_the_room_forbids_is_not_asked_for() {
    in_scene(async |scene| {
        let (bob, _) = scene.server.user("bob").await;
        let refused = scene.server.append(&scene.room, Draft::message(bob, "m.room.message", text("hi"))).await;
        assert!(matches!(refused, Err(RoomError::Forbidden(_))), "{refused:?}");
        assert!(scene.policy.take_asked().is_empty());
    });
}

#[test]
fn a_key_that_is_none_lets_nothing_through_but_another_policy() {
    in_scene(async |scene| {
        scene.name_policy_server(object(json!({"via": VIA, "public_keys": {"ed25519": "no key"}}))).await;
        assert!(matches!(scene.say("x").await, Err(RoomError::Refused(_))));
        assert!(matches!(scene.receive(scene.received("x")).await, Verdict::SoftFailed(_)));
        assert!(scene.policy.take_asked().is_empty());
        scene.name_policy_server(Map::new()).await;
        scene.say("x").await.unwrap();
    });
}

async fn send(rooms: Rooms, room: RoomNid, user: (UserId, UserNid), id: &str) -> Result<Vec<EventId>, RoomError> {
    let transaction = Transaction { device: "D".into(), scope: "send".into(), id: id.into() };
    let draft = Draft::message(user.0, "m.room.message", text(id));
    rooms.append(room, vec![draft], Some((user.1, transaction))).await
}

#[test]
fn a_repeated_transaction_asks_once() {
    in_scene(async |scene| {
        let gate = Arc::new(Semaphore::new(0));
        let held = gate.clone();
        scene.policy.answer(move |_| Reply::Hold(held.clone()));
        let send = || send(scene.server.rooms.clone(), scene.nid, (scene.alice.clone(), scene.alice_nid), "t");
        let all = async { tokio::join!(send(), send(), send()) };
        let open = async {
            eventually(|| !scene.policy.asked.lock().is_empty()).await;
            gate.add_permits(10);
        };
        let ((a, b, c), ()) = tokio::join!(all, open);
        let a = a.unwrap();
        assert!(a == b.unwrap() && a == c.unwrap() && a == send().await.unwrap());
        assert_eq!(scene.policy.take_asked(), ["m.room.message"]);
        assert_eq!(scene.event(&a[0]).transaction(), Some(("D", "t")));
        scene.server.assert_sound();
    });
}

#[test]
fn a_transaction_that_was_refused_may_be_repeated() {
    in_scene(async |scene| {
        let send = || send(scene.server.rooms.clone(), scene.nid, (scene.alice.clone(), scene.alice_nid), "t");
        scene.policy.answer(|_| Reply::Refuse);
        assert!(is_refusal(&send().await.unwrap_err()));
        scene.policy.answer(|_| Reply::Sign);
        send().await.unwrap();
    });
}

#[test]
fn waiting_holds_up_neither_other_rooms_nor_other_users() {
    in_scene(async |scene| {
        let Scene { server, policy, alice, room, nid, .. } = &scene;
        let bob = server.user("bob").await;
        server.change(room, &bob.0, &bob.0, Membership::Join).await.unwrap();
        let gate = policy.hold("alice");
        let first = tokio::spawn(send(server.rooms.clone(), *nid, (alice.clone(), scene.alice_nid), "first"));
        eventually(|| policy.asked.lock().len() == 2).await;
        let second = tokio::spawn(send(server.rooms.clone(), *nid, (alice.clone(), scene.alice_nid), "second"));
        let of_bob = send(server.rooms.clone(), *nid, bob.clone(), "of bob").await.unwrap();
        let elsewhere = server.create(alice, VERSION, Preset::PrivateChat).await;
        server.say(&elsewhere, alice, "elsewhere").await;
        assert!(!first.is_finished() && !second.is_finished());
        gate.add_permits(2);
        let (first, second) = (first.await.unwrap().unwrap(), second.await.unwrap().unwrap());
        let order: Vec<String> = scene.events().iter().map(|event| event.event_id().to_owned()).collect();
        let place = |ids: &[EventId]| order.iter().position(|id| *id == ids[0].as_str()).unwrap();
        assert!(place(&of_bob) < place(&first) && place(&first) < place(&second));
        // Alice's first forked the room; her second has joined the ends.
        assert_eq!(server.rooms.head(*nid).unwrap().extremities().collect::<Vec<_>>(), [second[0].as_str()]);
        server.assert_sound();
    });
}

#[test]
fn few_events_of_a_room_are_asked_for_at_a_time() {
    in_scene(async |scene| {
        let Scene { server, policy, room, nid, .. } = &scene;
        let mut users = Vec::new();
        for n in 0..20 {
            let user = server.user(&format!("user{n}")).await;
            server.change(room, &user.0, &user.0, Membership::Join).await.unwrap();
            users.push(user);
        }
        let gate = Arc::new(Semaphore::new(0));
        let held = gate.clone();
        policy.answer(move |_| Reply::Hold(held.clone()));
        let sends: Vec<_> =
            users.iter().map(|user| tokio::spawn(send(server.rooms.clone(), *nid, user.clone(), "x"))).collect();
        eventually(|| policy.at_a_time.load(Ordering::SeqCst) == 8).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        gate.add_permits(20);
        for send in sends {
            send.await.unwrap().unwrap();
        }
        assert_eq!(policy.most_at_a_time.load(Ordering::SeqCst), 8);
        server.assert_sound();
    });
}

#[test]
fn what_has_become_forbidden_meanwhile_is_not_sent() {
    in_scene(async |scene| {
        let Scene { server, policy, alice, room, nid, .. } = &scene;
        let bob = server.user("bob").await;
        server.change(room, &bob.0, &bob.0, Membership::Join).await.unwrap();
        let gate = policy.hold("bob");
        policy.take_asked();
        let last_words = tokio::spawn(send(server.rooms.clone(), *nid, bob.clone(), "last words"));
        eventually(|| policy.asked.lock().len() == 1).await;
        server.change(room, alice, &bob.0, Membership::Ban).await.unwrap();
        let events = scene.events().len();
        gate.add_permits(1);
        let refused = last_words.await.unwrap();
        assert!(matches!(refused, Err(RoomError::Refused(_))), "{refused:?}");
        assert_eq!(scene.events().len(), events);
    });
}

#[test]
fn a_sender_who_goes_away_gets_their_event_all_the_same() {
    in_scene(async |scene| {
        let gate = Arc::new(Semaphore::new(0));
        let held = gate.clone();
        scene.policy.answer(move |_| Reply::Hold(held.clone()));
        let before = scene.events().len();
        let alice = (scene.alice.clone(), scene.alice_nid);
        let sending = tokio::spawn(send(scene.server.rooms.clone(), scene.nid, alice, "x"));
        eventually(|| !scene.policy.asked.lock().is_empty()).await;
        sending.abort();
        gate.add_permits(1);
        eventually(|| scene.events().len() == before + 1).await;
    });
}

#[test]
fn it_is_known_again_after_a_restart() {
    in_scene(async |scene| {
        let Scene { server, policy, alice, room, .. } = scene;
        let again = Server::with_policy(server.store.clone(), "hs.test", 7, 8, Some(policy.clone()));
        again.say(&room, &alice, "hello again").await;
        assert_eq!(policy.take_asked(), ["m.room.message"]);
    });
}

#[test]
fn events_of_others_are_soft_failed_unless_recommended() {
    in_scene(async |scene| {
        let policy = &scene.policy;
        // Asked for, and the signature is kept.
        let unsigned = scene.received("unsigned");
        let id = unsigned.pdu().event_id.clone();
        assert_eq!(scene.receive(unsigned.clone()).await, Verdict::Accepted);
        assert!(scene.is_signed(&scene.event(&id)));
        assert_eq!(*policy.asked.lock(), [("m.room.message".to_owned(), false)]);
        policy.take_asked();
        // What is here already is not asked for again.
        assert_eq!(scene.receive(unsigned).await, Verdict::Known);
        // Signed already.
        let signed = scene.received("signed");
        let signed = add_signature(&signed, &policy_key(9));
        assert_eq!(scene.receive(signed).await, Verdict::Accepted);
        assert!(policy.take_asked().is_empty());
        // Signed with a key that the room does not name: asked for again.
        let rotated = add_signature(&scene.received("rotated"), &policy_key(10));
        assert_eq!(scene.receive(rotated).await, Verdict::Accepted);
        assert_eq!(policy.take_asked(), ["m.room.message"]);
        let replies: [fn(&Pdu) -> Reply; 3] =
            [|_| Reply::Refuse, |_| Reply::BeGone, |_| Reply::SignWith(Box::new(policy_key(10)))];
        for (n, reply) in replies.into_iter().enumerate() {
            policy.answer(reply);
            let spam = scene.received(&format!("spam {n}"));
            let id = spam.pdu().event_id.clone();
            assert!(matches!(scene.receive(spam).await, Verdict::SoftFailed(_)));
            assert!(scene.event(&id).flags().has(EventFlags::SOFT_FAILED));
        }
        // State too: it is not part of the room's.
        let leave =
            scene.theirs.prepare(&scene.server, scene.nid, member(&scene.guard, &scene.guard, Membership::Leave));
        assert!(matches!(scene.receive(leave).await, Verdict::SoftFailed(_)));
        assert!(scene.server.rooms.policy_server(scene.nid).unwrap().is_some());
        // What the rules forbid is rejected, whatever the policy server says.
        policy.answer(|_| Reply::Sign);
        let power = Draft::state(scene.guard.clone(), "m.room.power_levels", "", Map::new());
        let object = forged(&scene, power);
        assert!(matches!(scene.receive(object).await, Verdict::Rejected(_)));
        scene.server.assert_sound();
    });
}

/// An event that the room does not allow.
fn forged(scene: &Scene, draft: Draft) -> CheckedPdu {
    let allowed = Draft::message(draft.sender.clone(), "m.room.message", text("x"));
    let mut object = scene.server.rooms.prepare(scene.nid, allowed).unwrap();
    object.insert("type".into(), draft.kind.into_string().into());
    object.insert("state_key".into(), "".into());
    object.insert("content".into(), draft.content.into());
    scene.theirs.sign(object, VERSION.rules())
}

fn add_signature(event: &CheckedPdu, key: &SigningKey) -> CheckedPdu {
    let mut object = event.pdu().to_object().unwrap();
    let signatures = object["signatures"][VIA].as_object_mut().unwrap();
    let answer = signature(key, event.pdu());
    signatures.extend(answer[VIA].as_object().unwrap().clone());
    CheckedPdu::of_ours(Arc::new(Pdu::from_object(object, VERSION.rules()).unwrap()))
}

#[test]
fn another_policy_of_a_remote_moderator_needs_no_signature() {
    in_scene(async |scene| {
        let power = object(json!({"users": {scene.alice.as_str(): 100, scene.guard.as_str(): 100}}));
        let power = Draft::state(scene.alice.clone(), "m.room.power_levels", "", power);
        scene.server.append(&scene.room, power).await.unwrap();
        scene.policy.take_asked();
        scene.policy.answer(|_| Reply::Refuse);
        let none = Draft::state(scene.guard.clone(), "m.room.policy", "", Map::new());
        let none = scene.theirs.prepare(&scene.server, scene.nid, none);
        assert_eq!(scene.receive(none).await, Verdict::Accepted);
        assert!(scene.policy.take_asked().is_empty());
        scene.say("free").await.unwrap();
    });
}

#[test]
fn many_events_of_others_are_asked_for_side_by_side() {
    in_scene(async |scene| {
        let gate = Arc::new(Semaphore::new(0));
        let held = gate.clone();
        scene.policy.answer(move |_| Reply::Hold(held.clone()));
        let events: Vec<_> = (0..20).map(|n| scene.received(&n.to_string()).into()).collect();
        let receiving = scene.server.rooms.receive_all(scene.nid, events);
        let open = async {
            eventually(|| scene.policy.at_a_time.load(Ordering::SeqCst) == 8).await;
            gate.add_permits(20);
        };
        let (verdicts, ()) = tokio::join!(receiving, open);
        assert!(verdicts.unwrap().into_iter().all(|verdict| verdict.unwrap() == Verdict::Accepted));
        assert_eq!(scene.policy.most_at_a_time.load(Ordering::SeqCst), 8);
    });
}

#[test]
fn a_slow_policy_server_holds_up_what_is_received_for_a_limited_time() {
    in_scene(async |scene| {
        scene.policy.answer(|_| Reply::Hold(Arc::new(Semaphore::new(0))));
        let events: Vec<_> = (0..20).map(|n| scene.received(&n.to_string()).into()).collect();
        let receiving = scene.server.rooms.receive_all(scene.nid, events);
        let before = scene.server.clock.monotonic();
        let pass = async {
            loop {
                tokio::time::sleep(Duration::from_millis(20)).await;
                scene.server.clock.advance(Duration::from_secs(1));
            }
        };
        let verdicts = tokio::select! {
            verdicts = receiving => verdicts,
            () = pass => unreachable!(),
        };
        // For all of them together, not for each.
        let took = scene.server.clock.monotonic() - before;
        assert!(took < Duration::from_secs(120), "{took:?}");
        assert!(verdicts.unwrap().into_iter().all(|verdict| matches!(verdict.unwrap(), Verdict::SoftFailed(_))));
    });
}

#[test]
fn an_upgrade_that_is_not_recommended_leaves_nobody_in_the_successor() {
    in_scene(async |scene| {
        let Scene { server, policy, alice, room, .. } = &scene;
        policy.answer(|_| Reply::Refuse);
        let upgrade = || server.rooms.upgrade_room(room, alice, Map::new(), RoomVersion::V12, Vec::new());
        assert!(is_refusal(&upgrade().await.unwrap_err()));
        assert_eq!(server.rooms.joined_rooms(scene.alice_nid).unwrap(), [scene.nid]);
        policy.answer(|_| Reply::Sign);
        policy.take_asked();
        let new = upgrade().await.unwrap();
        assert_eq!(policy.take_asked(), ["m.room.tombstone", "m.room.power_levels"]);
        server.say(&new, alice, "here we are").await;
        assert!(policy.take_asked().is_empty());
        // The successor names the policy server too: it is asked from when it is there.
        let nid = server.rooms.known_room(&new).unwrap();
        server.rooms.intern_user(&scene.guard).await.unwrap();
        let invite = member(alice, &scene.guard, Membership::Invite);
        server.append(&new, invite).await.unwrap();
        assert!(server.rooms.policy_server(nid).unwrap().is_none());
        let join = member(&scene.guard, &scene.guard, Membership::Join);
        let object = server.rooms.prepare(nid, join).unwrap();
        let join = scene.theirs.sign(object, RoomVersion::V12.rules());
        assert_eq!(scene.receive(join).await, Verdict::Accepted);
        assert!(server.rooms.policy_server(nid).unwrap().is_some());
    });
}

#[test]
fn one_user_takes_not_all_places_of_those_who_wait() {
    in_scene(async |scene| {
        let Scene { server, policy, room, nid, .. } = &scene;
        let bob = server.user("bob").await;
        server.change(room, &bob.0, &bob.0, Membership::Join).await.unwrap();
        policy.take_asked();
        let gate = policy.hold("alice");
        let alice = (scene.alice.clone(), scene.alice_nid);
        let of_alice = |n: usize| {
            let (rooms, nid, alice) = (server.rooms.clone(), *nid, alice.clone());
            tokio::spawn(async move { send(rooms, nid, alice, &n.to_string()).await })
        };
        let first = of_alice(0);
        eventually(|| policy.asked.lock().len() == 1).await;
        let mut more: Vec<_> = (1..=20).map(of_alice).collect();
        eventually(|| more.iter().filter(|send| send.is_finished()).count() == 4).await;
        send(server.rooms.clone(), *nid, bob, "of bob").await.unwrap();
        more.insert(0, first);
        gate.add_permits(more.len());
        let (mut sent, mut refused) = (0, 0);
        for send in more {
            match send.await.unwrap() {
                Ok(_) => sent += 1,
                Err(RoomError::Busy) => refused += 1,
                Err(error) => panic!("{error:?}"),
            }
        }
        assert_eq!((sent, refused), (17, 4));
    });
}

#[test]
fn what_has_waited_too_long_is_refused() {
    in_scene(async |scene| {
        let Scene { server, policy, nid, .. } = &scene;
        let gate = Arc::new(Semaphore::new(0));
        let held = gate.clone();
        policy.answer(move |_| Reply::Hold(held.clone()));
        let alice = (scene.alice.clone(), scene.alice_nid);
        let first = tokio::spawn(send(server.rooms.clone(), *nid, alice.clone(), "first"));
        eventually(|| policy.asked.lock().len() == 1).await;
        let more: Vec<_> =
            (0..20).map(|_| tokio::spawn(send(server.rooms.clone(), *nid, alice.clone(), "later"))).collect();
        // As many wait as may: the others are refused at once.
        eventually(|| more.iter().filter(|send| send.is_finished()).count() == 4).await;
        server.clock.advance(Duration::from_secs(61));
        gate.add_permits(30);
        first.await.unwrap().unwrap();
        for send in more {
            assert!(matches!(send.await.unwrap(), Err(RoomError::Busy)));
        }
        // Those who come later have all their time.
        send(server.rooms.clone(), *nid, alice, "third").await.unwrap();
    });
}

#[test]
fn what_follows_the_naming_of_a_policy_server_is_asked_for() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let scene = Scene::without_policy().await;
        scene.theirs.turn(&scene.server, &scene.room, &scene.guard, Membership::Join).await;
        let power = object(json!({"users": {scene.alice.as_str(): 100, scene.guard.as_str(): 100}}));
        let power = Draft::state(scene.alice.clone(), "m.room.power_levels", "", power);
        scene.server.append(&scene.room, power).await.unwrap();
        let named = Draft::state(scene.guard.clone(), "m.room.policy", "", policy_content(&policy_key(9)));
        let named = scene.theirs.prepare(&scene.server, scene.nid, named);
        let (before, after) = (scene.received("before"), scene.received("after"));
        scene.policy.answer(|_| Reply::Refuse);
        let events = vec![before.into(), named.into(), after.into()];
        let verdicts = scene.server.rooms.receive_all(scene.nid, events).await.unwrap();
        let verdicts: Vec<Verdict> = verdicts.into_iter().map(Result::unwrap).collect();
        assert_eq!(verdicts[..2], [Verdict::Accepted, Verdict::Accepted]);
        assert!(matches!(verdicts[2], Verdict::SoftFailed(_)), "{verdicts:?}");
        assert_eq!(scene.policy.take_asked(), ["m.room.message"]);
    });
}

#[test]
fn an_event_for_another_server_is_signed_before_it_is_shown() {
    in_scene(async |scene| {
        let invite = member(&scene.alice, &UserId::parse("@carol:far.test").unwrap(), Membership::Invite);
        scene.server.rooms.intern_user(&UserId::parse("@carol:far.test").unwrap()).await.unwrap();
        let invite = CheckedPdu::of_ours(scene.server.rooms.prepare_signed(scene.nid, invite).unwrap());
        let recommended = scene.server.rooms.recommend(scene.nid, invite.clone()).await.unwrap();
        assert!(recommended.pdu().to_object().unwrap()["signatures"][VIA].is_object());
        assert_eq!(scene.receive(recommended).await, Verdict::Accepted);
        assert_eq!(*scene.policy.asked.lock(), [("m.room.member".to_owned(), true)]);
        scene.policy.answer(|_| Reply::Refuse);
        let spam = CheckedPdu::of_ours(scene.received("spam").pdu().clone());
        assert!(is_refusal(&scene.server.rooms.recommend(scene.nid, spam).await.unwrap_err()));
    });
}

fn delayed(body: &str) -> NewDelayedEvent {
    NewDelayedEvent {
        kind: "m.room.message".into(),
        state_key: None,
        content: text(body),
        delay_ms: 1000,
        sticky_ms: None,
    }
}

#[test]
fn a_silent_policy_server_holds_up_delayed_events_of_its_room_only() {
    in_scene(async |scene| {
        let gate = Arc::new(Semaphore::new(0));
        let held = gate.clone();
        scene.policy.answer(move |_| Reply::Hold(held.clone()));
        let rooms = &scene.server.rooms;
        let other = scene.server.create(&scene.alice, VERSION, Preset::PrivateChat).await;
        let other = rooms.known_room(&other).unwrap();
        let kept = rooms.delay_event(scene.nid, scene.alice_nid, delayed("kept"), None).await.unwrap();
        let restarted = rooms.delay_event(scene.nid, scene.alice_nid, delayed("restarted"), None).await.unwrap();
        let free = rooms.delay_event(other, scene.alice_nid, delayed("free"), None).await.unwrap();
        let outcome = |id: &str| rooms.delayed_event(id).unwrap().unwrap().outcome;
        let sent = |id: &str| matches!(outcome(id), Some(rooms::DelayedOutcome::Sent { .. }));
        scene.server.clock.advance(Duration::from_secs(1));
        let work = async {
            eventually(|| sent(&free)).await;
            eventually(|| !scene.policy.take_asked().is_empty()).await;
            assert!(outcome(&kept).is_none() && outcome(&restarted).is_none());
            // Restarted while an earlier one is with the policy server: it is not sent now.
            scene.server.clock.advance(Duration::from_secs(1));
            rooms.restart_delayed(&restarted).await.unwrap();
            gate.add_permits(2);
            eventually(|| sent(&kept)).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert!(outcome(&restarted).is_none());
            scene.server.clock.advance(Duration::from_secs(1));
            eventually(|| sent(&restarted)).await;
        };
        tokio::select! {
            () = rooms.run_delayed_events(|_| true) => unreachable!(),
            () = work => {}
        }
    });
}
