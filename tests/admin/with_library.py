"""The families of matrix-synapse-admin, a library that follows the form of the admin API of 2022.

Left out is what that form has lost since: groups, and the version, which the library wants with that of Python.
"""

import time

from bed import PASSWORD, SERVER, Checks, User as Account, call, quote, wait_until
from synapse_admin import Management, Media, Room, User
from synapse_admin.base import SynapseException

checks = Checks()
admin, alice, bob = Account("admin"), Account("alice"), Account("bob")
host, port = SERVER.split(":")
arguments = (host, int(port), admin.token, "http://")
users, rooms, media, management = User(*arguments), Room(*arguments), Media(*arguments), Management(*arguments)


def yields(what: str, work, expected=True):
    """The library gives this value: a function is asked whether it is the right one."""
    seen = checks.attempt(what, work)
    if callable(expected):
        checks.that(what, checks.attempt(what, lambda: expected(seen)), seen)
    else:
        checks.equal(what, seen, expected)
    return seen


def is_alive(token: str) -> bool:
    return call("GET", "/_matrix/client/v3/account/whoami", token=token)[0] == 200


def check_users():
    carol = f"@carol:{SERVER}"
    yields("create", lambda: users.create_modify(carol, password=PASSWORD, displayname="Carol"))
    yields("query", lambda: users.query(carol)["displayname"], "Carol")
    yields("lists", lambda: users.lists(name="carol"), lambda seen: seen.total == 1 and seen[0]["name"] == carol)
    yields("lists by page", lambda: users.lists(limit=2), lambda seen: len(seen) == 2 and seen.next == "2")
    yields("is_admin", lambda: users.is_admin(carol), False)
    yields("set_admin", lambda: users.set_admin(carol, True), (True, True))
    yields("is_admin after", lambda: users.is_admin(carol), True)
    yields("set_admin back", lambda: users.set_admin(carol, False), (True, False))
    token = yields("login", lambda: users.login(carol), lambda seen: is_alive(seen))
    alice.client("GET", "/account/whoami")
    yields("active_sessions", lambda: users.active_sessions(alice.id), lambda seen: len(seen) > 0)
    yields("reset_password", lambda: users.reset_password(carol, "another long word"))
    checks.that("a token from login is good", token)
    yields("set_ratelimit", lambda: users.set_ratelimit(carol, 5, 50), (5, 50))
    yields("get_ratelimit", lambda: users.get_ratelimit(carol), (5, 50))
    yields("disable_ratelimit", lambda: users.disable_ratelimit(carol), (0, 0))
    yields("delete_ratelimit", lambda: users.delete_ratelimit(carol))
    yields("pushers", lambda: users.pushers(carol), [])
    yields("shadow_ban", lambda: users.shadow_ban(carol))
    yields("query of a shadow-banned", lambda: users.query(carol)["shadow_banned"])
    yields("unshadow_ban", lambda: users.unshadow_ban(carol))
    yields("data", lambda: users.data(alice.id), lambda seen: "global" in seen)
    yields("username_available", lambda: users.username_available("nobody"))
    expiry = int(time.time() * 1000) + 1_000_000
    yields("validity", lambda: users.validity(carol, expiry), expiry)
    secret = "a secret of the test"
    made = yields("register", lambda: users.register("dave", secret, displayname="Dave", password=PASSWORD), lambda seen: "user_id" in seen)
    checks.equal("the registered", made and made["user_id"], f"@dave:{SERVER}")
    yields("deactivate", lambda: users.deactivate(carol))
    yields("reactivate", lambda: users.reactivate(carol, PASSWORD))
    yields("query of a reactivated", lambda: users.query(carol)["deactivated"], False)
    try:
        users.query(f"@nobody:{SERVER}")
        checks.that("an unknown user is an error", False)
    except SynapseException as error:
        checks.equal("an unknown user", error.code, "M_NOT_FOUND")


def check_devices():
    mine = yields("devices", lambda: users.devices.lists(alice.id), lambda seen: len(seen) == 1)
    device = mine[0]["device_id"]
    yields("rename", lambda: users.devices.update(alice.id, device, "Phone"))
    yields("show", lambda: users.devices.show(alice.id, device)["display_name"], "Phone")
    dave = f"@dave:{SERVER}"
    gone = [one["device_id"] for one in users.devices.lists(dave)]
    yields("delete", lambda: users.devices.delete(dave, gone[0]))
    yields("delete several", lambda: users.devices.delete(dave, gone))
    yields("none is left", lambda: list(users.devices.lists(dave)), [])


def check_tokens():
    tokens = users.registration_tokens if hasattr(users, "registration_tokens") else users.tokens
    yields("token", lambda: tokens.create("welcome", 3)["uses_allowed"], 3)
    yields("token of a length", lambda: len(tokens.create(length=20)["token"]), 20)
    yields("token query", lambda: tokens.query("welcome")["pending"], 0)
    yields("token update", lambda: tokens.update("welcome", uses_allowed=7)["uses_allowed"], 7)
    yields("token lists", lambda: len(tokens.lists()), 2)
    yields("token delete", lambda: tokens.delete("welcome"))
    yields("token lists after", lambda: len(tokens.lists(True)), 1)


