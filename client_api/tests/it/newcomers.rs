//! Rules against spam: what new accounts may do only so often.

use std::sync::Arc;
use std::time::Duration;

use client_api::{RateLimitsConfig, SpamAction, SpamConfig};
use http::Method;
use rooms::UserNid;
use runtime::config::{RateLimit, Span};
use serde_json::json;
use spec::ids::UserId;
use users::{AccountKind, AdminRights, DeviceLogin, NewAccount, Role, SpamRule};

use crate::server::{Client, Server, Setup, no_limits, run_as};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Ordinary limits that are not in the way, and rules of one or two.
fn strict() -> Setup {
    let plenty = RateLimit::new(1000.0, 1000);
    Setup {
        rate_limits: RateLimitsConfig { registration: plenty, login: plenty, ..RateLimitsConfig::default() },
        spam: SpamConfig {
            rooms_per_hour: 2,
            invitations_per_hour: 3,
            invited_users_per_hour: 2,
            joins_per_hour: 2,
            links_per_hour: 2,
            uploads_per_hour: 2,
            ..SpamConfig::default()
        },
        ..Setup::default()
    }
}

fn nid(server: &Server, user: &Client<'_>) -> UserNid {
    server.rooms.user_nid(&UserId::parse(&*user.user_id).unwrap()).unwrap().unwrap()
}

/// An administrator, who is the first, and somebody new.
async fn two(server: &Server) -> (Client<'_>, Client<'_>) {
    (server.register("admin").await, server.register("newbie").await)
}

async fn send(user: &Client<'_>, room: &str, txn: &str, body: &str) -> crate::server::Reply {
    user.put(&format!("rooms/{room}/send/m.room.message/{txn}"), json!({"msgtype": "m.text", "body": body})).await
}

/// Which rules have refused something, with how often.
fn refused(server: &Server) -> Vec<(SpamRule, u64)> {
    let refusals = server.users.spam_refusals(0).unwrap();
    refusals.iter().map(|refusals| (refusals.rule, refusals.count)).collect()
}

#[test]
fn a_new_account_makes_few_rooms() {
    run_as(strict(), async |server| {
        let (admin, newbie) = two(&server).await;
        let room = newbie.create_room(json!({"room_version": "10"})).await;
        newbie.create_room(json!({})).await;
        let reply = newbie.post("createRoom", json!({})).await;
        let body = reply.refused(429, "M_LIMIT_EXCEEDED");
        assert_eq!(body["retry_after_ms"], 1_800_000);
        assert_eq!(reply.headers["retry-after"], "1800");
        let upgrade = format!("rooms/{room}/upgrade");
        newbie.post(&upgrade, json!({"new_version": "11"})).await.refused(429, "M_LIMIT_EXCEEDED");
        assert_eq!(refused(&server), [(SpamRule::Rooms, 2)]);
        for _ in 0..3 {
            admin.create_room(json!({})).await;
        }
        server.clock.advance(Duration::from_millis(1_800_000));
        newbie.create_room(json!({})).await;
        newbie.post("createRoom", json!({})).await.refused(429, "M_LIMIT_EXCEEDED");
    });
}

#[test]
fn a_new_account_invites_few_people_and_few_times() {
    run_as(strict(), async |server| {
        let (_, newbie) = two(&server).await;
        for name in ["a", "b", "c"] {
            server.register(name).await;
        }
        let room = newbie.create_room(json!({})).await;
        let invite = async |name: &str| {
            let body = json!({"user_id": format!("@{name}:hs.test")});
            newbie.post(&format!("rooms/{room}/invite"), body).await
        };
        invite("a").await.ok();
        // The same user again is no further one.
        invite("a").await.ok();
        invite("b").await.ok();
        invite("b").await.refused(429, "M_LIMIT_EXCEEDED");
        assert_eq!(refused(&server), [(SpamRule::Invitations, 1)]);
        server.clock.advance(Duration::from_secs(1200));
        let state = format!("rooms/{room}/state/m.room.member/@c:hs.test");
        newbie.put(&state, json!({"membership": "invite"})).await.refused(429, "M_LIMIT_EXCEEDED");
        server.clock.advance(Duration::from_secs(1200));
        let creation = json!({"invite": ["@a:hs.test", "@b:hs.test", "@c:hs.test"]});
        newbie.post("createRoom", creation).await.refused(429, "M_LIMIT_EXCEEDED");
        assert!(refused(&server).contains(&(SpamRule::InvitedUsers, 1)), "{:?}", refused(&server));
    });
}

#[test]
fn a_new_account_joins_few_rooms() {
    run_as(strict(), async |server| {
        let (admin, newbie) = two(&server).await;
        let mut rooms = Vec::new();
        for _ in 0..4 {
            rooms.push(admin.create_room(json!({"preset": "public_chat"})).await);
        }
        newbie.post(&format!("join/{}", rooms[0]), json!({})).await.ok();
        // Again is no further one, nor is a new name in a room.
        newbie.post(&format!("join/{}", rooms[0]), json!({})).await.ok();
        let own = |room: &str| format!("rooms/{room}/state/m.room.member/{}", newbie.user_id);
        newbie.put(&own(&rooms[0]), json!({"membership": "join", "displayname": "New"})).await.ok();
        newbie.put(&own(&rooms[1]), json!({"membership": "join"})).await.ok();
        newbie.post(&format!("rooms/{}/join", rooms[2]), json!({})).await.refused(429, "M_LIMIT_EXCEEDED");
        newbie.put(&own(&rooms[2]), json!({"membership": "join"})).await.refused(429, "M_LIMIT_EXCEEDED");
        newbie.post(&format!("knock/{}", rooms[3]), json!({})).await.refused(429, "M_LIMIT_EXCEEDED");
        assert_eq!(refused(&server), [(SpamRule::Joins, 3)]);
    });
}

