"""Rooms that a server may enter before it knows who is in them."""

import itertools
import threading

from client import poll
from harness import equal, scenario

FEW, MANY = 20, 210

lock = threading.Lock()
crowds = {}


def crowd_of(server, size):
    """The same users for every case: registering them takes longer than all else here."""
    with lock:
        crowd = crowds.setdefault(server.name, [])
        while len(crowd) < size:
            crowd.append(server.register("crowd"))
            crowd[-1].mirror.lazy = True
        return crowd[:size]


def create_crowded(case, owner, rule=None, size=FEW, **content):
    """A room of the first server in which the crowd is too, kept by `rule` (by invite, without one) from then on."""
    room_id = case.create(owner, preset="public_chat", **content)
    people = crowd_of(case.one, size)
    with lock:  # a client of the crowd is used by one thread at a time
        for person in people:
            person.join(room_id)
            person.close()
    owner.set_state(room_id, "m.room.join_rules", rule or {"join_rule": "invite"})
    return room_id, people


def say_as(person, room_id, text):
    with lock:
        return person.say(room_id, text)


def all_members(client, room_id):
    return set(client.get(client.room(room_id, "joined_members"))["joined"])


def used_at_once(case, room_id, alice, bob, people):
    """What Bob can do as soon as his join is answered, whatever his server knows by then."""
    bob.mirror.lazy = True
    bob.until_self(room_id, "join")
    case.heard(room_id, "here already", bob, alice)
    event_id = say_as(people[7], room_id, "from the crowd")
    bob.until_event(room_id, event_id)
    sender = bob.mirror.room(room_id).state.get(("m.room.member", people[7].user_id))
    equal(sender and sender["content"]["membership"], "join", "the membership of who speaks, in a lazy sync")
    case.heard(room_id, "welcome", alice, bob)


def whole_in_the_end(case, room_id, *clients, timelines=True):
    """Everybody is known on both servers, and the servers agree."""
    wanted = all_members(clients[0], room_id)
    for client in clients:
        equal(all_members(client, room_id), wanted, f"the members at {client}")
    case.same(room_id, *clients, seconds=60, timelines=timelines)


@scenario("crowd_by_invite")
def crowd_by_invite(case):
    """A private room: the invite lets in, although it is one of the members that are left out."""
    alice, bob = case.pair()
    room_id, people = create_crowded(case, alice, power_level_content_override={"invite": 0})
    alice.invite(room_id, bob)
    bob.until_self(room_id, "invite")
    bob.join(room_id)
    used_at_once(case, room_id, alice, bob, people)
    dave = case.user(case.two, "dave")
    case.bring(room_id, bob, dave)
    alice.until_member(room_id, dave, "join")
    whole_in_the_end(case, room_id, alice, bob, dave)


@scenario("crowd_of_hundreds", since=12)
def crowd_of_hundreds(case):
    alice, bob = case.pair()
    room_id, people = create_crowded(case, alice, size=MANY)
    alice.invite(room_id, bob)
    bob.until_self(room_id, "invite")
    bob.join(room_id)
    used_at_once(case, room_id, alice, bob, people)
    whole_in_the_end(case, room_id, alice, bob)


@scenario("crowd_restricted", since=8)
def crowd_restricted(case):
    """Through a space, then a second user of the same server, whom that server may let in when it knows the members."""
    alice, bob = case.pair()
    dave = case.user(case.two, "dave")
    space_id = case.create(alice, creation_content={"type": "m.space"})
    for guest in (bob, dave):
        case.bring(space_id, alice, guest)
    allow = [{"type": "m.room_membership", "room_id": space_id}]
    room_id, people = create_crowded(case, alice, {"join_rule": "restricted", "allow": allow})
    bob.join(room_id, via=case.one)
    dave.join(room_id, via=case.one)
    used_at_once(case, room_id, alice, bob, people)
    alice.until_member(room_id, dave, "join")
    whole_in_the_end(case, room_id, alice, bob, dave)


