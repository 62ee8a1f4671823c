"""A server that is already running, accounts and rooms on it, and counting what was checked."""

import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request

# How long something may take to come, in seconds.
LIMIT = 60
URL = os.environ["HOMESERVER"]
SERVER = URL.removeprefix("http://")
PASSWORD = "a long word of the test"


def quote(text: str) -> str:
    return urllib.parse.quote(text, safe="")


def call(method: str, path: str, body=None, token: str | None = None, kind="application/json"):
    """The status and the JSON of an answer; of another one its text."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    request = urllib.request.Request(URL + path, data, {"Content-Type": kind}, method=method)
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=LIMIT) as response:
            status, text = response.status, response.read()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read()
    try:
        return status, json.loads(text)
    except ValueError:
        return status, text.decode(errors="replace")


def must(method: str, path: str, body=None, token: str | None = None, **more):
    """The JSON of an answer that has to be 200."""
    status, answer = call(method, path, body, token, **more)
    if status != 200:
        raise SystemExit(f"FAILED: {method} {path}: {status} {answer}")
    return answer


class User:
    """An account with a session. The first one that is made is the administrator."""

    def __init__(self, name: str):
        auth = {"type": "m.login.dummy"}
        made = must("POST", "/_matrix/client/v3/register", {"username": name, "password": PASSWORD, "auth": auth})
        self.id, self.token, self.device, self.name = made["user_id"], made["access_token"], made["device_id"], name

    def client(self, method: str, path: str, body=None):
        return must(method, f"/_matrix/client/v3{path}", body, self.token)

    def create_room(self, **content) -> str:
        return self.client("POST", "/createRoom", {"preset": "public_chat", **content})["room_id"]

    def join(self, room: str):
        self.client("POST", f"/join/{quote(room)}", {})

    def send(self, room: str, text: str, **content) -> str:
        path = f"/rooms/{quote(room)}/send/m.room.message/{time.monotonic_ns()}"
        return self.client("PUT", path, {"msgtype": "m.text", "body": text, **content})["event_id"]

    def upload(self, name: str) -> str:
        path = f"/_matrix/media/v3/upload?filename={name}"
        return must("POST", path, name.encode() * 100, self.token, kind="text/plain")["content_uri"]


class Checks:
    """Counts what was checked. A failure is told and the run goes on."""

    def __init__(self):
        self.passed, self.failed = 0, 0

    def that(self, what: str, holds, seen=None):
        if holds:
            self.passed += 1
            return
        self.failed += 1
        print(f"FAILED: {what}" + ("" if seen is None else f": {str(seen)[:500]}"), flush=True)

    def equal(self, what: str, seen, expected):
        self.that(what, seen == expected, f"{seen!r}, not {expected!r}")

    def attempt(self, what: str, work):
        """What the work gives; that it raises is a failure and gives None."""
        try:
            return work()
        except Exception as error:  # noqa: BLE001: whatever a tool makes of an answer
            self.that(what, False, repr(error))
            return None

    def end(self):
        print(f"{self.passed} passed, {self.failed} failed")
        raise SystemExit(1 if self.failed else 0)


def wait_until(found, what: str):
    """What `found` gives, once that is something."""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        value = found()
        if value:
            return value
        time.sleep(0.1)
    raise SystemExit(f"FAILED: {what} did not come")
