"""The operations that Ketesa (K) and synapse-admin (S) call, replayed: status, and the fields of the documentation.

A form is a type, a tuple of types, a list with the form of each item, or an object with the forms of its fields. `None`
is a type too. A name with a question mark may be missing.
"""

import time

from bed import PASSWORD, SERVER, Checks, User, call, quote, wait_until

checks = Checks()
BASE = "/_synapse/admin"
TEXT, MAYBE, TIME = str, (str, None), (int, None)
tools: dict[str, set[str]] = {"K": set(), "S": set()}


def fits(value, form, path="answer"):
    """Where the value is not of the form, or nothing."""
    if isinstance(form, dict):
        if not isinstance(value, dict):
            return f"{path} is no object: {value!r}"
        for name, inner in form.items():
            field = name.removesuffix("?")
            if field not in value:
                if name == field:
                    return f"{path}.{field} is missing in {sorted(value)}"
                continue
            if fault := fits(value[field], inner, f"{path}.{field}"):
                return fault
        return None
    if isinstance(form, list):
        if not isinstance(value, list):
            return f"{path} is no list: {value!r}"
        return next((fault for item in value if (fault := fits(item, form[0], path + "[]"))), None)
    kinds = form if isinstance(form, tuple) else (form,)
    for kind in kinds:
        if value is None or isinstance(value, bool):
            if kind is (None if value is None else bool) or kind is object:
                return None
        elif kind is not None and isinstance(value, kind):
            return None
    return f"{path} is {value!r}, not {form}"


def op(who: str, request: str, arguments=(), query="", body=None, form=None, status=200, holds=None):
    """Calls one operation, `METHOD /path/{argument}`, and looks at the answer."""
    method, path = request.split(" ")
    for argument in arguments:
        start, end = path.index("{"), path.index("}")
        path = path[:start] + quote(str(argument)) + path[end + 1:]
    seen, answer = call(method, BASE + path + (f"?{query}" if query else ""), body, admin.token)
    fault = None if seen == status else f"{seen} {answer}"
    fault = fault or fits(answer, form if form is not None else {})
    if not fault and holds and not checks.attempt(request, lambda: holds(answer)):
        fault = f"unexpected {answer}"
    checks.that(request, fault is None, fault)
    for tool in who:
        tools[tool].add(request)
    return answer if isinstance(answer, dict) else {}


admin, alice, bob = User("admin"), User("alice"), User("bob")
NOW = int(time.time() * 1000)
LISTED_USER = {
    "name": TEXT, "is_guest": bool, "admin": bool, "user_type": MAYBE, "deactivated": bool, "shadow_banned": bool,
    "displayname": MAYBE, "avatar_url": MAYBE, "creation_ts": int, "last_seen_ts": TIME, "locked": bool, "erased": bool,
}
FULL_USER = {
    "name": TEXT, "displayname": MAYBE, "threepids": [{"medium": TEXT, "address": TEXT, "added_at": int, "validated_at": int}],
    "avatar_url": MAYBE, "is_guest": bool, "admin": bool, "deactivated": bool, "erased": bool, "shadow_banned": bool,
    "creation_ts": int, "last_seen_ts": TIME, "appservice_id": MAYBE, "consent_server_notice_sent": (str, None),
    "consent_version": MAYBE, "consent_ts": TIME, "external_ids": [{"auth_provider": TEXT, "external_id": TEXT}],
    "user_type": MAYBE, "locked": bool, "suspended": bool,
}
DEVICE = {"device_id": TEXT, "display_name": MAYBE, "last_seen_ip": MAYBE, "last_seen_ts": TIME, "user_id": TEXT}
TOKEN = {"token": TEXT, "uses_allowed": TIME, "pending": int, "completed": int, "expiry_time": TIME}
LISTED_ROOM = {
    "room_id": TEXT, "name": MAYBE, "canonical_alias": MAYBE, "joined_members": int, "joined_local_members": int,
    "version": TEXT, "creator": TEXT, "encryption": MAYBE, "federatable": bool, "public": bool, "join_rules": MAYBE,
    "guest_access": MAYBE, "history_visibility": MAYBE, "state_events": int, "room_type": MAYBE,
}
FULL_ROOM = {**LISTED_ROOM, "avatar": MAYBE, "topic": MAYBE, "joined_local_devices": int, "forgotten": bool}
EVENT = {"type": TEXT, "event_id": TEXT, "sender": TEXT, "origin_server_ts": int, "content": dict}
MEDIA = {
    "created_ts": int, "last_access_ts": TIME, "media_id": TEXT, "media_length": int, "media_type": MAYBE,
    "quarantined_by": MAYBE, "safe_from_quarantine": bool, "upload_name": MAYBE,
}
DESTINATION = {
    "destination": TEXT, "retry_last_ts": int, "retry_interval": int, "failure_ts": TIME,
    "last_successful_stream_ordering": TIME,
}
REPORT = {"id": int, "received_ts": int, "user_id": TEXT, "reason": MAYBE}
EVENT_REPORT = {
    **REPORT, "room_id": TEXT, "name": MAYBE, "event_id": TEXT, "score": TIME, "sender": TEXT, "canonical_alias": MAYBE,
}