@scenario("crowd_knock", since=7)
def crowd_knock(case):
    alice, bob = case.pair()
    room_id, people = create_crowded(case, alice, {"join_rule": "knock"})
    bob.knock(room_id, case.one, "so many of you")
    alice.until_member(room_id, bob, "knock")
    alice.invite(room_id, bob)
    bob.until_self(room_id, "invite")
    bob.join(room_id)
    used_at_once(case, room_id, alice, bob, people)
    whole_in_the_end(case, room_id, alice, bob)


@scenario("crowd_changes")
def crowd_changes(case):
    """The room goes on changing while the second server finds out who is in it."""
    alice, bob = case.pair()
    room_id, people = create_crowded(case, alice)
    alice.invite(room_id, bob)
    bob.until_self(room_id, "invite")
    bob.join(room_id)
    alice.kick(room_id, people[1])
    alice.ban(room_id, people[2])
    with lock:
        people[3].leave(room_id)
    alice.set_state(room_id, "m.room.topic", {"topic": "changed meanwhile"})
    case.heard(room_id, "who is left?", bob, alice)
    last = case.heard(room_id, "some", alice, bob)
    bob.mirror.lazy = True
    bob.until_event(room_id, last)
    gone = {person.user_id for person in people[1:4]}
    poll("those who went are gone", lambda: not gone & all_members(bob, room_id))
    equal(bob.get_state(room_id, "m.room.topic"), {"topic": "changed meanwhile"}, "the topic")
    whole_in_the_end(case, room_id, alice, bob)


@scenario("crowd_leave_rejoin")
def crowd_leave_rejoin(case):
    """Leaving at once does not wait for the members, and the room can be entered again."""
    alice, bob = case.pair()
    room_id, people = create_crowded(case, alice)
    # A Synapse that leaves meanwhile asks for the state no more, and a sync with all members waits for that.
    bob.mirror.lazy = bob.server.kind == "synapse"
    for _ in range(2):
        alice.invite(room_id, bob)
        bob.until_self(room_id, "invite")
        bob.join(room_id)
        alice.until_member(room_id, bob, "join")
        bob.leave(room_id)
        alice.until_member(room_id, bob, "leave")
        bob.until_self(room_id, "leave")
    alice.invite(room_id, bob)
    bob.until_self(room_id, "invite")
    bob.join(room_id)
    used_at_once(case, room_id, alice, bob, people)
    # Synapse does not get all of the history that it has no state for.
    whole_in_the_end(case, room_id, alice, bob, timelines=bob.server.kind == "conduit")


@scenario("crowd_devices")
def crowd_devices(case):
    """Devices of members of whom the second server has yet to hear reach it, and its users' devices reach them."""
    alice, bob = case.pair()
    room_id, people = create_crowded(case, alice)
    alice.invite(room_id, bob)
    bob.until_self(room_id, "invite")
    bob.join(room_id)
    numbers = itertools.count(1)
    for sender, receiver in ((people[5], bob), (bob, people[5])):
        body = {"messages": {receiver.user_id: {receiver.device_id: {"number": next(numbers)}}}}
        with lock:
            sender.put(f"/v3/sendToDevice/org.example.note/crowd-{receiver.device_id}", body)
    bob.until("a message of the crowd", lambda: any(e["sender"] == people[5].user_id for e in bob.mirror.to_device))
    with lock:
        people[5].until("a message of Bob", lambda: any(e["sender"] == bob.user_id for e in people[5].mirror.to_device))
    whole_in_the_end(case, room_id, alice, bob)


@scenario("crowd_entered_by_a_third", third=True)
def crowd_entered_by_a_third(case):
    """Whoever came in last brings in the next server."""
    alice, bob = case.pair()
    carol = case.user(case.three, "carol")
    room_id, people = create_crowded(case, alice, power_level_content_override={"invite": 0})
    case.bring(room_id, alice, bob)
    case.same(room_id, alice, bob, seconds=60)
    bob.invite(room_id, carol)
    carol.until_self(room_id, "invite")
    carol.join(room_id)
    if alice.server.kind == "synapse":
        # It drops for good what comes before the join, which another server tells it.
        alice.until_member(room_id, carol, "join")
    used_at_once(case, room_id, alice, carol, people)
    case.heard(room_id, "and I", carol, bob)
    whole_in_the_end(case, room_id, alice, bob, carol)
