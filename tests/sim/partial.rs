//! Rooms that are entered before their members are known.

use std::time::Duration;

use rooms::{Membership, MembershipChange};
use serde_json::{Map, json};
use spec::ids::UserId;
use spec::version::RoomVersion;
use testkit::sim::{Mood, World, compare_pictures, compare_present};

/// How many members the room has before the second server comes.
const MEMBERS: usize = 300;
/// How long its state is held back.
const HELD: Duration = Duration::from_secs(15);
const LIMIT: Duration = Duration::from_secs(600);

/// Users of the first server without accounts, who join.
fn fill(world: &World) {
    let (rooms, room) = (world.servers[0].rooms().clone(), world.room.clone());
    world.runtime.run(LIMIT, async move {
        for number in 0..MEMBERS {
            let user = UserId::parse(format!("@member{number}:one.test")).unwrap();
            let change = MembershipChange {
                sender: user.clone(),
                target: user,
                membership: Membership::Join,
                content: Map::new(),
            };
            rooms.change_membership(&room, change).await.unwrap();
        }
    });
}

fn has_heard(world: &World, server: usize, text: &str) -> bool {
    let pictures = world.all_pictures();
    let picture = pictures.iter().find(|picture| picture.server == *world.servers[server].name()).unwrap();
    picture.events.values().any(|event| event.content.contains(text) && event.flags.is_visible())
}

/// Of server two.
const ANNA_OF_TWO: usize = 2;

#[test]
fn a_large_room_is_usable_at_once_and_survives_a_restart() {
    // Worlds with even seeds have partial joins.
    let mut world = World::with(1000, Mood::Peaceful, RoomVersion::V11, 2, "shared");
    assert!(world.member(ANNA_OF_TWO).user.as_str().ends_with(":two.test"));
    fill(&world);
    world.drain();
    world.network.release();
    world.network.hold("/_matrix/federation/v1/state_ids/", HELD);
    let (member, room, via) = (world.member(ANNA_OF_TWO), world.room.clone(), vec![world.servers[0].name().clone()]);
    let begun = world.runtime.clock().monotonic();
    let (joining, of) = (member.clone(), room.clone());
    let joined =
        world.runtime.run(LIMIT, async move { joining.port().join(&joining.user, &of, &via, Map::new()).await });
    joined.unwrap();
    let elapsed = world.runtime.clock().monotonic() - begun;
    assert!(elapsed < HELD / 3, "the join took {elapsed:?}");
    assert!(member.is_partial(&room));
    // Messages go both ways.
    world.send(ANNA_OF_TWO, "m.room.message", None, json!({"msgtype": "m.text", "body": "from two"})).unwrap();
    world.send(0, "m.room.message", None, json!({"msgtype": "m.text", "body": "from one"})).unwrap();
    world.runtime.pass(Duration::from_secs(3));
    assert!(has_heard(&world, 0, "from two") && has_heard(&world, 1, "from one"));
    assert!(member.is_partial(&room), "and the members are still unknown");
    drop(member);
    world.servers[1].restart(&world.runtime, &world.network);
    assert!(world.member(ANNA_OF_TWO).is_partial(&room));
    world.send(ANNA_OF_TWO, "m.room.message", None, json!({"msgtype": "m.text", "body": "still here"})).unwrap();
    world.drain();
    let pictures = world.pictures();
    let mut problems = compare_pictures(&pictures);
    problems.extend(compare_present(&pictures));
    assert!(problems.is_empty(), "{problems:#?}");
    assert!(has_heard(&world, 0, "still here"));
    let rooms = world.servers[1].rooms();
    let head = rooms.head(rooms.known_room(&room).unwrap()).unwrap();
    assert!(!head.is_partial());
    assert_eq!(usize::try_from(head.joined_count()).unwrap(), MEMBERS + 2, "the creator, and Anna of two");
    world.assert_sound();
}