def replay_users():
    carol, dave = f"@carol:{SERVER}", f"@dave:{SERVER}"
    body = {
        "password": PASSWORD, "displayname": "Carol", "admin": False, "user_type": "bot",
        "threepids": [{"medium": "email", "address": "carol@example.org"}],
        "external_ids": [{"auth_provider": "oidc-of-us", "external_id": "c4r0l"}],
    }
    user = "/v2/users/{user_id}"
    op("KS", f"PUT {user}", [carol], body=body, form=FULL_USER, status=201,
       holds=lambda seen: seen["user_type"] == "bot")
    op("KS", f"PUT {user}", [carol], body={"locked": True}, form=FULL_USER, holds=lambda seen: seen["locked"])
    op("KS", f"PUT {user}", [carol], body={"locked": False}, form=FULL_USER, holds=lambda seen: not seen["locked"])
    op("KS", f"GET {user}", [carol], form=FULL_USER,
       holds=lambda seen: len(seen["threepids"]) == len(seen["external_ids"]) == 1)
    op("KS", f"GET {user}", [f"@nobody:{SERVER}"], form={"errcode": TEXT, "error": TEXT}, status=404)
    users = {"users": [LISTED_USER], "next_token?": TEXT, "total": int}
    query = "from=0&limit=2&guests=true&deactivated=true&order_by=name&dir=f"
    op("KS", "GET /v2/users", query=query, form=users,
       holds=lambda seen: seen["next_token"] == "2" and len(seen["users"]) == 2)
    op("KS", "GET /v2/users", query="name=carol&locked=true", form=users, holds=lambda seen: seen["total"] == 1)
    op("K", "GET /v3/users", query="deactivated=false&admins=true", form=users, holds=lambda seen: seen["total"] == 1)
    op("K", "GET /v1/threepid/{medium}/users/{address}", ["email", "carol@example.org"], form={"user_id": TEXT},
       holds=lambda seen: seen["user_id"] == carol)
    op("K", "GET /v1/auth_providers/{provider}/users/{external_id}", ["oidc-of-us", "c4r0l"], form={"user_id": TEXT},
       holds=lambda seen: seen["user_id"] == carol)
    connection = {"ip": MAYBE, "last_seen": TIME, "user_agent": MAYBE}
    whois = {"user_id": TEXT, "devices": dict}
    seen = op("KS", "GET /v1/whois/{user_id}", [alice.id], form=whois)
    for device in seen.get("devices", {}).values():
        checks.equal("sessions of whois", fits(device, {"sessions": [{"connections": [connection]}]}), None)
    op("K", "PUT /v1/suspend/{user_id}", [carol], body={"suspend": True}, form={f"user_{carol}_suspended": bool})
    op("K", "PUT /v1/suspend/{user_id}", [carol], body={"suspend": False})
    op("K", "POST /v1/users/{user_id}/shadow_ban", [carol], body={})
    op("K", "DELETE /v1/users/{user_id}/shadow_ban", [carol])
    limits = {"messages_per_second": int, "burst_count": int}
    limit = "/v1/users/{user_id}/override_ratelimit"
    op("K", f"GET {limit}", [carol], holds=lambda seen: seen == {})
    op("K", f"POST {limit}", [carol], body={"messages_per_second": 2, "burst_count": 20}, form=limits)
    op("K", f"GET {limit}", [carol], form=limits, holds=lambda seen: seen["burst_count"] == 20)
    op("K", f"DELETE {limit}", [carol], holds=lambda seen: seen == {})
    features = "/v1/experimental_features/{user_id}"
    op("K", f"GET {features}", [carol], form={"features": dict})
    op("K", f"PUT {features}", [carol], body={"features": {"msc3881": False}}, form={"errcode": TEXT}, status=400)
    op("K", "POST /v1/account_validity/validity", body={"user_id": carol, "expiration_ts": NOW + 9_000_000},
       form={"expiration_ts": int})
    op("K", "POST /v1/users/{user_id}/_allow_cross_signing_replacement_without_uia", [alice.id], body={},
       form={"errcode": TEXT}, status=404)
    op("K", "GET /v1/users/{user_id}/accountdata", [alice.id], form={"account_data": {"global": dict, "rooms": dict}})
    pusher = {
        "app_display_name": "App", "app_id": "org.example", "data": {"url": "https://example.org/_matrix/push/v1/notify"},
        "device_display_name": "Phone", "kind": "http", "lang": "en", "pushkey": "key",
    }
    alice.client("POST", "/pushers/set", pusher)
    kept = {
        "app_display_name": TEXT, "app_id": TEXT, "data": {"url": TEXT}, "device_display_name": TEXT, "kind": TEXT,
        "lang": TEXT, "profile_tag": TEXT, "pushkey": TEXT,
    }
    op("KS", "GET /v1/users/{user_id}/pushers", [alice.id], form={"pushers": [kept], "total": int},
       holds=lambda seen: seen["total"] == 1)
    room = alice.create_room(name="Counted", invite=[bob.id])
    bob.join(room)
    op("K", "GET /v1/users/{user_id}/sent_invite_count", [alice.id], query=f"from_ts={NOW - 60_000}",
       form={"invite_count": int}, holds=lambda seen: seen["invite_count"] == 1)
    op("K", "GET /v1/users/{user_id}/cumulative_joined_room_count", [bob.id], query=f"from_ts={NOW - 60_000}",
       form={"cumulative_joined_room_count": int}, holds=lambda seen: seen["cumulative_joined_room_count"] >= 1)
    op("KS", "GET /v1/users/{user_id}/joined_rooms", [bob.id], form={"joined_rooms": [TEXT], "total": int},
       holds=lambda seen: seen["joined_rooms"] == [room])
    op("K", "GET /v1/users/{user_id}/memberships", [bob.id], form={"memberships": dict},
       holds=lambda seen: seen["memberships"][room] == "join")
    op("K", "POST /v1/users/{user_id}/login", [carol], body={}, form={"access_token": TEXT})
    op("K", "POST /v1/reset_password/{user_id}", [carol],
       body={"new_password": "one more word", "logout_devices": True})
    bob.send(room, "rude")
    made = op("K", "POST /v1/user/{user_id}/redact", [bob.id], body={"rooms": [room], "reason": "rude"},
              form={"redact_id": TEXT})
    status = {"status": TEXT, "failed_redactions?": dict}
    task = lambda: op("K", "GET /v1/user/redact_status/{redact_id}", [made["redact_id"]], form=status)  # noqa: E731
    wait_until(lambda: task().get("status") == "complete", "the end of the redaction")
    checks.equal("failed redactions", task().get("failed_redactions"), {})
    op("KS", f"PUT {user}", [dave], body={"password": PASSWORD}, form=FULL_USER, status=201)
    op("KS", "POST /v1/deactivate/{user_id}", [dave], body={"erase": True}, form={"id_server_unbind_result": TEXT})
    op("KS", f"GET {user}", [dave], form=FULL_USER, holds=lambda seen: seen["deactivated"] and seen["erased"])


