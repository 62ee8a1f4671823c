"""History from before one joined, and who may see it."""

from client import poll
from harness import check, equal, scenario


def state_of(kind, content):
    return {"type": kind, "state_key": "", "content": content}


@scenario("late_join_backfill")
def late_join_backfill(case):
    alice, bob = case.pair()
    room_id = case.create(alice, preset="public_chat")
    said = [alice.say(room_id, f"early {number}") for number in range(130)]
    alice.set_state(room_id, "m.room.topic", {"topic": "half-way"})
    said += [alice.say(room_id, f"later {number}") for number in range(30)]
    bob.join(room_id, via=case.one)
    alice.until_member(room_id, bob, "join")

    def complete():
        got = {event["event_id"] for event in bob.history(room_id)}
        return all(event_id in got for event_id in said)

    poll("all 160 messages come by paging back", complete)
    order = [event["event_id"] for event in bob.history(room_id) if event["type"] == "m.room.message"]
    equal(order, said, "the messages in order")
    case.heard(room_id, "now I know", bob, alice)
    case.same(room_id, alice, bob)


@scenario("event_near_a_time")
def event_near_a_time(case):
    alice, bob = case.pair()
    room_id = case.create(alice, preset="public_chat")
    said = [alice.say(room_id, f"number {number}") for number in range(30)]
    bob.join(room_id, via=case.one)
    alice.until_member(room_id, bob, "join")
    stamp = alice.event(room_id, said[10])["origin_server_ts"]
    path = bob.room(room_id, "timestamp_to_event").replace("/v3/", "/v1/")
    found = bob.get(path, ts=stamp, dir="b")
    equal(found["origin_server_ts"], stamp, "the time of the event found")
    context = bob.get(bob.room(room_id, "context", found["event_id"]), limit=6)
    check(context["event"]["event_id"] == found["event_id"], "its context can be read")


@scenario("history_only_for_members")
def history_only_for_members(case):
    """What was said before the join stays hidden when the room says so, also from those who page back."""
    alice, bob = case.pair()
    hidden = state_of("m.room.history_visibility", {"history_visibility": "joined"})
    room_id = case.create(alice, preset="public_chat", initial_state=[hidden])
    secrets = {alice.say(room_id, f"secret {number}") for number in range(20)}
    bob.join(room_id, via=case.one)
    alice.until_member(room_id, bob, "join")
    bob.until_self(room_id, "join")
    case.heard(room_id, "this is for all", alice, bob)
    seen = {event["event_id"]: event for event in bob.history(room_id)}
    check(not secrets & seen.keys(), "paging back shows what was said before the join")
    for event_id in list(secrets)[:3]:
        status, _, _ = bob.raw("GET", f"/_matrix/client{bob.room(room_id, 'event', event_id)}")
        equal(status, 404, "the status for an event from before the join")
    case.same(room_id, alice, bob, timelines=False)


@scenario("history_from_invite")
def history_from_invite(case):
    alice, bob = case.pair()
    rule = state_of("m.room.history_visibility", {"history_visibility": "invited"})
    room_id = case.create(alice, initial_state=[rule])
    early = alice.say(room_id, "before the invite")
    alice.invite(room_id, bob)
    bob.until_self(room_id, "invite")
    between = alice.say(room_id, "between invite and join")
    bob.join(room_id)
    alice.until_member(room_id, bob, "join")
    poll(
        "what was said after the invite comes by paging back",
        lambda: between in {event["event_id"] for event in bob.history(room_id)},
    )
    check(early not in {event["event_id"] for event in bob.history(room_id)}, "paging back shows more than it may")


@scenario("hidden_then_shown")
def hidden_then_shown(case):
    """A room that opens its history: earlier events stay hidden, later ones are seen by those who come after."""
    alice, bob = case.pair()
    hidden = state_of("m.room.history_visibility", {"history_visibility": "joined"})
    room_id = case.create(alice, preset="public_chat", initial_state=[hidden])
    early = alice.say(room_id, "hidden")
    alice.set_state(room_id, "m.room.history_visibility", {"history_visibility": "shared"})
    later = [alice.say(room_id, f"shown {number}") for number in range(20)]
    bob.join(room_id, via=case.one)
    alice.until_member(room_id, bob, "join")
    poll(
        "what was said after the change comes by paging back",
        lambda: set(later) <= {event["event_id"] for event in bob.history(room_id)},
    )
    check(early not in {event["event_id"] for event in bob.history(room_id)}, "what was hidden is shown")
