"""A user's device: the client-server API over HTTPS."""

import http.client
import itertools
import json
import ssl
import time
from urllib.parse import quote, urlencode

from mirror import Mirror

REQUEST_SECONDS = 90
# How long anything may take to get from one server to the other.
WAIT_SECONDS = 30


class Refused(Exception):
    """An answer that is not 2xx."""

    def __init__(self, method, path, status, answer):
        self.status = status
        self.errcode = answer.get("errcode") if isinstance(answer, dict) else None
        super().__init__(f"{method} {path.split('?')[0]} was answered {status} {json.dumps(answer)[:300]}")


class Late(Exception):
    """Something did not come to pass in time."""


def connect(server, seconds=REQUEST_SECONDS):
    trust = ssl.create_default_context(cafile=str(server.authority.certificate))
    return http.client.HTTPSConnection(server.host, server.port, timeout=seconds, context=trust)


def request_once(server, method, path, body=None, token=None):
    """One request on a connection of its own. Returns the status and the JSON."""
    connection = connect(server)
    try:
        headers = {"Content-Type": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"{}")
    except (http.client.HTTPException, ValueError) as error:
        raise OSError(str(error)) from error
    finally:
        connection.close()


def encode(part):
    return quote(part, safe="")


class Client:
    """A logged-in device. Not for use by several threads at a time."""

    transactions = itertools.count(1)

    def __init__(self, server, user_id, token, device_id):
        self.server, self.user_id, self.token, self.device_id = server, user_id, token, device_id
        self.connection = None
        self.mirror = Mirror(self)

    def __str__(self):
        return f"{self.user_id} ({self.server.kind})"

    # Requests

    def send_request(self, method, path, content, headers):
        """Sends on the kept connection, on a new one when the server has closed that. Returns the answer, unread."""
        for attempt in (1, 2):
            fresh = self.connection is None
            if fresh:
                self.connection = connect(self.server)
            try:
                self.connection.request(method, path, content, headers)
                return self.connection.getresponse()
            except (http.client.HTTPException, OSError) as error:
                self.close()
                if fresh or attempt == 2 or isinstance(error, TimeoutError):
                    raise OSError(f"{method} {path.split('?')[0]}: {error!r}") from error
        raise AssertionError

    def close(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def raw(self, method, path, content=None, kind="application/json", query=None):
        """A request in bytes. Returns status, headers and bytes."""
        if query:
            path = f"{path}?{urlencode(query, doseq=True)}"
        headers = {"Authorization": f"Bearer {self.token}"}
        if content is not None:
            headers["Content-Type"] = kind
        answer = self.send_request(method, path, content, headers)
        try:
            return answer.status, answer.headers, answer.read()
        except (http.client.HTTPException, OSError) as error:
            self.close()
            raise OSError(f"{method} {path.split('?')[0]}: {error!r}") from error

    def ask(self, method, path, body=None, query=None):
        """A request in JSON below /_matrix/client. Raises `Refused` unless the answer is 2xx."""
        path = f"/_matrix/client{path}"
        if body is None and method in ("POST", "PUT"):
            body = {}
        content = None if body is None else json.dumps(body).encode()
        status, _, data = self.raw(method, path, content, query=query)
        try:
            answer = json.loads(data or b"{}")
        except ValueError:
            answer = data.decode(errors="replace")
        if status // 100 != 2:
            raise Refused(method, path, status, answer)
        return answer

    def get(self, path, **query):
        return self.ask("GET", path, query=query)

    def post(self, path, body=None, **query):
        return self.ask("POST", path, body, query)

    def put(self, path, body=None, **query):
        return self.ask("PUT", path, body, query)

    @staticmethod
    def room(room_id, *parts):
        return "/".join(["/v3/rooms", encode(room_id), *map(encode, parts)])

    # Membership

    def create_room(self, **content):
        return self.post("/v3/createRoom", content)["room_id"]

    def invite(self, room_id, user, **more):
        self.post(self.room(room_id, "invite"), {"user_id": user.user_id, **more})

    def join(self, room, via=None, **content):
        """`room` is an id or an alias; `via` is the server to go by."""
        query = {"server_name": via.name, "via": via.name} if via else {}
        return self.post(f"/v3/join/{encode(room)}", content, **query)["room_id"]

    def knock(self, room, via, reason):
        query = {"server_name": via.name, "via": via.name}
        return self.post(f"/v3/knock/{encode(room)}", {"reason": reason}, **query)["room_id"]

    def leave(self, room_id):
        self.post(self.room(room_id, "leave"))

    def forget(self, room_id):
        self.post(self.room(room_id, "forget"))

    def kick(self, room_id, user, reason="because"):
        self.post(self.room(room_id, "kick"), {"user_id": user.user_id, "reason": reason})

    def ban(self, room_id, user, reason="because"):
        self.post(self.room(room_id, "ban"), {"user_id": user.user_id, "reason": reason})

    def unban(self, room_id, user):
        self.post(self.room(room_id, "unban"), {"user_id": user.user_id})

    # Events

    def send(self, room_id, kind, content, transaction=None):
        transaction = transaction or f"t{next(self.transactions)}"
        return self.put(self.room(room_id, "send", kind, transaction), content)["event_id"]

    def say(self, room_id, text, transaction=None, **more):
        return self.send(room_id, "m.room.message", {"msgtype": "m.text", "body": text, **more}, transaction)

    def redact(self, room_id, event_id, reason="gone"):
        path = self.room(room_id, "redact", event_id, f"t{next(self.transactions)}")
        return self.put(path, {"reason": reason})["event_id"]

    def set_state(self, room_id, kind, content, key=""):
        return self.put(self.room(room_id, "state", kind, key), content)["event_id"]

    def get_state(self, room_id, kind, key=""):
        return self.get(self.room(room_id, "state", kind, key))

    def full_state(self, room_id):
        """The current state as a map of (type, state key) to event."""
        return {(event["type"], event["state_key"]): event for event in self.get(self.room(room_id, "state"))}

    def event(self, room_id, event_id):
        return self.get(self.room(room_id, "event", event_id))

    def history(self, room_id, most=3000, page=100):
        """The timeline, oldest first, by going back to its beginning."""
        events, token = [], None
        for _ in range(200):  # pages, in case that they never end
            query = {"dir": "b", "limit": page}
            if token:
                query["from"] = token
            answer = self.get(self.room(room_id, "messages"), **query)
            events += answer["chunk"]
            following = answer.get("end")
            if not following or following == token or len(events) >= most:
                break
            token = following
        return events[::-1]

    # Ephemeral

    def typing(self, room_id, typing=True):
        body = {"typing": True, "timeout": 60000} if typing else {"typing": False}
        self.put(self.room(room_id, "typing", self.user_id), body)

    def receipt(self, room_id, event_id, kind="m.read", thread=None):
        body = {"thread_id": thread} if thread else {}
        self.post(self.room(room_id, "receipt", kind, event_id), body)

    # Waiting

    def until(self, what, test, seconds=WAIT_SECONDS):
        """Syncs until `test` returns something true, which is returned."""
        deadline = time.monotonic() + seconds
        while True:
            found = test()
            if found:
                return found
            left = deadline - time.monotonic()
            if left <= 0:
                raise Late(f"{self} has not seen in {seconds} s: {what}")
            self.mirror.sync(min(left, 5))

    def until_event(self, room_id, event_id):
        """Syncs until the timeline has the event, which is returned."""
        return self.until(f"event {event_id}", lambda: self.mirror.room(room_id).events.get(event_id))

    def until_member(self, room_id, user, membership):
        """Syncs until the member event of `user` says `membership`; returns the event."""

        def test():
            event = self.mirror.room(room_id).state.get(("m.room.member", user.user_id))
            return event if event and event["content"].get("membership") == membership else None

        return self.until(f"{user.user_id} {membership} in {room_id}", test)

    def until_self(self, room_id, membership):
        """Syncs until one's own membership, as the sync lists it, is `membership`."""
        what = f"own membership {membership} in {room_id}"
        return self.until(what, lambda: self.mirror.room(room_id).membership == membership)

    def until_state(self, room_id, kind, test, key=""):
        """Syncs until the content of a state event passes `test`; returns the event."""

        def found():
            event = self.mirror.room(room_id).state.get((kind, key))
            return event if event and test(event["content"]) else None

        return self.until(f"{kind} as wanted in {room_id}", found)


def poll(what, test, seconds=WAIT_SECONDS):
    """Asks again and again until `test` returns something true, which is returned."""
    deadline = time.monotonic() + seconds
    while True:
        found = test()
        if found:
            return found
        if time.monotonic() > deadline:
            raise Late(f"not within {seconds} s: {what}")
        time.sleep(0.3)
