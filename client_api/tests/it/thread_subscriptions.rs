//! Following threads (MSC4306), and keeping up with it (MSC4308).

use serde_json::{Value, json};

use crate::server::{Client, run};

const UNSTABLE: &str = "/_matrix/client/unstable/io.element.msc4306";
const EXTENSION: &str = "io.element.msc4308.thread_subscriptions";

fn path(room: &str, root: &str) -> String {
    format!("{UNSTABLE}/rooms/{room}/thread/{root}/subscription")
}

async fn reply_to(user: &Client<'_>, room: &str, root: &str, txn: &str) -> String {
    let relation = json!({"rel_type": "m.thread", "event_id": root});
    let content = json!({"msgtype": "m.text", "body": txn, "m.relates_to": relation});
    let sent = user.put(&format!("rooms/{room}/send/m.room.message/{txn}"), content).await.ok();
    sent["event_id"].as_str().unwrap().to_owned()
}

#[test]
fn threads_are_followed_by_users_and_by_clients_on_their_own() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_room(json!({})).await;
        let (root, other) = (alice.say(&room, "root", "root").await, alice.say(&room, "other", "other").await);
        let subscription = path(&room, &root);
        alice.get(&subscription).await.refused(404, "M_NOT_FOUND");
        alice.put(&subscription, json!({})).await.ok();
        assert_eq!(alice.get(&subscription).await.ok(), json!({"automatic": false}));
        alice.delete(&subscription, json!({})).await.ok();
        alice.delete(&subscription, json!({})).await.ok();
        alice.get(&subscription).await.refused(404, "M_NOT_FOUND");
        bob.put(&subscription, json!({})).await.refused(403, "M_FORBIDDEN");
        let unknown = path(&room, "$notathread:example.org");
        alice.put(&unknown, json!({})).await.refused(404, "M_NOT_FOUND");
        alice.get(&unknown).await.refused(404, "M_NOT_FOUND");

        let automatic = async |event: &str| alice.put(&subscription, json!({"automatic": event})).await;
        let elsewhere = reply_to(&alice, &room, &other, "elsewhere").await;
        for event in [&root, &elsewhere] {
            automatic(event).await.refused(400, "IO.ELEMENT.MSC4306.M_NOT_IN_THREAD");
        }
        let first = reply_to(&alice, &room, &root, "first").await;
        automatic(&first).await.ok();
        assert_eq!(alice.get(&subscription).await.ok(), json!({"automatic": true}));
        let second = reply_to(&alice, &room, &root, "second").await;
        alice.delete(&subscription, json!({})).await.ok();
        for event in [&first, &second] {
            automatic(event).await.refused(409, "IO.ELEMENT.MSC4306.M_CONFLICTING_UNSUBSCRIPTION");
            alice.get(&subscription).await.refused(404, "M_NOT_FOUND");
        }
        let third = reply_to(&alice, &room, &root, "third").await;
        automatic(&third).await.ok();
        assert_eq!(alice.get(&subscription).await.ok(), json!({"automatic": true}));
    });
}

#[test]
fn threads_that_are_not_followed_are_quiet_once_the_rules_are_switched_on() {
    run(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = bob.create_room(json!({"preset": "public_chat"})).await;
        alice.post(&format!("join/{room}"), json!({})).await.ok();
        let (followed, other) = (bob.say(&room, "1", "one").await, bob.say(&room, "2", "two").await);
        alice.put(&path(&room, &followed), json!({})).await.ok();
        let notified = async |after: &str| {
            for root in [&followed, &other] {
                reply_to(&bob, &room, root, &format!("{after}-{root}")).await;
            }
            let listed = alice.get("notifications").await.ok()["notifications"].as_array().unwrap().clone();
            let bodies = listed.iter().map(|notification| notification["event"]["content"]["body"].to_string());
            (bodies.filter(|body| body.contains(after)).count(), listed[0]["actions"].clone())
        };
        assert_eq!(notified("before").await.0, 2);
        for rule in [
            "override/.io.element.msc4306.rule.unsubscribed_thread",
            "underride/.io.element.msc4306.rule.subscribed_thread",
        ] {
            alice.put(&format!("pushrules/global/{rule}/enabled"), json!({"enabled": true})).await.ok();
        }
        let actions = json!(["notify", {"set_tweak": "sound", "value": "default"}]);
        assert_eq!(notified("chosen").await, (1, actions));
        alice.delete(&path(&room, &followed), json!({})).await.ok();
        assert_eq!(notified("unfollowed").await.0, 0);
    });
}

async fn sliding(user: &Client<'_>, pos: Option<&str>, limit: u64) -> (String, Value) {
    let path = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync";
    let mut body = json!({"extensions": {EXTENSION: {"enabled": true, "limit": limit}}});
    if let Some(pos) = pos {
        body["pos"] = pos.into();
    }
    let answer = user.post(path, body).await.ok();
    (answer["pos"].as_str().unwrap().to_owned(), answer["extensions"][EXTENSION].clone())
}

#[test]
fn clients_keep_up_with_subscriptions_and_page_to_older_ones() {
    run(async |server| {
        let alice = server.register("alice").await;
        let room = alice.create_room(json!({})).await;
        let mut roots = Vec::new();
        for txn in ["1", "2", "3", "4"] {
            roots.push(alice.say(&room, txn, txn).await);
        }
        let (start, nothing) = sliding(&alice, None, 2).await;
        assert_eq!(nothing, Value::Null);
        for root in &roots {
            alice.put(&path(&room, root), json!({})).await.ok();
        }
        alice.delete(&path(&room, &roots[0]), json!({})).await.ok();
        let (pos, told) = sliding(&alice, Some(&start), 2).await;
        assert_eq!(told["subscribed"][&room][&roots[3]]["automatic"], false);
        assert!(told["subscribed"][&room][&roots[3]]["bump_stamp"].is_u64());
        assert!(told["unsubscribed"][&room][&roots[0]]["bump_stamp"].is_u64());
        assert_eq!(told["subscribed"][&room].as_object().unwrap().len(), 1);
        let from = told["prev_batch"].as_str().unwrap();
        let older = "/_matrix/client/unstable/io.element.msc4308/thread_subscriptions";
        let page = alice.get(&format!("{older}?dir=b&from={from}&to={start}&limit=1")).await.ok();
        assert!(page["subscribed"][&room][&roots[2]].is_object(), "{page}");
        let from = page["end"].as_str().unwrap();
        let page = alice.get(&format!("{older}?dir=b&from={from}&to={start}")).await.ok();
        assert!(page["subscribed"][&room][&roots[1]].is_object(), "{page}");
        assert_eq!((&page["end"], &page["unsubscribed"]), (&Value::Null, &Value::Null));
        let (_, told) = sliding(&alice, Some(&pos), 2).await;
        assert_eq!(told, Value::Null);
        // A new connection is told what is followed, not what was.
        let (_, told) = sliding(&alice, None, 100).await;
        assert_eq!(told["subscribed"][&room].as_object().unwrap().len(), 3);
        assert_eq!(told["unsubscribed"], Value::Null);
        alice.get(&format!("{older}?from=nonsense")).await.refused(400, "M_INVALID_PARAM");
        alice.get(&format!("{older}?dir=f")).await.refused(400, "M_INVALID_PARAM");
    });
}
