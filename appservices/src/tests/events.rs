//! Which events are told to whom, in which order, and how often.

use std::sync::Arc;
use std::time::Duration;

use rooms::{Membership, RoomNid, RoomSeq};
use runtime::CancellationToken;
use serde_json::json;
use spec::ids::ServerName;
use storage::StreamPos;
use users::{AppService, AppServiceSource};

use super::fixture::{BRIDGE, Bed, Seen};
use crate::line::{Line, Noted};
use crate::rows::Place;

fn told(seen: &[Seen]) -> Vec<String> {
    seen.iter().flat_map(Seen::events).collect()
}

/// Waits until these texts were told, and nothing else.
async fn wait_for_texts(bed: &Bed, texts: &[&str]) {
    let waiting = async {
        while told(&bed.web.seen()).len() < texts.len() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), waiting).await;
    assert!(waited.is_ok(), "told {:?} instead of {texts:?}", told(&bed.web.seen()));
    assert_eq!(told(&bed.web.seen()), texts);
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_with_users_of_a_service_are_told_in_order() {
    let bed = Bed::new(&[BRIDGE]).await;
    bed.user("alice").await;
    bed.user("_ghost_bob").await;
    let (first, second, other) = (bed.room("alice").await, bed.room("alice").await, bed.room("alice").await);
    bed.join(&first, "_ghost_bob").await;
    bed.join(&second, "bridgebot").await;
    bed.say(&other, "alice", "nobody hears").await;
    for (room, text) in [(&first, "1"), (&second, "2"), (&first, "3"), (&second, "4")] {
        bed.say(room, "alice", text).await;
    }
    wait_for_texts(&bed, &["1", "2", "3", "4"]).await;
    let seen = bed.web.seen();
    let first = seen.first().unwrap();
    assert!(first.uri.starts_with("http://bridge.test/base/_matrix/app/v1/transactions/"), "{}", first.uri);
    assert_eq!((first.method.as_str(), first.token.as_str()), ("PUT", "Bearer hs"));
    let events = first.body()["events"].as_array().unwrap().clone();
    let joined = events.iter().find(|event| event["state_key"] == "@_ghost_bob:hs.test").unwrap();
    assert_eq!((&joined["type"], &joined["content"]["membership"]), (&json!("m.room.member"), &json!("join")));
    assert!(joined["room_id"].is_string() && joined["event_id"].is_string() && joined["unsigned"].is_object());
    let mut ids: Vec<&String> = seen.iter().map(|seen| &seen.uri).collect();
    ids.dedup();
    assert_eq!(ids.len(), seen.len(), "each transaction has its own id");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_service_did_not_take_is_repeated_as_it_was() {
    let bed = Bed::new(&[BRIDGE]).await;
    bed.user("alice").await;
    let room = bed.room("alice").await;
    bed.join(&room, "bridgebot").await;
    bed.web.wait_for(1).await;
    bed.web.set_down(true);
    bed.say(&room, "alice", "first").await;
    bed.web.wait_for(2).await;
    bed.say(&room, "alice", "second").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(bed.web.seen().len(), 2, "it is left alone for a while");
    let seen = bed.advance_until(3).await;
    bed.web.set_down(false);
    assert_eq!((&seen[1].uri, &seen[1].bytes), (&seen[2].uri, &seen[2].bytes));
    let seen = bed.advance_until(5).await;
    assert_eq!((&seen[1].uri, &seen[1].bytes), (&seen[3].uri, &seen[3].bytes));
    assert_eq!(seen[4].events(), ["second"]);
    assert_ne!(seen[4].uri, seen[3].uri);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_repeats_what_was_under_way_and_forgets_nothing() {
    let mut bed = Bed::new(&[BRIDGE]).await;
    bed.user("alice").await;
    let (room, other) = (bed.room("alice").await, bed.room("alice").await);
    bed.join(&room, "bridgebot").await;
    bed.join(&other, "bridgebot").await;
    bed.say(&room, "alice", "taken").await;
    wait_for_texts(&bed, &["taken"]).await;
    bed.web.set_down(true);
    let before = bed.web.seen().len();
    bed.say(&room, "alice", "under way").await;
    let under_way = bed.web.wait_for(before + 1).await.last().unwrap().clone();
    bed.say(&other, "alice", "noted").await;
    bed.stop().await;
    bed.say(&room, "alice", "unnoticed 1").await;
    bed.say(&other, "alice", "unnoticed 2").await;
    bed.web.set_down(false);
    let before = bed.web.seen().len();
    bed.start_again();
    bed.wait_until_served().await;
    let seen = bed.web.wait_for(before + 2).await;
    let again = &seen[before..];
    assert_eq!((&again[0].uri, &again[0].bytes), (&under_way.uri, &under_way.bytes));
    assert_eq!(told(&again[1..]), ["noted", "unnoticed 1", "unnoticed 2"]);
    // And another one, with nothing to tell.
    bed.stop().await;
    bed.start_again();
    bed.wait_until_served().await;
    bed.say(&room, "alice", "last").await;
    let seen = bed.web.wait_for(seen.len() + 1).await;
    assert_eq!(seen.last().unwrap().events(), ["last"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn interest_ends_with_the_last_user_and_not_before() {
    let mut bed = Bed::new(&[BRIDGE]).await;
    bed.user("alice").await;
    bed.user("_ghost_bob").await;
    let room = bed.room("alice").await;
    bed.join(&room, "_ghost_bob").await;
    bed.join(&room, "bridgebot").await;
    bed.say(&room, "alice", "both").await;
    bed.leave(&room, "_ghost_bob").await;
    bed.say(&room, "alice", "one").await;
    wait_for_texts(&bed, &["both", "one"]).await;
    bed.stop().await;
    // While the service is away, its last user goes; what came before is told, what comes after is not.
    bed.say(&room, "alice", "still").await;
    bed.change(&room, "alice", "bridgebot", Membership::Leave).await;
    bed.say(&room, "alice", "unheard").await;
    bed.start_again();
    bed.wait_until_served().await;
    bed.say(&room, "alice", "unheard too").await;
    bed.change(&room, "alice", "_ghost_bob", Membership::Invite).await;
    let is_invited = |seen: &[Seen]| {
        let last = seen.last().map(Seen::body).unwrap_or_default();
        last["events"].as_array().is_some_and(|events| events.iter().any(|of| of["content"]["membership"] == "invite"))
    };
    for _ in 0..2_000 {
        if is_invited(&bed.web.seen()) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(is_invited(&bed.web.seen()), "whom an event is about is told of it");
    wait_for_texts(&bed, &["both", "one", "still"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aliases_and_room_ids_are_reasons_too() {
    let bed = Bed::new(&[BRIDGE]).await;
    let alice = bed.user("alice").await;
    let (by_alias, by_id) = (bed.room("alice").await, bed.room("alice").await);
    bed.say(&by_alias, "alice", "too early").await;
    bed.settle().await;
    bed.alias(&by_alias, "_portal_x", alice).await;
    let watcher = format!(
        "id: watcher\nurl: http://watcher.test\nas_token: a\nhs_token: h\nsender_localpart: watcher\n\
         namespaces: {{rooms: [{{exclusive: false, regex: '{}'}}]}}\n",
        by_id.as_str().replace('!', "\\!"),
    );
    bed.users.add_appservice(&watcher).await.unwrap();
    bed.wait_until_served().await;
    bed.say(&by_alias, "alice", "by alias").await;
    bed.say(&by_id, "alice", "by id").await;
    let seen = bed.web.wait_for(2).await;
    let of = |host: &str| told(&seen.iter().filter(|seen| seen.uri.contains(host)).cloned().collect::<Vec<_>>());
    assert_eq!((of("bridge.test"), of("watcher.test")), (vec!["by alias".to_owned()], vec!["by id".to_owned()]));
    let alias = spec::ids::RoomAlias::parse("#_portal_x:hs.test").unwrap();
    bed.rooms.delete_alias(&alias).await.unwrap();
    bed.say(&by_alias, "alice", "too late").await;
    bed.users.remove_appservice("watcher").await.unwrap();
    bed.wait_until_gone("watcher").await;
    bed.say(&by_id, "alice", "to nobody").await;
    bed.settle().await;
    bed.join(&by_id, "bridgebot").await;
    let mut texts = told(&bed.web.wait_for(3).await);
    // Between services there is no order.
    texts.sort_unstable();
    assert_eq!(texts, ["by alias", "by id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_service_is_told_what_came_since_its_registration() {
    let mut bed = Bed::new(&[]).await;
    bed.user("alice").await;
    let room = bed.room("alice").await;
    bed.stop().await;
    bed.say(&room, "alice", "before").await;
    let watcher = format!(
        "id: watcher\nurl: http://watcher.test\nas_token: a\nhs_token: h\nsender_localpart: watcher\n\
         namespaces: {{rooms: [{{exclusive: false, regex: '{}'}}]}}\n",
        room.as_str().replace('!', "\\!"),
    );
    bed.users.add_appservice(&watcher).await.unwrap();
    bed.say(&room, "alice", "after").await;
    bed.start_again();
    bed.wait_until_served().await;
    bed.say(&room, "alice", "later").await;
    wait_for_texts(&bed, &["after", "later"]).await;
}

#[test]
fn a_follower_that_is_behind_adds_nothing_from_before_the_registration() {
    let service = AppService::parse(BRIDGE, &ServerName::parse("hs.test").unwrap(), AppServiceSource::Stored).unwrap();
    let line = Line::new(Arc::new(service), Place::after(StreamPos(10)), StreamPos(10), CancellationToken::new());
    let mut waiting = line.waiting.lock();
    waiting.is_live = true;
    let noted = |pos| Noted { pos: StreamPos(pos), room: RoomNid(1), seq: RoomSeq(pos as i64) };
    waiting.extend(&[noted(8)], StreamPos(9));
    assert_eq!((waiting.events.len(), waiting.upto), (0, Place::after(StreamPos(10))));
    waiting.extend(&[noted(10), noted(11)], StreamPos(12));
    let events: Vec<Noted> = waiting.events.iter().copied().collect();
    assert_eq!((events, waiting.upto), (vec![noted(11)], Place::after(StreamPos(12))));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_noted_is_found_in_the_log() {
    let bed = Bed::new(&[BRIDGE]).await;
    bed.user("alice").await;
    let (room, other) = (bed.room("alice").await, bed.room("alice").await);
    bed.join(&room, "bridgebot").await;
    bed.join(&other, "bridgebot").await;
    bed.say(&room, "alice", "ready").await;
    wait_for_texts(&bed, &["ready"]).await;
    bed.web.set_down(true);
    let before = bed.web.seen().len();
    bed.say(&room, "alice", "under way").await;
    bed.web.wait_for(before + 1).await;
    // As if there had been too much to note.
    bed.dispatcher.line("bridge").unwrap().waiting.lock().is_live = false;
    let mut texts = vec!["under way".to_owned()];
    for number in 0..250 {
        let text = number.to_string();
        bed.say(if number % 2 == 0 { &room } else { &other }, "alice", &text).await;
        texts.push(text);
    }
    bed.web.set_down(false);
    let before = bed.web.seen().len();
    let seen = bed.advance_until(before + 4).await;
    assert_eq!(told(&seen[before..]), texts);
    let sizes: Vec<usize> = seen[before..].iter().map(|seen| seen.events().len()).collect();
    assert_eq!(sizes, [1, 100, 100, 50]);
}