def replay_devices():
    devices = "/v2/users/{user_id}/devices"
    carol = f"@carol:{SERVER}"
    for name in ["ONE", "TWO", "THREE"]:
        op("K", f"POST {devices}", [carol], body={"device_id": name}, status=201)
    op("KS", f"GET {devices}", [carol], form={"devices": [DEVICE], "total": int}, holds=lambda seen: seen["total"] == 3)
    one = devices + "/{device_id}"
    op("K", f"PUT {one}", [carol, "ONE"], body={"display_name": "Phone"})
    op("KS", f"DELETE {one}", [carol, "ONE"])
    op("K", "POST /v2/users/{user_id}/delete_devices", [carol], body={"devices": ["TWO", "THREE"]})
    op("KS", f"GET {devices}", [carol], holds=lambda seen: seen["total"] == 0)


def replay_tokens():
    tokens, one = "/v1/registration_tokens", "/v1/registration_tokens/{token}"
    body = {"token": "welcome", "uses_allowed": 3, "expiry_time": NOW + 9_000_000}
    op("KS", f"POST {tokens}/new", body=body, form=TOKEN, holds=lambda seen: seen["token"] == "welcome")
    op("KS", f"POST {tokens}/new", body={"length": 12}, form=TOKEN, holds=lambda seen: len(seen["token"]) == 12)
    op("KS", f"GET {tokens}", query="valid=true", form={"registration_tokens": [TOKEN]},
       holds=lambda seen: len(seen["registration_tokens"]) == 2)
    op("KS", f"GET {one}", ["welcome"], form=TOKEN)
    op("KS", f"PUT {one}", ["welcome"], body={"uses_allowed": None}, form=TOKEN,
       holds=lambda seen: seen["uses_allowed"] is None)
    op("KS", f"DELETE {one}", ["welcome"])
    op("KS", f"GET {one}", ["welcome"], form={"errcode": TEXT}, status=404)
    op("K", "GET /v1/username_available", query="username=nobody", form={"available": bool})
    op("K", "GET /v1/username_available", query="username=alice", form={"errcode": TEXT}, status=400)


