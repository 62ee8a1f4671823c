"""Rooms that are made, invites, leaving."""

from client import poll
from harness import check, equal, refused, scenario


@scenario("create")
def create(case):
    alice, bob = case.pair()
    room_id = case.create(alice, preset="public_chat", name="Created", topic="What for")
    equal(alice.get_state(room_id, "m.room.create").get("room_version"), case.version, "the room version")
    bob.join(room_id, via=case.one)
    bob.until_self(room_id, "join")
    alice.until_member(room_id, bob, "join")
    equal(bob.get_state(room_id, "m.room.name"), {"name": "Created"}, "the name")
    case.heard(room_id, "from the guest", bob, alice)
    case.heard(room_id, "from the host", alice, bob)
    members = set(bob.get(bob.room(room_id, "joined_members"))["joined"])
    equal(members, {alice.user_id, bob.user_id}, "the joined members")
    case.same(room_id, alice, bob)


@scenario("invite_accept")
def invite_accept(case):
    alice, bob = case.pair()
    room_id = case.create(alice, name="Come in", is_direct=True)
    alice.invite(room_id, bob, reason="please")
    bob.until_self(room_id, "invite")
    equal(bob.mirror.stripped(room_id, "m.room.name"), {"name": "Come in"}, "the name in the invite")
    invite = bob.mirror.stripped(room_id, "m.room.member", bob.user_id)
    check(invite and invite["membership"] == "invite" and invite.get("reason") == "please", f"the invite is {invite}")
    check(bob.mirror.stripped(room_id, "m.room.create") is not None, "the create event is in the invite")
    check(bob.mirror.stripped(room_id, "m.room.join_rules") is not None, "the join rules are in the invite")
    bob.join(room_id)
    bob.until_self(room_id, "join")
    alice.until_member(room_id, bob, "join")
    case.heard(room_id, "thanks", bob, alice)
    case.same(room_id, alice, bob)


@scenario("invite_at_creation")
def invite_at_creation(case):
    alice, bob = case.pair()
    room_id = case.create(alice, preset="trusted_private_chat", invite=[bob.user_id], is_direct=True)
    bob.until_self(room_id, "invite")
    check(bob.mirror.stripped(room_id, "m.room.member", bob.user_id).get("is_direct"), "the invite says is_direct")
    bob.join(room_id)
    alice.until_member(room_id, bob, "join")
    bob.set_state(room_id, "m.room.topic", {"topic": "both have power"})
    alice.until_state(room_id, "m.room.topic", lambda content: content["topic"] == "both have power")
    case.same(room_id, alice, bob)


@scenario("invite_refuse")
def invite_refuse(case):
    alice, bob = case.pair()
    room_id = case.create(alice)
    alice.invite(room_id, bob)
    bob.until_self(room_id, "invite")
    bob.leave(room_id)
    alice.until_member(room_id, bob, "leave")
    bob.until_self(room_id, "leave")
    refused(403, bob.join, room_id, via=case.one)
    case.bring(room_id, alice, bob)
    case.same(room_id, alice, bob)


@scenario("invite_revoke")
def invite_revoke(case):
    """Who takes an invite back tells the invited user's server, which is in the room only by the invite."""
    alice, bob = case.pair()
    room_id = case.create(alice)
    alice.invite(room_id, bob)
    bob.until_self(room_id, "invite")
    alice.kick(room_id, bob, "sent by mistake")
    alice.until_member(room_id, bob, "leave")
    bob.until_self(room_id, "leave")
    refused(403, bob.join, room_id, via=case.one)


@scenario("invite_by_guest")
def invite_by_guest(case):
    """A member invites a user of the room's other server, where the first user was when the room was made."""
    alice, bob, room_id = case.shared_room()
    carol = case.user(case.one, "carol")
    dave = case.user(case.two, "dave")
    case.bring(room_id, bob, carol)
    case.bring(room_id, alice, dave)
    case.heard(room_id, "all here", carol, alice, bob, dave)
    case.same(room_id, alice, bob, carol, dave)


@scenario("leave")
def leave(case):
    alice, bob, room_id = case.shared_room()
    case.heard(room_id, "bye", bob, alice)
    bob.leave(room_id)
    alice.until_member(room_id, bob, "leave")
    bob.until_self(room_id, "leave")
    refused(403, bob.say, room_id, "still here?")
    event_id = alice.say(room_id, "alone")
    refused(403, bob.join, room_id, via=case.one)
    bob.forget(room_id)
    check(event_id not in bob.mirror.room(room_id).events, "what is said later stays here")


@scenario("host_leaves")
def host_leaves(case):
    """The server that made the room is no longer in it; the other one can bring its users back."""
    alice, bob, room_id = case.shared_room(power_level_content_override={"invite": 0})
    dave = case.user(case.two, "dave")
    alice.leave(room_id)
    bob.until_member(room_id, alice, "leave")
    case.bring(room_id, bob, dave)
    for number in range(5):
        bob.say(room_id, f"without you {number}")
    case.bring(room_id, dave, alice)
    case.heard(room_id, "back again", alice, bob, dave)
    case.same(room_id, alice, bob, dave)


@scenario("leave_rejoin_backfill")
def leave_rejoin_backfill(case):
    alice, bob, room_id = case.shared_room()
    case.heard(room_id, "before", bob, alice)
    bob.leave(room_id)
    alice.until_member(room_id, bob, "leave")
    meanwhile = [alice.say(room_id, f"meanwhile {number}") for number in range(60)]
    alice.set_state(room_id, "m.room.topic", {"topic": "changed meanwhile"})
    case.bring(room_id, alice, bob)
    equal(bob.get_state(room_id, "m.room.topic")["topic"], "changed meanwhile", "the topic")

    def backfilled():
        got = {event["event_id"] for event in bob.history(room_id)}
        return all(event_id in got for event_id in meanwhile)

    poll("what was said meanwhile comes by paging back", backfilled)
    case.same(room_id, alice, bob)