def check_rooms():
    made = yields("create", lambda: rooms.create(name="Made", members=[alice.id], encrypted=False), lambda seen: seen)
    room = made.roomid if hasattr(made, "roomid") else made[0]
    yields("details", lambda: rooms.details(room)["joined_members"], 2)
    yields("lists", lambda: rooms.lists(search="Made"), lambda seen: [one["room_id"] for one in seen] == [room])
    yields("list_members", lambda: set(rooms.list_members(room)), {admin.id, alice.id})
    yields("get_state", lambda: rooms.get_state(room), lambda seen: "m.room.create" in {one["type"] for one in seen})
    yields("join_room", lambda: users.join_room(bob.id, room))
    yields("joined_room", lambda: list(users.joined_room(bob.id)), [room])
    yields("set_admin", lambda: rooms.set_admin(room, alice.id))
    checks.equal("her power", alice.client("GET", f"/rooms/{quote(room)}/state/m.room.power_levels")["users"][alice.id], 100)
    event = alice.send(room, "hello")
    yields("event_context", lambda: rooms.event_context(room, event)["event"]["event_id"], event)
    yields("extremities", lambda: rooms.forward_extremities_check(room), lambda seen: seen.total == 1)
    yields("delete extremities", lambda: rooms.forward_extremities_delete(room), 0)
    yields("block", lambda: rooms.block(room))
    yields("block_status", lambda: rooms.block_status(room))
    yields("unblock", lambda: rooms.block(room, False), False)
    yields("delete", lambda: rooms.delete(room)["kicked_users"], lambda seen: set(seen) == {admin.id, alice.id, bob.id})
    other = alice.create_room(name="Other")
    start = yields("delete_async", lambda: rooms.delete_async(other), lambda seen: isinstance(seen, str))
    status = lambda: rooms.delete_status_id(start)  # noqa: E731
    wait_until(lambda: status()["status"] == "complete", "the end of the deletion")
    yields("delete_status_room", lambda: rooms.delete_status_room(other), lambda seen: seen)


def check_media():
    room = alice.create_room(name="Pictures")
    files = [alice.upload(f"file{number}.txt") for number in range(3)]
    alice.send(room, "file", msgtype="m.file", url=files[0])
    yields("list_media", lambda: media.list_media(room), lambda seen: files[0] in str(seen))
    yields("list of a user", lambda: users.list_media(alice.id).total, 3)
    yields("statistics", lambda: media.statistics(), lambda seen: seen.total == 1 and seen[0]["media_count"] == 3)
    name = files[1].rsplit("/", 1)[1]
    yields("quarantine_id", lambda: media.quarantine_id(name, SERVER))
    yields("quarantine_remove", lambda: media.quarantine_remove(name, SERVER))
    yields("protect_media", lambda: media.protect_media(files[1]))
    yields("quarantine_room", lambda: media.quarantine_room(room), 1)
    yields("quarantine_user", lambda: media.quarantine_user(alice.id), 1)
    yields("unprotect_media", lambda: media.unprotect_media(files[1]))
    yields("delete_local_media", lambda: media.delete_local_media(files[2].rsplit("/", 1)[1], SERVER),
           lambda seen: seen)
    later = int(time.time() * 1000) + 60_000
    yields("delete_by_condition", lambda: media.delete_local_media_by_condition(later, server_name=SERVER).total, 2)
    alice.upload("more.txt")
    yields("delete_media_by_user", lambda: media.delete_media_by_user(alice.id).total, 1)
    yields("purge_remote_media", lambda: media.purge_remote_media(later - 120_000), 0)


def check_management():
    yields("announce", lambda: management.announce(alice.id, "At noon"), lambda seen: seen.startswith("$"))
    room = alice.create_room(name="Long")
    bob.join(room)
    events = [alice.send(room, f"message {number}") for number in range(6)]
    bob.client("POST", f"/rooms/{quote(room)}/report/{quote(events[5])}", {"reason": "spam"})
    reports = yields("event_reports", management.event_reports, lambda seen: seen.total == 1)
    one = lambda: management.specific_event_report(reports[0]["id"])["event_id"]  # noqa: E731
    yields("specific_event_report", one, events[5])
    start = yields("purge_history", lambda: management.purge_history(room, events[3], True), lambda seen: seen)
    status = lambda: management.purge_history_status(start)  # noqa: E731
    wait_until(lambda: status() == "complete", "the end of the purge")
    yields("background_updates_get", management.background_updates_get, lambda seen: seen[0] is True)
    yields("background_updates_set", lambda: management.background_updates_set(True))
    yields("federation_list", management.federation_list, lambda seen: seen.total == len(seen))


for part in [check_users, check_devices, check_tokens, check_rooms, check_media, check_management]:
    checks.attempt(part.__name__, part)
checks.end()
