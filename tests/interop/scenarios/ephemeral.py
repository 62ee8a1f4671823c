"""Typing, receipts, presence, profiles: what passes without an event of its own."""

from client import poll
from harness import check, encode, equal, refused, scenario


@scenario("typing")
def typing(case):
    alice, bob, room_id = case.shared_room()
    for typist, reader in ((alice, bob), (bob, alice)):
        room = reader.mirror.room(room_id)
        typist.typing(room_id)
        reader.until("typing", lambda room=room, who=typist: who.user_id in room.typing)
        typist.typing(room_id, False)
        reader.until("no longer typing", lambda room=room, who=typist: who.user_id not in room.typing)


@scenario("receipts")
def receipts(case):
    alice, bob, room_id = case.shared_room()
    for author, reader in ((alice, bob), (bob, alice)):
        first = case.heard(room_id, "read this", author, reader)
        second = case.heard(room_id, "and this", author, reader)
        seen = author.mirror.room(room_id).receipts

        def has(kind, event_id, thread=None, seen=seen, reader=reader):
            return seen.get((kind, reader.user_id, thread)) == event_id

        reader.receipt(room_id, first)
        author.until("the receipt", lambda has=has, event_id=first: has("m.read", event_id))
        reader.receipt(room_id, second, kind="m.read.private")
        reader.receipt(room_id, second, thread="main")
        author.until("the receipt for the thread", lambda has=has, event_id=second: has("m.read", event_id, "main"))
        check(("m.read.private", reader.user_id) not in {key[:2] for key in seen}, "a private receipt came across")
        reader.receipt(room_id, second)
        author.until("the second receipt", lambda has=has, event_id=second: has("m.read", event_id))


@scenario("presence")
def presence(case):
    alice, bob, _ = case.shared_room()
    for teller, listener in ((alice, bob), (bob, alice)):
        path = f"/v3/presence/{encode(teller.user_id)}/status"
        for state, message in (("online", "in the office"), ("unavailable", "in a meeting")):
            teller.put(path, {"presence": state, "status_msg": message})

            def told(teller=teller, listener=listener, state=state, message=message):
                known = listener.mirror.presence.get(teller.user_id, {})
                return known.get("presence") == state and known.get("status_msg") == message

            listener.until(f"presence {state}", told)
            answer = listener.get(path)
            equal((answer["presence"], answer.get("status_msg")), (state, message), "the presence asked for")


@scenario("profile_change")
def profile_change(case):
    alice, bob, room_id = case.shared_room()
    for changer, reader in ((alice, bob), (bob, alice)):
        user = encode(changer.user_id)
        name, avatar = f"Näme of {changer.server.kind} 😀", f"mxc://{changer.server.name}/avatar"
        changer.put(f"/v3/profile/{user}/displayname", {"displayname": name})
        changer.put(f"/v3/profile/{user}/avatar_url", {"avatar_url": avatar})

        def renamed(changer=changer, reader=reader, name=name, avatar=avatar):
            event = reader.mirror.room(room_id).state.get(("m.room.member", changer.user_id), {"content": {}})
            return (event["content"].get("displayname"), event["content"].get("avatar_url")) == (name, avatar)

        reader.until("name and avatar in the room", renamed)
        poll("the name in the profile", lambda: reader.get(f"/v3/profile/{user}").get("displayname") == name)
        equal(reader.get(f"/v3/profile/{user}/avatar_url"), {"avatar_url": avatar}, "the avatar in the profile")
    case.same(room_id, alice, bob)


@scenario("user_query")
def user_query(case):
    """Profiles of users with whom one shares nothing."""
    alice, bob = case.pair()
    user = encode(alice.user_id)
    alice.put(f"/v3/profile/{user}/displayname", {"displayname": "Alice A."})
    equal(bob.get(f"/v3/profile/{user}").get("displayname"), "Alice A.", "the profile")
    equal(bob.get(f"/v3/profile/{user}/displayname"), {"displayname": "Alice A."}, "the name alone")
    refused(404, bob.get, f"/v3/profile/{encode(f'@nobody-at-all:{case.one.name}')}")
    token = alice.post(f"/v3/user/{user}/openid/request_token")
    status, _, data = bob.raw("GET", "/_matrix/federation/v1/version")
    check(status == 200 and b"server" in data, "the version of the server")
    equal(token["matrix_server_name"], case.one.name, "the server of the OpenID token")
    path = "/_matrix/federation/v1/openid/userinfo"
    status, _, data = alice.raw("GET", path, query={"access_token": token["access_token"]})
    check(status == 200 and alice.user_id.encode() in data, f"the OpenID user is answered {status} {data!r}")
    status, _, _ = alice.raw("GET", path, query={"access_token": "wrong"})
    equal(status, 401, "the status for a wrong OpenID token")
