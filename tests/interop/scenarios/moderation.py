"""Power, kicks, bans, server ACLs, upgrades."""

import time

from harness import check, equal, refused, scenario


@scenario("power_levels")
def power_levels(case):
    alice, bob, room_id = case.shared_room()
    refused(403, bob.set_state, room_id, "m.room.name", {"name": "no power"})
    power = alice.get_state(room_id, "m.room.power_levels")
    power["users"] = {**power.get("users", {}), bob.user_id: 50}
    alice.set_state(room_id, "m.room.power_levels", power)
    bob.until_state(room_id, "m.room.power_levels", lambda content: content["users"].get(bob.user_id) == 50)
    bob.set_state(room_id, "m.room.name", {"name": "Bob was here"})
    alice.until_state(room_id, "m.room.name", lambda content: content == {"name": "Bob was here"})
    power["users"][bob.user_id] = 100
    refused(403, bob.set_state, room_id, "m.room.power_levels", power)
    power["users"][bob.user_id] = 0
    alice.set_state(room_id, "m.room.power_levels", power)
    bob.until_state(room_id, "m.room.power_levels", lambda content: content["users"].get(bob.user_id) == 0)
    refused(403, bob.set_state, room_id, "m.room.name", {"name": "no power any more"})
    case.same(room_id, alice, bob)


@scenario("kick")
def kick(case):
    alice, bob, room_id = case.shared_room()
    refused(403, bob.kick, room_id, alice)
    alice.kick(room_id, bob, "too loud")
    bob.until_self(room_id, "leave")
    event = bob.mirror.room(room_id).state[("m.room.member", bob.user_id)]
    equal((event["sender"], event["content"].get("reason")), (alice.user_id, "too loud"), "who kicked, and why")
    refused(403, bob.say, room_id, "still here")
    refused(403, bob.join, room_id, via=case.one)
    case.bring(room_id, alice, bob)
    case.same(room_id, alice, bob)


@scenario("ban_unban")
def ban_unban(case):
    alice, bob, room_id = case.shared_room(preset="public_chat")
    alice.ban(room_id, bob, "enough")
    bob.until_self(room_id, "leave")
    equal(bob.mirror.room(room_id).state[("m.room.member", bob.user_id)]["content"]["membership"], "ban", "membership")
    refused(403, bob.say, room_id, "still here")
    refused(403, bob.join, room_id, via=case.one)
    alice.unban(room_id, bob)
    bob.join(room_id, via=case.one)
    alice.until_member(room_id, bob, "join")
    case.heard(room_id, "better now", bob, alice)
    case.same(room_id, alice, bob)


@scenario("ban_by_remote_moderator")
def ban_by_remote_moderator(case):
    """A moderator of the second server bans a user of the first from the first's room."""
    alice, bob, room_id = case.shared_room(preset="public_chat")
    carol = case.user(case.one, "carol")
    carol.join(room_id)
    bob.until_member(room_id, carol, "join")
    power = alice.get_state(room_id, "m.room.power_levels")
    power["users"] = {**power.get("users", {}), bob.user_id: 50}
    alice.set_state(room_id, "m.room.power_levels", power)
    bob.until_state(room_id, "m.room.power_levels", lambda content: content["users"].get(bob.user_id) == 50)
    bob.ban(room_id, carol)
    alice.until_member(room_id, carol, "ban")
    carol.until_self(room_id, "leave")
    refused(403, carol.join, room_id)
    refused(403, bob.ban, room_id, alice)
    case.same(room_id, alice, bob)


@scenario("ban_before_join")
def ban_before_join(case):
    alice, bob = case.pair()
    room_id = case.create(alice, preset="public_chat")
    alice.ban(room_id, bob)
    refused(403, bob.join, room_id, via=case.one)


@scenario("server_acl")
def server_acl(case):
    alice, bob, room_id = case.shared_room(preset="public_chat")
    dave = case.user(case.two, "dave")
    acl = {"allow": ["*"], "deny": [case.two.host], "allow_ip_literals": True}
    alice.set_state(room_id, "m.room.server_acl", acl)
    bob.until_state(room_id, "m.room.server_acl", lambda content: content["deny"] == [case.two.host])
    shut_out = bob.say(room_id, "does this arrive?")
    bob.typing(room_id)
    time.sleep(3)
    alice.mirror.sync()
    room = alice.mirror.room(room_id)
    check(shut_out not in room.events, "a message of a denied server came in")
    check(bob.user_id not in room.typing, "typing of a denied server came in")
    outsider = case.create(alice, preset="public_chat", initial_state=[
        {"type": "m.room.server_acl", "state_key": "", "content": acl}])  # fmt: skip
    refused(403, dave.join, outsider, via=case.one)
    alice.set_state(room_id, "m.room.server_acl", {"allow": ["*"], "allow_ip_literals": True})
    bob.until_state(room_id, "m.room.server_acl", lambda content: not content.get("deny"))
    case.heard(room_id, "let in again", bob, alice)
    # What was said meanwhile precedes what is said now, and comes with it.
    case.same(room_id, alice, bob)


@scenario("room_upgrade")
def room_upgrade(case):
    alice, bob, old_id = case.shared_room(name="Old and new")
    power = alice.get_state(old_id, "m.room.power_levels")
    power["users"] = {**power.get("users", {}), bob.user_id: 50}
    alice.set_state(old_id, "m.room.power_levels", power)
    bob.until_state(old_id, "m.room.power_levels", lambda content: content["users"].get(bob.user_id) == 50)
    target = "11" if case.version == "12" else "12"
    new_id = alice.post(alice.room(old_id, "upgrade"), {"new_version": target})["replacement_room"]
    tomb = bob.until_state(old_id, "m.room.tombstone", lambda content: "replacement_room" in content)
    equal(tomb["content"]["replacement_room"], new_id, "the replacement room")
    refused(403, case.user(case.two, "dave").join, new_id, via=case.one)
    case.bring(new_id, alice, bob)
    create = bob.get_state(new_id, "m.room.create")
    equal(create["room_version"], target, "the new version")
    equal(create["predecessor"]["room_id"], old_id, "the predecessor")
    equal(bob.get_state(new_id, "m.room.name"), {"name": "Old and new"}, "the name")
    equal(bob.get_state(new_id, "m.room.power_levels")["users"].get(bob.user_id), 50, "Bob's power in the new room")
    case.heard(new_id, "moved", bob, alice)
    case.same(old_id, alice, bob)
    case.same(new_id, alice, bob)