def replay_rooms():
    room = alice.create_room(name="Hall", room_alias_name="hall", topic="Talk", visibility="public")
    bob.join(room)
    events = [alice.send(room, f"message {number}") for number in range(8)]
    page = {"rooms": [LISTED_ROOM], "offset": int, "total_rooms": int, "next_batch?": int, "prev_batch?": int}
    query = "from=0&limit=1&order_by=joined_members&dir=b"
    op("KS", "GET /v1/rooms", query=query, form=page,
       holds=lambda seen: seen["next_batch"] == 1 and len(seen["rooms"]) == 1)
    op("KS", "GET /v1/rooms", query="search_term=hall&public_rooms=true", form=page,
       holds=lambda seen: seen["total_rooms"] == 1)
    one = "/v1/rooms/{room_id}"
    op("KS", f"GET {one}", [room], form=FULL_ROOM,
       holds=lambda seen: seen["topic"] == "Talk" and seen["joined_members"] == 2)
    op("KS", f"GET {one}", [f"!nothing:{SERVER}"], form={"errcode": TEXT}, status=404)
    op("KS", f"GET {one}/members", [room], form={"members": [TEXT], "total": int},
       holds=lambda seen: seen["total"] == 2)
    op("KS", f"GET {one}/state", [room], form={"state": [{**EVENT, "state_key": TEXT}]})
    messages = {"chunk": [EVENT], "start": TEXT, "end?": TEXT}
    op("K", f"GET {one}/messages", [room], query="dir=b&limit=5", form=messages,
       holds=lambda seen: len(seen["chunk"]) == 5)
    context = {"event": EVENT, "events_before": [EVENT], "events_after": [EVENT], "state": [EVENT], "start": TEXT, "end": TEXT}
    op("K", f"GET {one}/context/{{event_id}}", [room, events[4]], form=context)
    op("K", f"GET {one}/timestamp_to_event", [room], query=f"ts={NOW}&dir=f",
       form={"event_id": TEXT, "origin_server_ts": int})
    op("K", f"GET {one}/hierarchy", [room],
       form={"rooms": [{"room_id": TEXT, "num_joined_members": int, "children_state": list}]})
    op("K", "GET /v1/fetch_event/{event_id}", [events[0]], form={"event": EVENT})
    op("K", "POST /v1/join/{room_id_or_alias}", [room], body={"user_id": f"@carol:{SERVER}"}, form={"room_id": TEXT})
    op("K", f"POST {one}/make_room_admin", [room], body={"user_id": bob.id})
    extremity = {"event_id": TEXT, "state_group": TIME, "depth": int, "received_ts": TIME}
    op("KS", f"GET {one}/forward_extremities", [room], form={"count": int, "results": [extremity]},
       holds=lambda seen: seen["count"] == 1)
    op("KS", f"DELETE {one}/forward_extremities", [room], form={"deleted": int})
    op("K", f"PUT {one}/block", [room], body={"block": True}, form={"block": bool})
    op("K", f"GET {one}/block", [room], form={"block": bool, "user_id": TEXT}, holds=lambda seen: seen["block"])
    op("K", f"PUT {one}/block", [room], body={"block": False}, form={"block": bool})
    purge = op("K", "POST /v1/purge_history/{room_id}", [room],
               body={"purge_up_to_event_id": events[4], "delete_local_events": True},
               form={"purge_id": TEXT})
    state = lambda: op("K", "GET /v1/purge_history_status/{purge_id}", [purge["purge_id"]],
    form={"status": TEXT})  # noqa: E731
    wait_until(lambda: state().get("status") == "complete", "the end of the purge")
    body = {"block": False, "purge": True, "message": "Over", "room_name": "Closed", "new_room_user_id": admin.id}
    made = op("KS", "DELETE /v2/rooms/{room_id}", [room], body=body, form={"delete_id": TEXT})
    closed = {
        "status": TEXT, "shutdown_room?": {
            "kicked_users": [TEXT], "failed_to_kick_users": [TEXT], "local_aliases": [TEXT], "new_room_id": MAYBE,
        },
    }
    task = lambda: op("K", "GET /v2/rooms/delete_status/{delete_id}", [made["delete_id"]], form=closed)  # noqa: E731
    wait_until(lambda: task().get("status") == "complete", "the end of the room")
    op("K", "GET /v1/scheduled_tasks",
       form={"scheduled_tasks": [{"id": TEXT, "action": TEXT, "status": TEXT, "timestamp_ms": int}]})


