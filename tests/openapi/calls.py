"""Requests that ought to succeed, for operations where the definitions' examples with real ids do not: by operation id,
what of a request is otherwise. Each gets a world and may first do in it what the operation needs."""

from world import KEY_ALGORITHM, PASSWORD, encode, keys, login


def with_own_keys(world):
    """The upload of the keys of a device that has none."""
    device = login(world.wire, world.caller.user_id)
    own = keys.DeviceKeys(device)
    body = {"device_keys": own.device(), "one_time_keys": own.one_time(3), "fallback_keys": own.fallback()}
    return {"token": device.token, "body": body}


def signed_device(world):
    """The caller's device signed by a self-signing key that is uploaded first."""
    alice = world.caller
    body = {**world.cross_signing, "auth": {"type": "m.login.password", "password": PASSWORD}}
    body["auth"]["identifier"] = {"type": "m.id.user", "user": alice.user_id}
    alice.post("/keys/device_signing/upload", body)
    found = alice.post("/keys/query", {"device_keys": {alice.user_id: []}})
    device = found["device_keys"][alice.user_id][alice.device_id]
    device.pop("unsigned", None)
    device["signatures"] = {}
    world.self_signing.sign(device, alice.user_id, world.self_signing.public)
    return {"body": {alice.user_id: {alice.device_id: device}}}


def banned(world):
    world.caller.post(f"/rooms/{encode(world.joined.room_id)}/ban", {"user_id": world.bob.user_id})
    return {"body": {"user_id": world.bob.user_id}}


# Operations that only application services may call.
OF_SERVICES = {"pingAppservice", "updateAppserviceRoomDirectoryVisibility"}
# What is done in each world in which an operation is tried with drawn requests.
PREPARED = {"unban": banned}
# Operations whose call here changes the world before it is sent.
SEEDED = {"unban", "uploadKeys", "uploadCrossSigningSignatures", "uploadContentToMXC"}


def claim(world):
    return {"body": {"one_time_keys": {world.bob.user_id: {world.bob.device_id: "signed_curve25519"}}}}


def in_room(world, membership):
    return {"roomId": world.room(membership).room_id}


CALLS = {
    "claimKeys": claim,
    "createRoom": lambda world: {
        "body": {
            "preset": "public_chat",
            "room_alias_name": f"made{world.number}",
            "name": "Made",
            "topic": "By hand",
            "invite": [world.bob.user_id],
            "visibility": "public",
            "is_direct": False,
            "power_level_content_override": {"events_default": 0},
            "initial_state": [
                {"type": "m.room.history_visibility", "state_key": "", "content": {"history_visibility": "shared"}}
            ],
        }
    },
    "changePassword": lambda world: {"body": {"new_password": "another battery staple", "logout_devices": False}},
    "deactivateAccount": lambda world: {"body": {"erase": True}},
    "deleteDevice": lambda world: {"path": {"deviceId": world.second_device.device_id}},
    "deleteDevices": lambda world: {"body": {"devices": [world.second_device.device_id]}},
    "deleteRoomAlias": lambda world: {"path": {"roomAlias": world.joined.alias}},
    "getRoomIdByAlias": lambda world: {"path": {"roomAlias": world.joined.alias}},
    "setRoomAlias": lambda world: {
        "path": {"roomAlias": f"#set{world.number}:{world.server_name}"},
        "body": {"room_id": world.joined.room_id},
    },
    "forgetRoom": lambda world: {"path": in_room(world, "leave")},
    "getProfileField": lambda world: {"path": {"keyName": "displayname", "userId": world.caller.user_id}},
    "setProfileField": lambda world: {"path": {"keyName": "displayname", "userId": world.caller.user_id}},
    "deleteProfileField": lambda world: {"path": {"keyName": "displayname", "userId": world.caller.user_id}},
    "getAccountData": lambda world: {"path": {"userId": world.caller.user_id, "type": "org.example.note"}},
    "getAccountDataPerRoom": lambda world: {"path": {"userId": world.caller.user_id, "type": "org.example.note"}},
    "getRoomStateWithKey": lambda world: {
        "path": {"eventType": "m.room.name", "stateKey": ""},
        "query": {"format": "event"},
    },
    "setRoomStateWithKey": lambda world: {
        "path": {"eventType": "m.room.name", "stateKey": ""},
        "body": {"name": "By hand"},
    },
    "inviteUser": lambda world: {"path": {"roomId": world.rooms[2].room_id}, "body": {"user_id": world.bob.user_id}},
    "joinRoom": lambda world: {"path": {"roomIdOrAlias": world.room("none").alias}, "body": {"reason": "why not"}},
    "joinRoomById": lambda world: {"path": in_room(world, "invite"), "body": {"reason": "asked"}},
    "knockRoom": lambda world: {"path": {"roomIdOrAlias": world.room("knock").room_id}},
    "unban": banned,
    "login": lambda world: {
        "body": {
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": world.caller.user_id},
            "password": PASSWORD,
            "initial_device_display_name": "Another",
            "refresh_token": True,
        }
    },
    "refresh": lambda world: {"body": {"refresh_token": world.caller.refresh_token}},
    "register": lambda world: {"query": {}, "body": {"username": f"hand{world.number}", "password": PASSWORD}},
    "checkUsernameAvailability": lambda world: {"query": {"username": f"free{world.number}"}},
    "postPusher": lambda world: {"body": world.pusher()},
    "postRoomKeysVersion": lambda world: {"body": {"algorithm": KEY_ALGORITHM, "auth_data": world.backup_secret()}},
    "putRoomKeysVersion": lambda world: {
        "body": {"algorithm": KEY_ALGORITHM, "auth_data": world.backup_secret(), "version": world.backup}
    },
    "putRoomKeys": lambda world: {
        "body": {"rooms": {world.joined.room_id: {"sessions": {"session2": world.session()}}}}
    },
    "putRoomKeysByRoomId": lambda world: {"body": {"sessions": {"session3": world.session()}}},
    "putRoomKeyBySessionId": lambda world: {"path": {"sessionId": "session4"}, "body": world.session()},
    "setPushRule": lambda world: {"path": {"kind": "content", "ruleId": f"rule{world.number}"}},
    "getPushRule": lambda world: {"path": {"kind": "content", "ruleId": "cake"}},
    "deletePushRule": lambda world: {"path": {"kind": "content", "ruleId": "cake"}},
    "upgradeRoom": lambda world: {"path": {"roomId": world.rooms[1].room_id}, "body": {"new_version": "11"}},
    "uploadKeys": with_own_keys,
    "uploadCrossSigningKeys": lambda world: {"body": world.cross_signing},
    "uploadCrossSigningSignatures": signed_device,
    "sendMessage": lambda world: {"path": {"eventType": "m.room.message"}},
    "requestOpenIdToken": lambda world: {"path": {"userId": world.caller.user_id}},
}
for own in (
    "setPresence",
    "setTyping",
    "setAccountData",
    "setAccountDataPerRoom",
    "defineFilter",
    "getFilter",
    "getRoomTags",
    "deleteRoomTag",
    "setRoomTag",
):
    CALLS[own] = lambda world: {"path": {"userId": world.caller.user_id}}
