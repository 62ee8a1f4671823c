//! Rooms as administrators list them.

use rooms::{Draft, Preset, RoomsQuery};
use serde_json::json;
use spec::version::RoomVersion;

use crate::server::{Server, object, run};

fn names(server: &Server) -> Vec<Option<String>> {
    let page = server.rooms.list_rooms(&RoomsQuery { limit: 10, ..RoomsQuery::default() }).unwrap();
    page.rooms.iter().map(|room| room.name.clone()).collect()
}

#[test]
fn what_was_read_ahead_is_brought_up_to_date() {
    run(|server| async move {
        let (alice, _) = server.user("alice").await;
        let rename = async |room, name: &str| {
            let content = object(json!({"name": name}));
            server.append(room, Draft::state(alice.clone(), "m.room.name", "", content)).await.unwrap();
        };
        let (first, second) = (
            server.create(&alice, RoomVersion::V11, Preset::PublicChat).await,
            server.create(&alice, RoomVersion::V11, Preset::PublicChat).await,
        );
        rename(&first, "a").await;
        rename(&second, "b").await;
        server.rooms.read_overviews_ahead(1).unwrap();
        assert_eq!(names(&server), [Some("a".to_owned()), Some("b".to_owned())]);
        server.rooms.read_overviews_ahead(10).unwrap();
        rename(&first, "c").await;
        assert_eq!(names(&server), [Some("b".to_owned()), Some("c".to_owned())]);
    });
}