def replay_media():
    room = alice.create_room(name="Pictures")
    names = []
    for number in range(5):
        uri = alice.upload(f"file{number}.txt")
        names.append(uri.rsplit("/", 1)[1])
        alice.send(room, "file", msgtype="m.file", url=uri)
    one, media = [SERVER, names[0]], "{server_name}/{media_id}"
    info = {
        **MEDIA, "media_origin": MAYBE, "user_id": MAYBE, "filesystem_id": MAYBE, "url_cache": MAYBE, "authenticated": bool,
        "sha256": MAYBE,
    }
    op("K", f"GET /v1/media/{media}", one, form={"media_info": info},
       holds=lambda seen: seen["media_info"]["media_id"] == names[0])
    query = "from=0&limit=2&order_by=media_length&dir=b"
    op("KS", "GET /v1/users/{user_id}/media", [alice.id], query=query,
       form={"media": [MEDIA], "next_token": int, "total": int},
       holds=lambda seen: seen["total"] == 5)
    op("K", "GET /v1/room/{room_id}/media", [room], form={"local": [TEXT], "remote": [TEXT]},
       holds=lambda seen: len(seen["local"]) == 5)
    usage = {"displayname": MAYBE, "media_count": int, "media_length": int, "user_id": TEXT}
    op("KS", "GET /v1/statistics/users/media", query="order_by=media_length&dir=b",
       form={"users": [usage], "total": int, "next_token?": int},
       holds=lambda seen: seen["users"][0]["media_count"] == 5)
    op("K", "GET /v1/statistics/database/rooms", form={"rooms": [{"room_id": TEXT, "estimated_size": int}]})
    op("KS", f"POST /v1/media/quarantine/{media}", one, body={})
    op("KS", f"POST /v1/media/unquarantine/{media}", one, body={})
    op("KS", "POST /v1/media/protect/{media_id}", one[1:], body={})
    op("K", "POST /v1/room/{room_id}/media/quarantine", [room], body={}, form={"num_quarantined": int},
       holds=lambda seen: seen["num_quarantined"] == 4)
    op("K", "POST /v1/user/{user_id}/media/quarantine", [alice.id], body={}, form={"num_quarantined": int})
    op("KS", "POST /v1/media/unprotect/{media_id}", one[1:], body={})
    deleted = {"deleted_media": [TEXT], "total": int}
    op("KS", f"DELETE /v1/media/{media}", one, form=deleted, holds=lambda seen: seen["deleted_media"] == [names[0]])
    op("S", "POST /v1/media/{server_name}/delete", [SERVER], query=f"before_ts={NOW - 9_000_000}&size_gt=0",
       body={}, form=deleted)
    op("K", "POST /v1/media/delete", query=f"before_ts={NOW - 9_000_000}&size_gt=0&keep_profiles=true", body={},
       form=deleted,
       holds=lambda seen: seen["total"] == 0)
    op("K", "DELETE /v1/users/{user_id}/media", [alice.id], query="limit=10", form=deleted,
       holds=lambda seen: seen["total"] == 4)
    op("K", "POST /v1/purge_media_cache", query=f"before_ts={NOW}", body={}, form={"deleted": int})


