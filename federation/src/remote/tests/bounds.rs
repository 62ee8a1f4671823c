//! Each bound of what other servers answer, and of how many are asked, crossed.

use super::*;

fn names(count: usize) -> Vec<ServerName> {
    (0..count).map(|number| name(&format!("s{number}.test"))).collect()
}

fn padding(bytes: usize) -> Value {
    "x".repeat(bytes).into()
}

#[tokio::test]
async fn of_an_alias_few_servers_are_told() {
    let here = Here::new();
    here.world.answer("a.test", |_| (StatusCode::OK, json!({"room_id": "!room:a.test", "servers": names(200)})));
    let alias = RoomAlias::parse("#tea:a.test").unwrap();
    assert_eq!(here.federation.resolve_alias(&alias).await.unwrap().1.len(), 50);
}

#[tokio::test]
async fn answers_to_questions_are_bounded_in_size() {
    for (kib, is_read) in [(200, true), (300, false)] {
        let here = Here::new();
        let alias = RoomAlias::parse("#tea:a.test").unwrap();
        here.world.answer("a.test", move |_| {
            (StatusCode::OK, json!({"room_id": "!room:a.test", "servers": [], "padding": padding(kib * 1024)}))
        });
        assert_eq!(here.federation.resolve_alias(&alias).await.is_ok(), is_read, "an alias with {kib} KiB");
    }
    for (mib, is_read) in [(3, true), (5, false)] {
        let here = Here::new();
        here.world
            .answer("a.test", move |_| (StatusCode::OK, json!({"chunk": [], "padding": padding(mib * 1024 * 1024)})));
        let list = here.federation.public_rooms(&name("a.test"), object(json!({}))).await;
        assert_eq!(list.is_ok(), is_read, "a list with {mib} MiB");
        let here = Here::new();
        let room = RoomId::parse("!room:a.test").unwrap();
        here.world.answer("a.test", move |_| {
            let summary = json!({
                "room_id": "!room:a.test", "num_joined_members": 1, "world_readable": true, "guest_can_join": true,
                "children_state": [],
            });
            (StatusCode::OK, json!({"room": summary, "children": [], "padding": padding(mib * 1024 * 1024)}))
        });
        assert_eq!(here.federation.hierarchy(&room, &[], false).await.is_ok(), is_read, "a space with {mib} MiB");
    }
}

#[tokio::test]
async fn few_servers_are_asked_about_a_room() {
    let here = Here::new();
    for server in names(9) {
        here.world.answer(server.as_str(), |_| (StatusCode::NOT_FOUND, refusal("M_NOT_FOUND")));
    }
    let room = RoomId::parse("!room:here.test").unwrap();
    assert!(here.federation.hierarchy(&room, &names(9), false).await.is_err());
    assert_eq!(here.world.take_asked().len(), 4);
    // Joining takes more patience, and still not everybody is asked.
    let alice = user("@alice:here.test");
    assert!(here.federation.join(&alice, &room, &names(30), Map::new()).await.is_err());
    assert!(here.world.take_asked().len() <= 10);
    // Who hears "forbidden" three times does not go on.
    for server in names(9) {
        here.world.answer(server.as_str(), |_| (StatusCode::FORBIDDEN, refusal("M_FORBIDDEN")));
    }
    assert!(here.federation.join(&alice, &room, &names(9), Map::new()).await.is_err());
    assert_eq!(here.world.take_asked().len(), 3);
}
