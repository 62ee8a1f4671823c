"""Joining by alias, through a space, and by knocking."""

from client import poll
from harness import check, equal, refused, scenario


def restricted_rules(space_id, rule="restricted"):
    return {"join_rule": rule, "allow": [{"type": "m.room_membership", "room_id": space_id}]}


def create_restricted(case, owner, rule="restricted", **more):
    """A space and a room that members of the space may join."""
    space_id = case.create(owner, creation_content={"type": "m.space"}, name="Space")
    rules = {"type": "m.room.join_rules", "state_key": "", "content": restricted_rules(space_id, rule)}
    room_id = case.create(owner, initial_state=[rules], **more)
    link = {"via": [owner.server.name]}
    owner.set_state(space_id, "m.space.child", link, key=room_id)
    owner.set_state(room_id, "m.space.parent", link, key=space_id)
    return space_id, room_id


@scenario("join_by_alias")
def join_by_alias(case):
    alice, bob = case.pair()
    local = case.alias("door")
    room_id = case.create(alice, preset="public_chat", room_alias_name=local)
    alias = f"#{local}:{case.one.name}"
    found = bob.get(f"/v3/directory/room/{alias.replace('#', '%23')}")
    equal(found["room_id"], room_id, "the room of the alias")
    check(case.one.name in found["servers"], f"the alias's servers are {found['servers']}")
    equal(bob.join(alias), room_id, "the room that was joined")
    alice.until_member(room_id, bob, "join")
    equal(bob.get_state(room_id, "m.room.canonical_alias").get("alias"), alias, "the canonical alias")
    refused(404, bob.join, f"#nothing-{local}:{case.one.name}")
    case.same(room_id, alice, bob)


@scenario("join_refused")
def join_refused(case):
    alice, bob = case.pair()
    room_id = case.create(alice)
    refused(403, bob.join, room_id, via=case.one)
    equal(sorted(alice.get(alice.room(room_id, "joined_members"))["joined"]), [alice.user_id], "the members")


@scenario("restricted_join", since=8)
def restricted_join(case):
    alice, bob = case.pair()
    space_id, room_id = create_restricted(case, alice)
    refused(403, bob.join, room_id, via=case.one)
    case.bring(space_id, alice, bob)
    bob.join(room_id, via=case.one)
    event = alice.until_member(room_id, bob, "join")
    equal(event["content"].get("join_authorised_via_users_server"), alice.user_id, "who authorised the join")
    case.heard(room_id, "through the space", bob, alice)
    # Once both servers are residents, either may let members of the space in.
    dave, erin = case.user(case.two, "dave"), case.user(case.one, "erin")
    refused(403, dave.join, room_id, via=case.one)
    case.bring(space_id, alice, dave)
    dave.join(room_id, via=case.one)
    alice.until_member(room_id, dave, "join")
    case.bring(space_id, alice, erin)
    bob.until_member(space_id, erin, "join")
    erin.join(room_id, via=case.two)
    bob.until_member(room_id, erin, "join")
    case.same(room_id, alice, bob, dave, erin)
    case.same(space_id, alice, bob, dave, erin)


@scenario("restricted_join_signed_by_host", since=8)
def restricted_join_signed_by_host(case):
    """The second server is in the room, but only the first has somebody who may invite: it has to sign the join."""
    alice, bob = case.pair()
    space_id, room_id = create_restricted(case, alice, power_level_content_override={"invite": 50})
    dave = case.user(case.two, "dave")
    case.bring(space_id, alice, bob)
    bob.join(room_id, via=case.one)
    alice.until_member(room_id, bob, "join")
    case.bring(space_id, alice, dave)
    dave.join(room_id, via=case.one)
    event = alice.until_member(room_id, dave, "join")
    equal(event["content"].get("join_authorised_via_users_server"), alice.user_id, "who authorised the join")
    case.heard(room_id, "signed by the host", dave, alice, bob)
    case.same(room_id, alice, bob, dave)


@scenario("restricted_join_by_foreign_space", since=8)
def restricted_join_by_foreign_space(case):
    """The space is the second server's, the room is the first's."""
    alice, bob = case.pair()
    dave = case.user(case.two, "dave")
    space_id = case.create(bob, creation_content={"type": "m.space"}, name="Bob's space")
    case.bring(space_id, bob, alice)
    case.bring(space_id, bob, dave)
    alice.until_member(space_id, dave, "join")
    rules = {"type": "m.room.join_rules", "state_key": "", "content": restricted_rules(space_id)}
    room_id = case.create(alice, initial_state=[rules])
    dave.join(room_id, via=case.one)
    alice.until_member(room_id, dave, "join")
    case.heard(room_id, "through my own space", dave, alice)
    case.same(room_id, alice, dave)


def create_knockable(case, owner):
    rules = {"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "knock"}}
    return case.create(owner, initial_state=[rules], name="Knock first")


@scenario("knock_accept", since=7)
def knock_accept(case):
    alice, bob = case.pair()
    room_id = create_knockable(case, alice)
    refused(403, bob.join, room_id, via=case.one)
    equal(bob.knock(room_id, case.one, "let me in"), room_id, "the room of the knock")
    bob.until_self(room_id, "knock")
    equal(bob.mirror.stripped(room_id, "m.room.name"), {"name": "Knock first"}, "the name in the knock")
    event = alice.until_member(room_id, bob, "knock")
    equal(event["content"].get("reason"), "let me in", "the reason of the knock")
    alice.invite(room_id, bob)
    bob.until_self(room_id, "invite")
    bob.join(room_id)
    alice.until_member(room_id, bob, "join")
    case.heard(room_id, "thanks", bob, alice)
    case.same(room_id, alice, bob)


@scenario("knock_withdraw", since=7)
def knock_withdraw(case):
    alice, bob = case.pair()
    room_id = create_knockable(case, alice)
    bob.knock(room_id, case.one, "anybody there?")
    alice.until_member(room_id, bob, "knock")
    bob.until_self(room_id, "knock")
    bob.leave(room_id)
    bob.until_self(room_id, "leave")
    if case.two.kind != "synapse":  # which tells nobody: "We don't yet support rescinding knocks over federation"
        alice.until_member(room_id, bob, "leave")


@scenario("knock_restricted", since=10)
def knock_restricted(case):
    alice, bob = case.pair()
    dave = case.user(case.two, "dave")
    space_id, room_id = create_restricted(case, alice, rule="knock_restricted")
    case.bring(space_id, alice, bob)
    bob.join(room_id, via=case.one)
    alice.until_member(room_id, bob, "join")
    refused(403, dave.join, room_id, via=case.one)
    dave.knock(room_id, case.one, "not in the space")
    alice.until_member(room_id, dave, "knock")
    bob.until_member(room_id, dave, "knock")
    alice.invite(room_id, dave)
    dave.until_self(room_id, "invite")
    # Synapse lets him in only when it has the invite also as an event of the room. Its /sync may leave out an event that
    # it got as an invitation first, so its state is asked.
    poll("the invite", lambda: bob.get_state(room_id, "m.room.member", dave.user_id)["membership"] == "invite")
    dave.join(room_id)
    alice.until_member(room_id, dave, "join")
    case.same(room_id, alice, bob, dave)