def replay_reports():
    room = alice.create_room(name="Rude", room_alias_name="rude")
    bob.join(room)
    event = alice.send(room, "rude")
    bob.client("POST", f"/rooms/{quote(room)}/report/{quote(event)}", {"reason": "rude", "score": -100})
    bob.client("POST", f"/users/{quote(alice.id)}/report", {"reason": "rude"})
    seen = op("KS", "GET /v1/event_reports", query=f"limit=10&dir=b&room_id={quote(room)}",
              form={"event_reports": [EVENT_REPORT], "total": int}, holds=lambda seen: seen["total"] == 1)
    one = [seen["event_reports"][0]["id"]]
    op("KS", "GET /v1/event_reports/{report_id}", one,
       form={**EVENT_REPORT, "event_json": {"content": dict, "type": TEXT}})
    op("KS", "DELETE /v1/event_reports/{report_id}", one)
    op("KS", "GET /v1/event_reports", holds=lambda seen: seen["total"] == 0)
    report = {**REPORT, "target_user_id": TEXT}
    seen = op("K", "GET /v1/user_reports", form={"user_reports": [report], "total": int},
              holds=lambda seen: seen["total"] == 1)
    one = [seen["user_reports"][0]["id"]]
    op("K", "GET /v1/user_reports/{report_id}", one, form=report)
    op("K", "DELETE /v1/user_reports/{report_id}", one)


def replay_federation():
    # Nobody is at that port: the server remembers that it could not be reached.
    other = "127.0.0.1:1"
    call("POST", f"/_matrix/client/v3/join/{quote(f'!nothing:{other}')}?server_name={other}&via={other}", {}, alice.token)
    one = "/v1/federation/destinations/{destination}"
    page = {"destinations": [DESTINATION], "total": int, "next_token?": TEXT}
    op("KS", "GET /v1/federation/destinations", query="limit=10&order_by=destination&dir=f", form=page,
       holds=lambda seen: [each["destination"] for each in seen["destinations"]] == [other])
    op("KS", f"GET {one}", [other], form=DESTINATION, holds=lambda seen: seen["retry_interval"] > 0)
    op("KS", f"GET {one}", ["unknown.example"], form={"errcode": TEXT}, status=404)
    op("KS", f"GET {one}/rooms", [other], form={"rooms": [{"room_id": TEXT, "stream_ordering": int}], "total": int})
    op("KS", f"POST {one}/reset_connection", [other], body={})
    op("KS", "GET /v1/federation/destinations", form=page, holds=lambda seen: seen["total"] == 0)


def replay_server():
    op("KS", "GET /v1/server_version", form={"server_version": TEXT})
    content = {"msgtype": "m.text", "body": "At noon"}
    op("KS", "POST /v1/send_server_notice", body={"user_id": alice.id, "content": content}, form={"event_id": TEXT})


for part in [
    replay_users, replay_devices, replay_tokens, replay_rooms, replay_media, replay_reports, replay_federation, replay_server,
]:
    checks.attempt(part.__name__, part)
print(f"operations: {len(tools['K'])} of Ketesa, {len(tools['S'])} of synapse-admin")
checks.end()
