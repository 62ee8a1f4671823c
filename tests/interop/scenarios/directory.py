"""What one finds on another server: public rooms, aliases, spaces."""

from client import poll
from harness import check, encode, equal, refused, scenario


@scenario("public_rooms")
def public_rooms(case):
    alice, bob = case.pair()
    word = case.alias("gazette")
    room_id = case.create(
        alice, preset="public_chat", name=f"The {word}", topic="Listed", visibility="public", room_alias_name=word
    )
    found = poll(
        "the room in the list",
        lambda: [
            room
            for room in bob.get("/v3/publicRooms", server=case.one.name, limit=500)["chunk"]
            if room["room_id"] == room_id
        ],
        seconds=75,  # Synapse remembers others' lists for a minute
    )[0]
    equal(found["name"], f"The {word}", "the name listed")
    equal(found["topic"], "Listed", "the topic listed")
    equal(found["num_joined_members"], 1, "the members counted")
    equal(found["canonical_alias"], f"#{word}:{case.one.name}", "the alias listed")
    body = {"filter": {"generic_search_term": word}, "limit": 10}
    searched = bob.post("/v3/publicRooms", body, server=case.one.name)["chunk"]
    equal([room["room_id"] for room in searched], [room_id], "the rooms found by a word")
    own = bob.get("/v3/publicRooms", limit=500)["chunk"]
    check(room_id not in [room["room_id"] for room in own], "the room is in the other server's own list")
    bob.join(room_id, via=case.one)
    alice.until_member(room_id, bob, "join")


@scenario("aliases")
def aliases(case):
    alice, bob = case.pair()
    room_id = case.create(alice, preset="public_chat")
    alias = f"#{case.alias('name')}:{case.one.name}"
    path = f"/v3/directory/room/{encode(alias)}"
    refused(404, bob.get, path)
    alice.put(path, {"room_id": room_id})
    equal(bob.get(path)["room_id"], room_id, "the room of the alias")
    alice.ask("DELETE", path)
    refused(404, bob.get, path)


@scenario("space_hierarchy")
def space_hierarchy(case):
    alice, bob = case.pair()
    space_id = case.create(alice, creation_content={"type": "m.space"}, name="Top")
    nested_id = case.create(alice, creation_content={"type": "m.space"}, name="Nested", preset="public_chat")
    public_id = case.create(alice, name="Public child", preset="public_chat")
    deep_id = case.create(alice, name="Deep child", preset="public_chat")
    private_id = case.create(alice, name="Private child")
    link = {"via": [case.one.name]}
    for parent, child in ((space_id, nested_id), (space_id, public_id), (space_id, private_id), (nested_id, deep_id)):
        alice.set_state(parent, "m.space.child", link, key=child)
    case.bring(space_id, alice, bob)
    path = bob.room(space_id, "hierarchy").replace("/v3/", "/v1/")
    rooms = {room["room_id"]: room for room in bob.get(path, limit=50)["rooms"]}
    names = {room_id: room.get("name") for room_id, room in rooms.items()}
    wanted = {space_id: "Top", nested_id: "Nested", public_id: "Public child", deep_id: "Deep child"}
    equal(names, wanted, "the rooms in the hierarchy")
    equal(rooms[nested_id].get("room_type"), "m.space", "the type of the nested space")
    children = {event["state_key"] for event in rooms[space_id]["children_state"]}
    equal(children, {nested_id, public_id, private_id}, "the children of the space")
    nested = {event["state_key"] for event in rooms[nested_id]["children_state"]}
    equal(nested, {deep_id}, "the children of the nested space")
    bob.join(deep_id, via=case.one)
    alice.until_member(deep_id, bob, "join")


@scenario("space_hierarchy_restricted", since=8)
def space_hierarchy_restricted(case):
    """A room that only members of the space may join is shown to members of the space."""
    alice, bob = case.pair()
    space_id = case.create(alice, creation_content={"type": "m.space"}, name="Top")
    content = {"join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": space_id}]}
    rules = {"type": "m.room.join_rules", "state_key": "", "content": content}
    room_id = case.create(alice, name="For members", initial_state=[rules])
    alice.set_state(space_id, "m.space.child", {"via": [case.one.name]}, key=room_id)
    case.bring(space_id, alice, bob)
    path = bob.room(space_id, "hierarchy").replace("/v3/", "/v1/")
    rooms = {room["room_id"]: room for room in bob.get(path, limit=50)["rooms"]}
    equal(set(rooms), {space_id, room_id}, "the rooms in the hierarchy")
    equal(rooms[room_id].get("join_rule"), "restricted", "the join rule")
