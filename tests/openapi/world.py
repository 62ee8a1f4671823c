"""What is on the server before an operation is tried: users, rooms in all relations to the caller, keys, media."""

import importlib.util
import itertools
from dataclasses import dataclass, field
from pathlib import Path

from client import Device, encode
from server import shared_secret_mac

PASSWORD = "correct horse battery staple"
IMAGE = Path(__file__).parent.parent / "clients" / "image.png"
KEY_ALGORITHM = "m.megolm_backup.v1.curve25519-aes-sha2"


def load_keys():
    """The signing of the tests with other servers, by its file: the modules beside it have the names of those here."""
    spec = importlib.util.spec_from_file_location("interop_keys", Path(__file__).parent.parent / "interop" / "keys.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


keys = load_keys()


@dataclass
class Room:
    room_id: str
    membership: str
    alias: str | None = None
    events: list = field(default_factory=list)


def register(wire, name, password=PASSWORD):
    body = {"username": name, "password": password, "auth": {"type": "m.login.dummy"}, "refresh_token": True}
    return logged_in(wire, Device(wire).post("/register", body), password)


def login(wire, user_id, password=PASSWORD):
    body = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": user_id},
        "password": password,
        "refresh_token": True,
    }
    return logged_in(wire, Device(wire).post("/login", body), password)


def logged_in(wire, answer, password):
    device = Device(wire, answer["access_token"], answer["user_id"], answer["device_id"], password)
    device.refresh_token = answer.get("refresh_token")
    return device


def register_administrator(wire, name="root"):
    """An account made with the shared secret, which is the way to an administrator's."""
    nobody, base = Device(wire), "/_synapse/admin/v1"
    nonce = nobody.ask("GET", "/register", base=base)["nonce"]
    body = {"nonce": nonce, "username": name, "password": PASSWORD, "admin": True}
    body["mac"] = shared_secret_mac(nonce, name, PASSWORD)
    return logged_in(wire, nobody.ask("POST", "/register", body, base=base), PASSWORD)


