"""The servers do not reach each other for a while, and both go on."""

import time

from harness import scenario
from scenarios.outage import wake

PARTED_SECONDS = 3


def part(case):
    for server in (case.one, case.two):
        server.link.cut()


def meet(case):
    for server in (case.one, case.two):
        server.link.mend()


def equal_power(case):
    """A room in which both have the same power over all but each other."""
    alice, bob, room_id = case.shared_room(preset="public_chat")
    power = alice.get_state(room_id, "m.room.power_levels")
    power["users"] = {**power.get("users", {}), bob.user_id: 90}
    alice.set_state(room_id, "m.room.power_levels", power)
    bob.until_state(room_id, "m.room.power_levels", lambda content: content["users"].get(bob.user_id) == 90)
    return alice, bob, room_id


@scenario("partition_messages", alone=True)
def partition_messages(case):
    alice, bob, room_id = case.shared_room()
    part(case)
    for number in range(15):
        alice.say(room_id, f"alice alone {number}")
        bob.say(room_id, f"bob alone {number}")
    time.sleep(PARTED_SECONDS)
    meet(case)
    case.same(room_id, alice, bob, seconds=60, nudge=wake(room_id, alice, bob))
    case.heard(room_id, "one again", alice, bob)
    case.heard(room_id, "so it is", bob, alice)
    case.same(room_id, alice, bob)


@scenario("partition_state", alone=True)
def partition_state(case):
    """Both change the same state: afterwards both have the same."""
    alice, bob, room_id = equal_power(case)
    part(case)
    for number in range(3):
        for client in (alice, bob):
            client.set_state(room_id, "m.room.topic", {"topic": f"{client.user_id} {number}"})
            client.set_state(room_id, "m.room.name", {"name": f"{client.user_id} {number}"})
            client.set_state(room_id, "org.example.list", {"by": client.user_id}, key=f"item {number}")
            client.say(room_id, f"said alone {number}")
    time.sleep(PARTED_SECONDS)
    meet(case)
    case.same(room_id, alice, bob, seconds=60, nudge=wake(room_id, alice, bob))
    case.heard(room_id, "one again", alice, bob)
    case.heard(room_id, "so it is", bob, alice)
    case.same(room_id, alice, bob)


@scenario("partition_power", alone=True)
def partition_power(case):
    """One takes the other's power while the other uses it: state resolution decides alike at both servers."""
    alice, bob, room_id = equal_power(case)
    carol, dave = case.user(case.one, "carol"), case.user(case.two, "dave")
    carol.join(room_id)
    dave.join(room_id, via=case.one)
    for client in (alice, bob):
        client.until_member(room_id, carol, "join")
        client.until_member(room_id, dave, "join")
    part(case)
    power = alice.get_state(room_id, "m.room.power_levels")
    power["users"][bob.user_id] = 0
    alice.set_state(room_id, "m.room.power_levels", power)
    alice.kick(room_id, dave)
    bob.set_state(room_id, "m.room.topic", {"topic": "Bob's last words"})
    bob.ban(room_id, carol)
    rules = {"join_rule": "invite"}
    bob.set_state(room_id, "m.room.join_rules", rules)
    time.sleep(PARTED_SECONDS)
    meet(case)
    # What was done without power is soft-failed at one server and seen at the other: states agree, timelines need not.
    case.same(room_id, alice, bob, seconds=60, timelines=False, nudge=wake(room_id, alice, bob))
    case.heard(room_id, "who has power now?", alice, bob)
    case.heard(room_id, "you have", bob, alice)
    case.same(room_id, alice, bob, timelines=False)
