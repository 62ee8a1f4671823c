"""Events as servers sign and hash them, for room version 11 (Server-Server API §Signing Events, Room Version 11)."""

import base64
import hashlib
import json
import time

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ROOM_VERSION = "11"
KEY_ID = "ed25519:1"

KEPT_OF_EVENT = {
    "auth_events", "content", "depth", "hashes", "origin_server_ts", "prev_events", "room_id", "sender", "signatures",
    "state_key", "type",
}  # fmt: skip
KEPT_OF_CONTENT = {
    "m.room.member": {"membership", "join_authorised_via_users_server"},
    "m.room.join_rules": {"join_rule", "allow"},
    "m.room.power_levels": {
        "ban", "events", "events_default", "invite", "kick", "redact", "state_default", "users", "users_default",
    },
    "m.room.history_visibility": {"history_visibility"},
    "m.room.redaction": {"redacts"},
}  # fmt: skip


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def base64_of(data):
    return base64.b64encode(data).decode().rstrip("=")


def without(value, *names):
    return {name: part for name, part in value.items() if name not in names}


def redact(event):
    """The event as it is after a redaction."""
    kept = {name: part for name, part in event.items() if name in KEPT_OF_EVENT}
    if event["type"] != "m.room.create":
        names = KEPT_OF_CONTENT.get(event["type"], ())
        kept["content"] = {name: part for name, part in event["content"].items() if name in names}
    return kept


def event_id_of(event):
    digest = hashlib.sha256(canonical(without(redact(event), "signatures"))).digest()
    return "$" + base64.urlsafe_b64encode(digest).decode().rstrip("=")


class Identity:
    """A server's name and signing key."""

    def __init__(self, name):
        self.name = name
        self.secret = Ed25519PrivateKey.generate()
        self.public = base64_of(self.secret.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))

    def sign(self, value):
        """Signs an object that is no event."""
        signature = base64_of(self.secret.sign(canonical(without(value, "signatures", "unsigned"))))
        value.setdefault("signatures", {}).setdefault(self.name, {})[KEY_ID] = signature
        return value

    def seal(self, event):
        """Hashes and signs an event in place. Returns its id."""
        bare = without(event, "hashes", "signatures", "unsigned")
        event["hashes"] = {"sha256": base64_of(hashlib.sha256(canonical(bare)).digest())}
        covered = canonical(without(redact(event), "signatures"))
        event["signatures"] = {self.name: {KEY_ID: base64_of(self.secret.sign(covered))}}
        # The id covers the same bytes as the signature.
        return "$" + base64.urlsafe_b64encode(hashlib.sha256(covered).digest()).decode().rstrip("=")

    def keys(self):
        """What `/_matrix/key/v2/server` answers."""
        valid = int(time.time() * 1000) + 24 * 60 * 60 * 1000
        return self.sign(
            {
                "server_name": self.name,
                "verify_keys": {KEY_ID: {"key": self.public}},
                "old_verify_keys": {},
                "valid_until_ts": valid,
            }
        )

    def authorization(self, destination, method, path, content=None):
        """The X-Matrix header of a request."""
        request = {"method": method, "uri": path, "origin": self.name, "destination": destination}
        if content is not None:
            request["content"] = content
        signature = base64_of(self.secret.sign(canonical(request)))
        return (
            f'X-Matrix origin="{self.name}",destination="{destination}",key="{KEY_ID}",sig="{signature}"'
        )


class Branch:
    """The end of a room's history, to which one server adds events."""

    def __init__(self, identity, room_id, depth=0, prev=()):
        self.identity, self.room_id = identity, room_id
        self.depth, self.prev = depth, list(prev)

    def add(self, kind, sender, content, auth, state_key=None):
        """The next event, sealed, and its id."""
        self.depth += 1
        event = {
            "type": kind,
            "room_id": self.room_id,
            "sender": sender,
            "content": content,
            "depth": self.depth,
            "prev_events": self.prev,
            "auth_events": list(auth),
            "origin_server_ts": int(time.time() * 1000),
        }
        if state_key is not None:
            event["state_key"] = state_key
        event_id = self.identity.seal(event)
        self.prev = [event_id]
        return event_id, event
