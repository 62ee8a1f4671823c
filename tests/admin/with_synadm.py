"""Every group of commands of synadm, the command line of administrators, with a look at what each did."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from bed import PASSWORD, SERVER, URL, Checks, User, call, quote, wait_until

checks = Checks()
admin, alice, bob = User("admin"), User("alice"), User("bob")
config = Path(os.environ["WORK"]) / "synadm.yaml"
config.write_text(
    f"user: '{admin.id}'\ntoken: '{admin.token}'\nbase_url: {URL}\nadmin_path: /_synapse/admin\n"
    f"matrix_path: /_matrix\nprotocol: http\ntimeout: 60\nserver_discovery: well-known\nhomeserver: '{SERVER}'\n"
    "format: json\nssl_verify: true\n"
)


def run(*words: str):
    """The exit code and the output of a command."""
    program = str(Path(sys.executable).parent / "synadm")
    command = [program, "--batch", "-o", "json", "-c", str(config), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout, done.stderr


def synadm(*words: str):
    """The last JSON object that a command printed, else its text. A command that fails is a failure."""
    code, output, errors = run(*words)
    checks.that(f"synadm {' '.join(words)}", code == 0 and "Traceback" not in errors, errors[-400:] or output)
    lines = output.splitlines()
    for first in (number for number in reversed(range(len(lines))) if lines[number].startswith("{")):
        try:
            return json.loads("\n".join(lines[first:]))
        except ValueError:
            continue
    return output



def sees(what: str, work, seen):
    """Checks an answer without falling over one of another form."""
    checks.that(what, checks.attempt(what, lambda: bool(work(seen))), seen)


def logs_in(name: str, password: str) -> bool:
    body = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": name}, "password": password}
    return call("POST", "/_matrix/client/v3/login", body)[0] == 200


def is_alive(token: str) -> bool:
    return call("GET", "/_matrix/client/v3/account/whoami", token=token)[0] == 200


def check_version():
    sees("the version is told", lambda seen: seen["server_version"], synadm("version"))


def check_users():
    synadm("user", "modify", "carol", "-P", PASSWORD, "-n", "Carol", "-t", "email", "carol@example.org")
    carol = f"@carol:{SERVER}"
    sees("a made user is found", lambda seen: seen["displayname"] == "Carol", synadm("user", "details", "carol"))
    checks.that("a made user logs in", logs_in("carol", PASSWORD))
    sees("by address", lambda seen: seen["user_id"] == carol, synadm("user", "3pid", "-m", "email", "carol@example.org"))
    sees("all users are listed", lambda seen: seen["total"] >= 4, synadm("user", "list"))
    page = synadm("user", "list", "-l", "2")
    sees("a page of users", lambda seen: len(seen["users"]) == 2 and seen["next_token"] == "2", page)
    found = synadm("user", "search", "caro")
    sees("a search finds one", lambda seen: [user["name"] for user in seen["users"]] == [carol], found)
    sees("administrators", lambda seen: {user["name"] for user in seen["users"]} == {admin.id}, synadm("user", "list", "-a"))
    synadm("user", "modify", "carol", "--admin")
    sees("an administrator more", lambda seen: seen["admin"], synadm("user", "details", "carol"))
    synadm("user", "modify", "carol", "--no-admin", "--lock")
    sees("locked", lambda seen: seen["locked"] and not seen["admin"], synadm("user", "details", "carol"))
    synadm("user", "modify", "carol", "--unlock")
    synadm("user", "password", "carol", "-p", "another long word")
    checks.that("the new password is good", logs_in("carol", "another long word"))
    checks.that("the old one is not", not logs_in("carol", PASSWORD))
    synadm("user", "suspend", "carol")
    sees("suspended", lambda seen: seen["suspended"], synadm("user", "details", "carol"))
    synadm("user", "suspend", "--unsuspend", "carol")
    synadm("user", "shadow-ban", "carol")
    sees("shadow-banned", lambda seen: seen["shadow_banned"], synadm("user", "details", "carol"))
    synadm("user", "shadow-ban", "-u", "carol")
    sees("no more", lambda seen: not seen["shadow_banned"], synadm("user", "details", "carol"))
    borrowed = synadm("user", "login", "carol", "-d", "1")
    sees("a token acts as the user", lambda seen: is_alive(seen["access_token"]), borrowed)
    whois = synadm("user", "whois", "alice")
    sees("sessions are told", lambda seen: seen["user_id"] == alice.id and seen["devices"], whois)
    synadm("user", "prune-devices", "carol", "-i", "NOT_HERE")
    synadm("user", "deactivate", "carol", "-e")
    sees("deactivated and erased", lambda seen: seen["deactivated"] and seen["erased"],
         synadm("user", "details", "carol"))
    checks.that("who is deactivated cannot log in", not logs_in("carol", "another long word"))
    synadm("user", "modify", "dave", "-P", PASSWORD)
    login = call("POST", "/_matrix/client/v3/login", {
        "type": "m.login.password", "identifier": {"type": "m.id.user", "user": "dave"}, "password": PASSWORD})[1]
    # It must have been seen, and be of a whole user id: else synadm falls over it.
    checks.that("a device is signed in", is_alive(login["access_token"]))
    synadm("user", "prune-devices", f"@dave:{SERVER}", "-i", login["device_id"], "-s", "0")
    checks.that("a pruned device is signed out", not is_alive(login["access_token"]))
    synadm("user", "auth-provider", "-p", "oidc", "nobody")


def check_rooms():
    room = alice.create_room(name="Of Alice", room_alias_name="alices")
    bob.join(room)
    sees("rooms are listed", lambda seen: room in [one["room_id"] for one in seen["rooms"]], synadm("room", "list"))
    found = synadm("room", "search", "of alice")
    sees("a search finds one", lambda seen: [one["room_id"] for one in seen["rooms"]] == [room], found)
    details = synadm("room", "details", room)
    sees("details", lambda seen: seen["name"] == "Of Alice" and seen["joined_members"] == 2, details)
    sees("members", lambda seen: set(seen["members"]) == {alice.id, bob.id}, synadm("room", "members", room))
    state = synadm("room", "state", room)
    sees("state", lambda seen: "m.room.create" in {event["type"] for event in seen["state"]}, state)
    levels = synadm("room", "power-levels", "-i", room)
    sees("power levels", lambda seen: json.dumps(seen).count(alice.id), levels)
    resolved = synadm("room", "resolve", f"#alices:{SERVER}")
    sees("an alias is resolved", lambda seen: room in json.dumps(seen), resolved)
    synadm("room", "make-admin", room, "-u", bob.id)
    levels = alice.client("GET", f"/rooms/{quote(room)}/state/m.room.power_levels")
    checks.equal("bob has power", levels["users"].get(bob.id), 100)
    synadm("room", "join", room, admin.id)
    membership = synadm("user", "membership", "--ids", admin.id)
    sees("a joined room", lambda seen: room in json.dumps(seen), membership)
    synadm("room", "block", "--block", room)
    blocked = synadm("room", "block-status", room)
    sees("blocked", lambda seen: seen["block"] and seen["user_id"] == admin.id, blocked)
    synadm("room", "block", "--unblock", room)
    sees("not blocked", lambda seen: not seen["block"], synadm("room", "block-status", room))
    start = synadm("room", "delete", room, "-u", admin.id, "-n", "Closed", "-m", "It is over", "-b")
    checks.that("a deletion has an id", isinstance(start, dict) and "delete_id" in start, start)

    def is_gone():
        seen = synadm("room", "delete-status", "-d", start["delete_id"])
        return seen.get("status") == "complete" and seen

    result = wait_until(is_gone, "the end of the deletion")
    removed = result["shutdown_room"]["kicked_users"]
    checks.equal("who was removed", set(removed), {admin.id, alice.id, bob.id})
    checks.equal("the room is gone", call("GET", f"/_synapse/admin/v1/rooms/{quote(room)}", token=admin.token)[0], 404)
    checks.that("the new room is there", result["shutdown_room"]["new_room_id"], result)
    again = alice.create_room(name="Once more")
    synadm("room", "delete", again, "--v1")
    checks.equal("gone at once", call("GET", f"/_synapse/admin/v1/rooms/{quote(again)}", token=admin.token)[0], 404)
    empty = alice.create_room(name="Soon empty")
    alice.client("POST", f"/rooms/{quote(empty)}/leave", {})
    synadm("room", "purge-empty")
    wait_until(lambda: call("GET", f"/_synapse/admin/v1/rooms/{quote(empty)}", token=admin.token)[0] == 404, "its end")


def check_media():
    room = alice.create_room(name="Pictures")
    files = [alice.upload(f"file{number}.txt") for number in range(4)]
    for uri in files[:2]:
        alice.send(room, "file", msgtype="m.file", url=uri)
    ids = [uri.rsplit("/", 1)[1] for uri in files]

    def is_served(number: int) -> bool:
        path = f"/_matrix/client/v1/media/download/{SERVER}/{ids[number]}"
        return call("GET", path, token=alice.token)[0] == 200

    listed = synadm("media", "list", "-u", alice.id)
    sees("media of a user", lambda seen: {one["media_id"] for one in seen["media"]} == set(ids), listed)
    sees("again", lambda seen: seen["total"] == 4, synadm("user", "media", alice.id))
    sees("media of a room", lambda seen: set(seen["local"]) == set(files[:2]), synadm("media", "list", "-r", room))
    synadm("media", "quarantine", "-s", SERVER, "-i", ids[2])
    checks.that("what is quarantined is not served", not is_served(2))
    synadm("media", "unquarantine", "-s", SERVER, "-i", ids[2])
    checks.that("and then it is", is_served(2))
    synadm("media", "protect", ids[0])
    quarantined = synadm("media", "quarantine", "-r", room)
    sees("all but the protected", lambda seen: seen["num_quarantined"] == 1, quarantined)
    checks.that("which is served", is_served(0) and not is_served(1))
    sees("of a user", lambda seen: seen["num_quarantined"] >= 2, synadm("media", "quarantine", "-u", alice.id))
    gone = synadm("media", "delete", "-i", ids[3])
    sees("deleted", lambda seen: seen["deleted_media"] == [ids[3]], gone)
    sees("nothing as old", lambda seen: seen["total"] == 0, synadm("media", "delete", "-d", "30"))
    sees("nothing remote", lambda seen: seen["deleted"] == 0, synadm("media", "purge", "-d", "30"))


def check_history():
    room = alice.create_room(name="Long")
    events = [alice.send(room, f"message {number}") for number in range(20)]
    start = synadm("history", "purge", room, "-i", events[10], "--delete-local")
    checks.that("a purge has an id", isinstance(start, dict) and "purge_id" in start, start)

    def is_done():
        return synadm("history", "purge-status", start["purge_id"]).get("status") == "complete"

    wait_until(is_done, "the end of the purge")
    path = f"/_matrix/client/v3/rooms/{quote(room)}/event/"
    checks.equal("an early message is gone", call("GET", path + quote(events[5]), token=alice.token)[0], 404)
    checks.equal("a late one is there", call("GET", path + quote(events[15]), token=alice.token)[0], 200)


def check_redaction():
    room = alice.create_room(name="Rude")
    bob.join(room)
    event = bob.send(room, "rude")
    start = synadm("user", "redact", bob.id, "-r", room, "--reason", "rude")
    checks.that("a redaction has an id", isinstance(start, dict) and "redact_id" in start, start)

    def is_done():
        return synadm("user", "redact-status", start["redact_id"]).get("status") == "complete"

    wait_until(is_done, "the end of the redaction")
    seen = alice.client("GET", f"/rooms/{quote(room)}/event/{quote(event)}")
    checks.equal("the text is gone", seen["content"], {})


def check_tokens():
    made = synadm("regtok", "new", "-n", "welcome", "-u", "3")
    sees("a token", lambda seen: seen["token"] == "welcome" and seen["uses_allowed"] == 3, made)
    sees("of a length", lambda seen: len(seen["token"]) == 20, synadm("regtok", "new", "-l", "20"))
    later = str(int(time.time() * 1000) + 86_400_000)
    sees("changed", lambda seen: seen["uses_allowed"] == 5, synadm("regtok", "update", "welcome", "-u", "5", "-t", later))
    details = synadm("regtok", "details", "welcome")
    sees("details", lambda seen: seen["uses_allowed"] == 5 and seen["pending"] == 0, details)
    sees("both are listed", lambda seen: len(seen["registration_tokens"]) == 2, synadm("regtok", "list"))
    sees("none is invalid", lambda seen: seen["registration_tokens"] == [], synadm("regtok", "list", "-V"))
    synadm("regtok", "delete", "welcome")
    sees("one is left", lambda seen: len(seen["registration_tokens"]) == 1, synadm("regtok", "list"))


def check_notices():
    synadm("notice", "send", alice.id, "Maintenance at noon", "<b>Maintenance</b> at noon")

    def notice():
        rooms = alice.client("GET", "/sync?timeout=0")["rooms"]
        everywhere = {**rooms.get("invite", {}), **rooms.get("join", {})}
        for room in rooms.get("invite", {}):
            alice.join(room)
        return "Maintenance at noon" in json.dumps(everywhere)

    wait_until(notice, "the notice")
    checks.that("a notice came", True)


def check_raw():
    sees("a request of one's own", lambda seen: seen["server_version"], synadm("raw", "v1/server_version"))
    config.write_text(config.read_text().replace(admin.token, bob.token))
    code, output, errors = run("user", "list")
    refused = "M_FORBIDDEN" in output + errors or code != 0
    checks.that("a member is refused", refused and "users" not in output, output + errors)


for part in [
    check_version, check_users, check_rooms, check_media, check_history, check_redaction, check_tokens, check_notices,
    check_raw,
]:
    checks.attempt(part.__name__, part)
checks.end()