class World:
    """Made anew for every operation, so that what one does to it does not show in another."""

    numbers = itertools.count(1)

    def __init__(self, wire, administrator, server):
        self.wire, self.administrator, self.server_name = wire, administrator, server.name
        self.page = server.neighbours.page
        self.number = next(self.numbers)
        self.transactions = itertools.count(1)
        self.caller = register(wire, f"alice{self.number}")
        self.bob = register(wire, f"bob{self.number}")
        self.second_device = login(wire, self.caller.user_id)
        self.rooms = []
        self.seed_rooms()
        self.seed_media()
        self.seed_keys()
        self.seed_account()

    @property
    def users(self):
        return [self.caller.user_id, self.bob.user_id]

    @property
    def joined(self):
        return self.rooms[0]

    def room(self, membership):
        return next(room for room in self.rooms if room.membership == membership)

    def transaction(self):
        return f"t{next(self.transactions)}"

    # Rooms

    def send(self, device, room_id, kind, content):
        path = f"/rooms/{encode(room_id)}/send/{kind}/{self.transaction()}"
        return device.put(path, content)["event_id"]

    def say(self, device, room_id, text, **more):
        return self.send(device, room_id, "m.room.message", {"msgtype": "m.text", "body": text, **more})

    def make_room(self, device, membership, **content):
        name = content.get("room_alias_name")
        room_id = device.post("/createRoom", content)["room_id"]
        room = Room(room_id, membership, f"#{name}:{self.server_name}" if name else None)
        self.rooms.append(room)
        return room

    def seed_rooms(self):
        alice, bob, number = self.caller, self.bob, self.number
        joined = self.make_room(
            alice,
            "join",
            preset="public_chat",
            visibility="public",
            name="Joined",
            topic="Tea",
            room_alias_name=f"joined{number}",
            invite=[bob.user_id],
        )
        bob.post(f"/rooms/{encode(joined.room_id)}/join")
        self.seed_timeline(joined)
        old = self.make_room(alice, "join", room_version="6", name="Old", invite=[bob.user_id])
        old.events.append(self.say(alice, old.room_id, "in an older version"))
        space = self.make_room(alice, "join", name="Space", creation_content={"type": "m.space"})
        child = f"/rooms/{encode(space.room_id)}/state/m.space.child/{encode(joined.room_id)}"
        alice.put(child, {"via": [self.server_name], "order": "a"})
        invited = self.make_room(bob, "invite", name="Invited", preset="private_chat")
        bob.post(f"/rooms/{encode(invited.room_id)}/invite", {"user_id": alice.user_id})
        left = self.make_room(bob, "leave", preset="public_chat", name="Left")
        alice.post(f"/rooms/{encode(left.room_id)}/join")
        left.events.append(self.say(alice, left.room_id, "before leaving"))
        alice.post(f"/rooms/{encode(left.room_id)}/leave")
        knock = {"type": "m.room.join_rules", "content": {"join_rule": "knock"}}
        self.make_room(bob, "knock", name="Knock", initial_state=[knock], room_alias_name=f"knock{number}")
        outside = self.make_room(bob, "none", preset="public_chat", name="Outside", room_alias_name=f"outside{number}")
        outside.events.append(self.say(bob, outside.room_id, "who listens?"))
        self.make_room(bob, "none", preset="private_chat", name="Closed")

    def seed_timeline(self, room):
        alice, bob, room_id = self.caller, self.bob, room.room_id
        root = self.say(bob, room_id, "the root of a thread")
        for text in ("one", "two"):
            thread = {"rel_type": "m.thread", "event_id": root}
            room.events.append(self.say(alice, room_id, text, **{"m.relates_to": thread}))
        mine = self.say(alice, room_id, "helo")
        edit = {"rel_type": "m.replace", "event_id": mine}
        new = {"msgtype": "m.text", "body": "hello"}
        self.say(alice, room_id, "* hello", **{"m.new_content": new, "m.relates_to": edit})
        annotation = {"rel_type": "m.annotation", "event_id": root, "key": "+"}
        self.send(bob, room_id, "m.reaction", {"m.relates_to": annotation})
        gone = self.say(alice, room_id, "a mistake")
        alice.put(f"/rooms/{encode(room_id)}/redact/{encode(gone)}/{self.transaction()}", {"reason": "a mistake"})
        self.say(bob, room_id, f"{alice.user_id}: look", **{"m.mentions": {"user_ids": [alice.user_id]}})
        room.events = [root, *room.events, mine, gone]

    # The rest

    def seed_media(self):
        base = "/_matrix/media/v3"
        image = self.caller.ask("POST", "/upload", IMAGE.read_bytes(), [("filename", "a.png")], "image/png", base)
        self.mxc = image["content_uri"]
        self.media_id = self.mxc.rsplit("/", 1)[1]

    def create_media(self):
        """The id of media that is still to be uploaded."""
        return self.caller.ask("POST", "/create", base="/_matrix/media/v1")["content_uri"].rsplit("/", 1)[1]

    def seed_keys(self):
        alice = self.caller
        for device in (alice, self.bob):
            own = keys.DeviceKeys(device)
            one_time = {"device_keys": own.device(), "one_time_keys": own.one_time(20), "fallback_keys": own.fallback()}
            device.post("/keys/upload", one_time)
        self.alice_keys = keys.DeviceKeys(alice)
        self.cross_signing = self.make_cross_signing()
        self.backup = alice.post("/room_keys/version", {"algorithm": KEY_ALGORITHM, "auth_data": self.backup_secret()})[
            "version"
        ]
        room = encode(self.joined.room_id)
        alice.ask("PUT", f"/room_keys/keys/{room}/session1", self.session(), [("version", self.backup)])

    @staticmethod
    def backup_secret():
        return {"public_key": keys.base64_of(bytes(range(32))), "signatures": {}}

    @staticmethod
    def session():
        data = {"ephemeral": "AAAA", "ciphertext": "AAAA", "mac": "AAAA"}
        return {"first_message_index": 1, "forwarded_count": 0, "is_verified": True, "session_data": data}

    def make_cross_signing(self):
        """The caller's three cross-signing keys, as they are uploaded. They are not."""
        user = self.caller.user_id
        secrets = {name: keys.SigningKey() for name in ("master", "self_signing", "user_signing")}
        made = {}
        for name, secret in secrets.items():
            made[f"{name}_key"] = {
                "user_id": user,
                "usage": [name],
                "keys": {f"ed25519:{secret.public}": secret.public},
            }
        for name in ("self_signing_key", "user_signing_key"):
            secrets["master"].sign(made[name], user, secrets["master"].public)
        self.self_signing = secrets["self_signing"]
        return made

    def seed_account(self):
        alice = self.caller
        me, room = encode(alice.user_id), encode(self.joined.room_id)
        self.filter = alice.post(f"/user/{me}/filter", {"room": {"timeline": {"limit": 5}}})["filter_id"]
        alice.put(f"/user/{me}/account_data/org.example.note", {"a": [1, None]})
        alice.put(f"/user/{me}/account_data/m.direct", {self.bob.user_id: [self.joined.room_id]})
        alice.put(f"/user/{me}/rooms/{room}/account_data/org.example.note", {"b": "c"})
        alice.put(f"/user/{me}/rooms/{room}/tags/m.favourite", {"order": 0.5})
        alice.put(f"/profile/{me}/displayname", {"displayname": "Alice"})
        alice.put(f"/profile/{me}/avatar_url", {"avatar_url": self.mxc})
        alice.put(f"/profile/{me}/org.example.colour", {"org.example.colour": "green"})
        alice.put(f"/presence/{me}/status", {"presence": "online", "status_msg": "here"})
        alice.put("/pushrules/global/override/mine", {"conditions": [], "actions": ["notify"]})
        alice.put("/pushrules/global/content/cake", {"pattern": "cake*lie", "actions": ["notify"]})
        alice.post("/pushers/set", self.pusher())
        self.bob.put(
            f"/sendToDevice/org.example.ping/{self.transaction()}", {"messages": {alice.user_id: {"*": {"n": 1}}}}
        )
        bobs = f"/rooms/{room}/receipt/m.read/{encode(self.joined.events[0])}"
        self.bob.post(bobs, {})
        synced = alice.get("/sync", timeout=0)
        self.sync_token = synced["next_batch"]
        self.page_token = synced["rooms"]["join"][self.joined.room_id]["timeline"].get("prev_batch", self.sync_token)

    def pusher(self):
        return {
            "app_id": "org.example.app",
            "pushkey": f"key{self.number}",
            "kind": "http",
            "app_display_name": "App",
            "lang": "en",
            "device_display_name": "Phone",
            "data": {"url": "https://localhost:1/_matrix/push/v1/notify"},
        }

    def snapshot(self):
        """What the caller and others can see of the caller, to tell whether anything changed."""
        alice, me = self.caller, encode(self.caller.user_id)
        paths = (
            "/devices",
            f"/profile/{me}",
            "/pushers",
            "/pushrules/",
            "/joined_rooms",
            "/account/3pid",
            "/room_keys/version",
            f"/user/{me}/rooms/{encode(self.joined.room_id)}/tags",
            f"/user/{me}/filter/{self.filter}",
            f"/directory/room/{encode(self.joined.alias)}",
            f"/directory/list/room/{encode(self.joined.room_id)}",
        )
        seen = {path: alice.get(path) for path in paths}
        own = {room.room_id for room in self.rooms}
        seen["public"] = [room for room in alice.get("/publicRooms")["chunk"] if room["room_id"] in own]
        seen["keys"] = alice.post("/keys/query", {"device_keys": {user: [] for user in self.users}})
        seen["backup"] = alice.ask("GET", "/room_keys/keys", query=[("version", self.backup)])
        synced = alice.get(
            "/sync", timeout=0, full_state="true", filter='{"room":{"timeline":{"limit":50},"include_leave":true}}'
        )
        seen["rooms"], seen["account_data"] = synced["rooms"], synced["account_data"]
        return strip_volatile(seen)


def strip_volatile(node):
    """Without what goes on by itself: ages and times of the last use."""
    if isinstance(node, list):
        return [strip_volatile(item) for item in node]
    if isinstance(node, dict):
        volatile = ("age", "last_seen_ts", "last_seen_ip", "last_active_ago")
        return {key: strip_volatile(value) for key, value in node.items() if key not in volatile}
    return node
