"""Real values for what the definitions only call a string: ids, tokens and names of the world of an operation."""

import copy
import time

from client import encode
from neighbours import AS_ID, PROTOCOL
from world import PASSWORD

USUALLY, OFTEN, SELDOM = 0.85, 0.6, 0.2
EVENT_TYPES = ("m.room.message", "m.room.name", "m.room.member", "m.room.topic", "m.reaction", "org.example.thing")
REL_TYPES = ("m.thread", "m.annotation", "m.replace", "m.reference")
PUSH_RULES = (
    ("override", "mine"),
    ("content", "cake"),
    ("override", ".m.rule.master"),
    ("underride", ".m.rule.message"),
)
# Operations that are for rooms that one is not in: what one is there.
ROOM_OF = {"forgetRoom": "leave", "joinRoom": "none", "joinRoomById": "invite", "knockRoom": "knock"}
ROOM_VERSIONS = ("6", "10", "11", "12")


class Values:
    """Chooses with `random`, so that a run can be had again from its seed."""

    def __init__(self, world, random, operation=None):
        self.world, self.random = world, random
        # Most operations are about a room that one is in; one and the same room for all of a request.
        membership = ROOM_OF.get(operation, "join")
        self.room = world.room(membership) if random.random() < OFTEN else random.choice(world.rooms)

    def pick(self, *options):
        return self.random.choice(options)

    def chance(self, probability):
        return self.random.random() < probability

    def event(self):
        return self.random.choice(self.room.events or self.world.joined.events)

    def alias(self):
        aliases = [room.alias for room in self.world.rooms if room.alias]
        return self.pick(*aliases, f"#{self.fresh()}:{self.world.server_name}")

    def user(self):
        """Mostly the caller, because most operations with a user are about oneself."""
        return self.world.caller.user_id if self.chance(0.75) else self.world.bob.user_id

    def fresh(self):
        return f"new{self.random.getrandbits(40)}"

    def of_format(self, name):
        """A value of one of the formats of Matrix, or None."""
        world = self.world
        makers = {
            "mx-room-id": lambda: self.room.room_id,
            "mx-user-id": lambda: self.pick(*world.users),
            "mx-event-id": self.event,
            "mx-room-alias": self.alias,
            "mx-mxc-uri": lambda: world.mxc,
            "mx-server-name": lambda: world.server_name,
        }
        return makers[name]() if name in makers else None

    def path_parameters(self, operation):
        """A valid value for each parameter of the path."""
        world = self.world
        kind, rule = self.random.choice(PUSH_RULES)
        empty = operation.id == "uploadContentToMXC"
        moderation = "/admin/" in operation.path or operation.path.endswith("/users/{userId}/report")
        makers = {
            "roomId": lambda: self.room.room_id,
            "roomIdOrAlias": lambda: self.room.alias if self.room.alias and self.chance(OFTEN) else self.room.room_id,
            "roomAlias": self.alias,
            "eventId": self.event,
            "userId": lambda: world.bob.user_id if moderation else self.user(),
            "deviceId": lambda: self.pick(world.second_device.device_id, world.caller.device_id),
            "serverName": lambda: world.server_name,
            "mediaId": lambda: world.create_media() if empty else world.media_id,
            "fileName": lambda: "a picture.png",
            "keyName": lambda: self.pick("displayname", "avatar_url", "org.example.colour"),
            "type": lambda: self.pick("org.example.note", "m.direct", "org.example.other"),
            "tag": lambda: self.pick("m.favourite", "u.work"),
            "filterId": lambda: world.filter,
            "kind": lambda: kind,
            "ruleId": lambda: rule,
            "eventType": lambda: self.random.choice(EVENT_TYPES),
            "stateKey": lambda: self.pick("", "", world.caller.user_id, "key"),
            "receiptType": lambda: self.pick("m.read", "m.read.private", "m.fully_read"),
            "relType": lambda: self.random.choice(REL_TYPES),
            "txnId": world.transaction,
            "version": lambda: world.backup,
            "sessionId": lambda: "session1",
            "protocol": lambda: PROTOCOL,
            "appserviceId": lambda: AS_ID,
            "networkId": lambda: "libera",
        }
        names = [item["name"] for item in operation.definition["parameters"] if item["in"] == "path"]
        return {name: makers.get(name, lambda: "nothing")() for name in names}

    def query_value(self, operation, name):
        """A valid value for a parameter of the query; None where a drawn one is as good."""
        world = self.world
        paging = self.pick(world.page_token, world.sync_token)
        makers = {
            "filter": lambda: (
                self.pick(world.filter, '{"limit":3}', '{"room":{"timeline":{"limit":2}}}')
                if operation.id == "sync"
                else self.pick('{"limit":3}', '{"types":["m.room.message"],"lazy_load_members":true}')
            ),
            "from": lambda: world.sync_token if operation.id == "getKeysChanges" else paging,
            "to": lambda: world.sync_token if operation.id == "getKeysChanges" else paging,
            "since": lambda: world.sync_token,
            "at": lambda: paging,
            # Nothing may wait longer than the test does.
            "timeout": lambda: self.pick(0, 1, 10),
            "timeout_ms": lambda: self.pick(0, 1, 10),
            "ts": lambda: int(time.time() * 1000) - self.random.randrange(5000),
            "user_id": lambda: world.bob.user_id,
            # Of the network behind the application service.
            "userid": lambda: f"@_irc_bob:{world.server_name}",
            "alias": lambda: f"#_irc_tea:{world.server_name}",
            "room_id": lambda: self.room.room_id,
            "username": self.fresh,
            "version": lambda: world.backup,
            "via": lambda: [world.server_name],
            "server": lambda: world.server_name,
            "before": lambda: "mine",
            "after": lambda: "mine",
            "width": lambda: self.pick(16, 32, 100),
            "height": lambda: self.pick(16, 32, 100),
            "url": lambda: world.page,
        }
        return makers[name]() if name in makers else None

    def body_value(self, operation, name):
        """A valid value for a field of the body; None where a drawn one is as good."""
        world = self.world
        makers = {
            "user_id": lambda: world.bob.user_id,
            "room_id": lambda: self.room.room_id,
            "event_id": self.event,
            "device_id": lambda: world.second_device.device_id,
            "devices": lambda: [world.second_device.device_id],
            "avatar_url": lambda: world.mxc,
            "new_version": lambda: self.random.choice(ROOM_VERSIONS),
            "room_version": lambda: self.random.choice(ROOM_VERSIONS),
            "room_alias_name": self.fresh,
            "username": self.fresh,
            "invite": lambda: [world.bob.user_id],
            "m.read": self.event,
            "m.read.private": self.event,
            "m.fully_read": self.event,
            "server": lambda: world.server_name,
            "timeout": lambda: self.pick(0, 10, 30000),
            "auth": lambda: self.authentication(),
        }
        if operation.id == "login":
            makers |= {
                "type": lambda: "m.login.password",
                "password": lambda: PASSWORD,
                "identifier": lambda: {"type": "m.id.user", "user": world.caller.user_id},
            }
        if operation.id == "refresh":
            makers |= {"refresh_token": lambda: world.caller.refresh_token}
        if operation.id == "postRoomKeysVersion" or operation.id == "putRoomKeysVersion":
            makers |= {"auth_data": world.backup_secret, "version": lambda: world.backup}
        return makers[name]() if name in makers else None

    def authentication(self, session=None):
        """What satisfies user-interactive authentication by password."""
        world = self.world
        auth = {
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": world.caller.user_id},
            "password": world.caller.password,
        }
        return auth if session is None else {**auth, "session": session}

    def localised(self, node):
        """An example of the definitions with the world's ids in the place of its own."""
        if isinstance(node, list):
            return [self.localised(item) for item in node]
        if isinstance(node, dict):
            return {self.localised(key): self.localised(value) for key, value in node.items()}
        if not isinstance(node, str):
            return node
        sigils = {"!": "mx-room-id", "$": "mx-event-id", "#": "mx-room-alias"}
        if node.startswith("mxc://"):
            return self.world.mxc
        if node.startswith("@") and ":" in node:
            return self.world.caller.user_id if "alice" in node else self.world.bob.user_id
        return self.of_format(sigils[node[0]]) if node[:1] in sigils and len(node) > 1 else node

    def steer_body(self, operation, body, schema):
        """A drawn body in which many of the strings are what they are said to be."""
        body = self.steer(body, schema)
        if isinstance(body, dict):
            for name in properties_of(schema):
                wanted = self.chance(USUALLY if name in body else SELDOM)
                value = self.body_value(operation, name) if wanted else None
                if value is not None:
                    body[name] = value
        return body

    def steer(self, node, schema):
        """Replaces strings whose schema has a format of Matrix."""
        if isinstance(node, list) and isinstance(schema.get("items"), dict):
            return [self.steer(item, schema["items"]) for item in node]
        if isinstance(node, dict):
            known = properties_of(schema)
            rest = schema.get("additionalProperties")
            return {
                key: self.steer(value, known.get(key, rest if isinstance(rest, dict) else {}))
                for key, value in node.items()
            }
        if isinstance(node, str) and "format" in schema and self.chance(USUALLY):
            found = self.of_format(schema["format"])
            return node if found is None else found
        return node

    def mix(self, example, drawn):
        """An example in which some of the fields are drawn."""
        mixed = copy.deepcopy(example)
        if isinstance(mixed, dict) and isinstance(drawn, dict):
            for key, value in drawn.items():
                if self.chance(SELDOM):
                    mixed[key] = value
        return mixed


def properties_of(schema):
    """The fields that a schema names, by its parts too."""
    found = dict(schema.get("properties", {}))
    for word in ("allOf", "anyOf", "oneOf"):
        for part in schema.get(word, []):
            found.update(properties_of(part))
    return found


def fill(path, parameters):
    """The path of a request."""
    for name, value in parameters.items():
        path = path.replace("{" + name + "}", encode(value))
    return path
