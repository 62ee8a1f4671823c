"""Device keys and their signatures, for clients that encrypt nothing."""

import base64
import json
import os

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ALGORITHMS = ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"]


def base64_of(data):
    return base64.b64encode(data).decode().rstrip("=")


class SigningKey:
    def __init__(self):
        self.secret = Ed25519PrivateKey.generate()
        self.public = base64_of(self.secret.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))

    def sign(self, content, user_id, key_id):
        """Adds a signature to a JSON object."""
        bare = {name: value for name, value in content.items() if name not in ("signatures", "unsigned")}
        data = json.dumps(bare, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        signature = base64_of(self.secret.sign(data))
        content.setdefault("signatures", {}).setdefault(user_id, {})[f"ed25519:{key_id}"] = signature
        return content


class DeviceKeys:
    """The keys of a client's device."""

    def __init__(self, client):
        self.client = client
        self.signing = SigningKey()
        self.identity = base64_of(os.urandom(32))

    def device(self):
        user, device = self.client.user_id, self.client.device_id
        keys = {f"curve25519:{device}": self.identity, f"ed25519:{device}": self.signing.public}
        content = {"user_id": user, "device_id": device, "algorithms": ALGORITHMS, "keys": keys}
        return self.signing.sign(content, user, device)

    def one_time(self, number, prefix="k"):
        """So many signed one-time keys by their ids."""
        return {
            f"signed_curve25519:{prefix}{index}": self.signing.sign(
                {"key": base64_of(os.urandom(32))}, self.client.user_id, self.client.device_id
            )
            for index in range(number)
        }

    def fallback(self):
        content = {"key": base64_of(os.urandom(32)), "fallback": True}
        return {"signed_curve25519:f0": self.signing.sign(content, self.client.user_id, self.client.device_id)}

    def upload(self, one_time=None, fallback=None):
        body = {"device_keys": self.device(), "one_time_keys": one_time or {}, "fallback_keys": fallback or {}}
        return self.client.post("/v3/keys/upload", body)


class CrossSigning:
    """The cross-signing keys of a user."""

    def __init__(self, client):
        self.client = client
        self.master, self.self_signing, self.user_signing = SigningKey(), SigningKey(), SigningKey()

    def key(self, which, signing):
        user = self.client.user_id
        content = {"user_id": user, "usage": [which], "keys": {f"ed25519:{signing.public}": signing.public}}
        return content if which == "master" else self.master.sign(content, user, self.master.public)

    def upload(self):
        body = {
            "master_key": self.key("master", self.master),
            "self_signing_key": self.key("self_signing", self.self_signing),
            "user_signing_key": self.key("user_signing", self.user_signing),
            "auth": {
                "type": "m.login.password",
                "identifier": {"type": "m.id.user", "user": self.client.user_id},
                "password": "correct horse battery",
            },
        }
        self.client.post("/v3/keys/device_signing/upload", body)

    def sign_device(self, device_keys):
        """Signs a device by the self-signing key and uploads the signature."""
        user, device = self.client.user_id, device_keys["device_id"]
        signed = self.self_signing.sign(dict(device_keys), user, self.self_signing.public)
        self.client.post("/v3/keys/signatures/upload", {user: {device: signed}})
