//! Whoever may not read an event does not find it, nor learns that it is there.

use std::collections::BTreeSet;

use rooms::{Draft, Membership};
use search::{Group, Order, SearchKey};
use serde_json::json;

use crate::server::{Remains, object, run, strings};

#[test]
fn former_members_find_what_was_said_before_they_left() {
    run(&Remains::new(), 1, async |server| {
        let (alice, bob, carol) =
            (server.account("alice").await, server.account("bob").await, server.account("carol").await);
        let room = server.create(&alice, |_| {}).await;
        server.change(&room, &bob, Membership::Join).await;
        let before = server.say(&alice, &room, "cake today").await;
        server.change(&room, &bob, Membership::Leave).await;
        let after = server.say(&alice, &room, "cake tomorrow").await;
        assert_eq!(server.ids(&alice, "cake").await, strings(&[&after, &before]));
        let found = server.find(server.query(&bob, "cake")).await;
        assert_eq!((found.hits.len(), found.count, found.next), (1, 1, None));
        // What became of it after they left is not theirs to know.
        server.edit(&alice, &room, &before, "pie today").await;
        assert_eq!(server.ids(&bob, "pie").await, strings(&[]));
        assert_eq!(server.ids(&bob, "cake").await, strings(&[&before]));
        assert_eq!(server.ids(&carol, "cake").await, strings(&[]), "never in the room");
        let nid = server.rooms.user_nid(&bob).unwrap().unwrap();
        server.rooms.forget(&room, nid).await.unwrap();
        assert_eq!(server.ids(&bob, "cake").await, strings(&[]), "forgotten");
    });
}

#[test]
fn hidden_history_is_neither_found_nor_counted() {
    run(&Remains::new(), 1, async |server| {
        let (alice, bob) = (server.account("alice").await, server.account("bob").await);
        let visibility = json!({"history_visibility": "joined"});
        let room = server
            .create(&alice, |request| {
                let state = ("m.room.history_visibility".to_owned(), String::new(), object(visibility));
                request.initial_state = vec![state];
            })
            .await;
        for _ in 0..30 {
            server.say(&alice, &room, "secret").await;
        }
        server.change(&room, &bob, Membership::Join).await;
        let open = server.say(&alice, &room, "no secret").await;
        for order in [Order::Rank, Order::Recent] {
            let mut query = server.query(&bob, "secret");
            (query.order, query.limit) = (order, 1);
            let found = server.find(query).await;
            assert_eq!((found.hits.len(), found.count, found.next), (1, 1, None), "{order:?}");
            assert_eq!(found.hits[0].event.event_id(), open.as_str());
        }
    });
}

#[test]
fn names_and_topics_are_found_and_encrypted_rooms_are_not() {
    run(&Remains::new(), 1, async |server| {
        let alice = server.account("alice").await;
        let room = server.create(&alice, |_| {}).await;
        let set = async |kind: &str, content| {
            server.append(&room, Draft::state(alice.clone(), kind, "", object(content))).await
        };
        let name = set("m.room.name", json!({"name": "Garden"})).await;
        let topic = set("m.room.topic", json!({"topic": "All about gardens and the garden"})).await;
        let body = server.say(&alice, &room, "my garden").await;
        assert_eq!(server.ids(&alice, "garden").await, strings(&[&body, &topic, &name]));
        let mut query = server.query(&alice, "garden");
        query.keys = BTreeSet::from([SearchKey::Name]);
        let found = server.find(query).await;
        assert_eq!(found.hits.iter().map(|hit| hit.event.event_id()).collect::<Vec<_>>(), [name.as_str()]);
        set("m.room.encryption", json!({"algorithm": "m.megolm.v1.aes-sha2"})).await;
        assert_eq!(server.ids(&alice, "garden").await, strings(&[]));
    });
}

#[test]
fn pages_hold_each_result_once_in_both_orders_and_in_groups() {
    run(&Remains::new(), 1, async |server| {
        let (alice, bob) = (server.account("alice").await, server.account("bob").await);
        let mut all = BTreeSet::new();
        let mut groups = Vec::new();
        for _ in 0..2 {
            let room = server.create(&alice, |_| {}).await;
            server.change(&room, &bob, Membership::Join).await;
            for number in 0..11 {
                let sender = if number % 3 == 0 { &bob } else { &alice };
                let body = format!("apple {}{}", "apple ".repeat(number % 4), "pear ".repeat(number % 5));
                all.insert(server.say(sender, &room, &body).await.as_str().to_owned());
                // Found by the index, and hidden behind an edit.
                let hidden = server.say(sender, &room, "apple").await;
                server.edit(sender, &room, &hidden, "plum").await;
            }
            groups.push(Group::Room(server.nid(&room)));
        }
        for order in [Order::Rank, Order::Recent] {
            let (mut seen, mut from, mut last) = (Vec::new(), None, f32::INFINITY);
            loop {
                let mut query = server.query(&alice, "apple");
                (query.order, query.limit, query.from) = (order, 4, from);
                let found = server.find(query).await;
                assert_eq!(found.count, 22);
                for hit in &found.hits {
                    assert!(order == Order::Recent || hit.rank <= last);
                    last = hit.rank;
                    seen.push(hit.event.event_id().to_owned());
                }
                // What comes meanwhile does not disturb the pages.
                let token = found.next;
                from = token.map(|token| token.to_string().parse().unwrap());
                if from.is_none() {
                    break;
                }
            }
            assert_eq!(seen.len(), 22, "{order:?}");
            assert_eq!(seen.iter().cloned().collect::<BTreeSet<_>>(), all, "{order:?}");
        }
        // Within a group, only what is of it, from where the page ended.
        let mut query = server.query(&alice, "apple");
        query.limit = 5;
        let found = server.find(query).await;
        let shown = |group: Group| found.hits.iter().filter(|hit| Group::Room(hit.view.room()) == group).count();
        for group in groups {
            let mut query = server.query(&alice, "apple");
            query.from = found.next.map(|next| next.within(group));
            let rest = server.find(query).await;
            assert!(rest.hits.iter().all(|hit| Group::Room(hit.view.room()) == group));
            assert_eq!(rest.hits.len() + shown(group), 11);
        }
        let bobs = server.rooms.user_nid(&bob).unwrap().unwrap();
        let mut query = server.query(&alice, "apple");
        query.from = found.next.map(|next| next.within(Group::Sender(bobs)));
        let rest = server.find(query).await;
        let shown = found.hits.iter().filter(|hit| hit.event.sender_nid() == bobs).count();
        assert_eq!(rest.hits.len() + shown, 8);
        let mut query = server.query(&alice, "apple");
        (query.from, query.order) = (found.next, Order::Rank);
        assert!(server.search.find(query).await.is_err(), "a token of another order");
    });
}