#[test]
fn a_new_account_sends_few_links_and_talks_freely() {
    run_as(strict(), async |server| {
        let (_, newbie) = two(&server).await;
        let room = newbie.create_room(json!({})).await;
        for txn in ["1", "2"] {
            send(&newbie, &room, txn, "see https://spam.example").await.ok();
        }
        let link = "WWW.spam.example";
        send(&newbie, &room, "3", link).await.refused(429, "M_LIMIT_EXCEEDED");
        let delayed = format!("rooms/{room}/send/m.room.message/4?org.matrix.msc4140.delay=60000");
        newbie.put(&delayed, json!({"body": link})).await.refused(429, "M_LIMIT_EXCEEDED");
        let later = format!("/_matrix/client/unstable/org.matrix.msc4140/rooms/{room}/delayed_event/m.room.message/5");
        let body = json!({"delay_ms": 60_000, "content": {"body": link}});
        newbie.put(&later, body).await.refused(429, "M_LIMIT_EXCEEDED");
        for txn in 6..12 {
            send(&newbie, &room, &txn.to_string(), "no link here").await.ok();
        }
        assert_eq!(refused(&server), [(SpamRule::Links, 3)]);
    });
}

#[test]
fn a_new_account_uploads_few_files() {
    run_as(strict(), async |server| {
        let (_, newbie) = two(&server).await;
        newbie.call(Method::POST, "/_matrix/media/v3/upload", "content").await.ok();
        let reserved = newbie.post("/_matrix/media/v1/create", json!({})).await.ok();
        newbie.call(Method::POST, "/_matrix/media/v3/upload", "more").await.refused(429, "M_LIMIT_EXCEEDED");
        newbie.post("/_matrix/media/v1/create", json!({})).await.refused(429, "M_LIMIT_EXCEEDED");
        // What was reserved is counted already.
        let mxc = reserved["content_uri"].as_str().unwrap().strip_prefix("mxc://").unwrap();
        newbie.call(Method::PUT, &format!("/_matrix/media/v3/upload/{mxc}"), "late").await.ok();
        assert_eq!(refused(&server), [(SpamRule::Uploads, 2)]);
    });
}

#[test]
fn the_rules_end_with_the_age_of_the_account() {
    run_as(strict(), async |server| {
        let (_, newbie) = two(&server).await;
        server.clock.advance(DAY - Duration::from_secs(1));
        for _ in 0..2 {
            newbie.create_room(json!({})).await;
        }
        newbie.post("createRoom", json!({})).await.refused(429, "M_LIMIT_EXCEEDED");
        server.clock.advance(Duration::from_secs(1));
        for _ in 0..3 {
            newbie.create_room(json!({})).await;
        }
    });
}

#[test]
fn the_rules_are_not_for_those_whom_somebody_answers_for() {
    run_as(strict(), async |server| {
        let (_, newbie) = two(&server).await;
        let user = nid(&server, &newbie);
        let three = async |user: &Client<'_>| {
            for _ in 0..3 {
                user.create_room(json!({})).await;
            }
        };
        server.users.set_spam_exemption(user, true).await.unwrap();
        three(&newbie).await;
        server.users.set_spam_exemption(user, false).await.unwrap();
        newbie.create_room(json!({})).await;
        newbie.create_room(json!({})).await;
        newbie.post("createRoom", json!({})).await.refused(429, "M_LIMIT_EXCEEDED");
        server.users.set_role(user, Role::Moderator).await.unwrap();
        three(&newbie).await;
        // Somebody made this one.
        let made = NewAccount {
            localpart: "made",
            password: None,
            kind: AccountKind::User,
            admin: AdminRights::Denied,
            registration_token: None,
        };
        let made = server.users.create_account(made).await.unwrap().user;
        let session = server.users.start_session(made, DeviceLogin::default()).await.unwrap();
        let session = json!({
            "user_id": session.user_id, "access_token": session.tokens.access_token, "device_id": &*session.device_id,
        });
        three(&server.client(&session)).await;
        assert_eq!(refused(&server), [(SpamRule::Rooms, 1)]);
    });
}

#[test]
fn a_rule_can_forbid_and_can_be_left_out() {
    let mut setup = strict();
    setup.spam = SpamConfig { rooms_per_hour: 1, joins_per_hour: 0, action: SpamAction::Forbid, ..setup.spam };
    run_as(setup, async |server| {
        let (admin, newbie) = two(&server).await;
        newbie.create_room(json!({})).await;
        let body = newbie.post("createRoom", json!({})).await.refused(403, "M_FORBIDDEN");
        assert!(body.get("retry_after_ms").is_none(), "{body}");
        for _ in 0..4 {
            let room = admin.create_room(json!({"preset": "public_chat"})).await;
            newbie.post(&format!("join/{room}"), json!({})).await.ok();
        }
    });
}

#[test]
fn without_limits_or_an_age_there_are_no_rules() {
    let no_age = SpamConfig { new_account_age: Span::seconds(0), rooms_per_hour: 1, ..SpamConfig::default() };
    let unlimited = Setup { rate_limits: no_limits(), ..strict() };
    for setup in [Setup { spam: no_age, ..strict() }, unlimited] {
        run_as(setup, async |server: Arc<Server>| {
            let (_, newbie) = two(&server).await;
            for _ in 0..3 {
                newbie.create_room(json!({})).await;
            }
        });
    }
}
