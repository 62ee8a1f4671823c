"""A homeserver that only does what the measurements need: it answers what other servers ask about its keys and its
rooms, and sends them requests that it signs."""

import http.client
import json
import secrets
import socketserver
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler
from urllib.parse import quote, unquote, urlsplit

from events import ROOM_VERSION, Branch, Identity, canonical, event_id_of

LONG_SECONDS = 1800


class LargeRoom:
    """A public room of this server with as many members as wanted, all of them of this server."""

    def __init__(self, identity, members):
        self.identity, self.members = identity, members
        self.room_id = f"!{secrets.token_hex(9)}:{identity.name}"
        creator = f"@creator:{identity.name}"
        branch = Branch(identity, self.room_id)
        create_id, create = branch.add("m.room.create", creator, {"room_version": ROOM_VERSION}, [], "")
        owner_id, owner = branch.add("m.room.member", creator, {"membership": "join"}, [create_id], creator)
        levels = {"users": {creator: 100}, "users_default": 0}
        levels_id, powers = branch.add("m.room.power_levels", creator, levels, [create_id, owner_id], "")
        auth = [create_id, owner_id, levels_id]
        rules_id, rules = branch.add("m.room.join_rules", creator, {"join_rule": "public"}, auth, "")
        _, visible = branch.add("m.room.history_visibility", creator, {"history_visibility": "shared"}, auth, "")
        self.join_auth = [create_id, levels_id, rules_id]
        state = [create, owner, powers, rules, visible]
        for number in range(1, members):
            user = f"@member-{number:06}:{identity.name}"
            content = {"membership": "join", "displayname": f"Member {number}"}
            state.append(branch.add("m.room.member", user, content, self.join_auth, user)[1])
        self.prev, self.depth = branch.prev, branch.depth
        self.events = {create_id: create, owner_id: owner, levels_id: powers, rules_id: rules}
        lists = {"auth_chain": [create, owner, powers, rules], "state": state}
        # The answer to send_join but for the join itself, written once: serving it is not what is measured.
        self.answer = b'{"members_omitted":false,"origin":"' + identity.name.encode() + b'",'
        self.answer += canonical(lists)[1:-1] + b',"event":'

    def template(self, user):
        """What make_join answers."""
        event = {
            "type": "m.room.member",
            "room_id": self.room_id,
            "sender": user,
            "state_key": user,
            "content": {"membership": "join"},
            "depth": self.depth + 1,
            "prev_events": self.prev,
            "auth_events": self.join_auth,
            "origin_server_ts": int(time.time() * 1000),
        }
        return {"room_version": ROOM_VERSION, "event": event}


class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    origin = None

    def log_message(self, *_):
        pass

    def reply(self, status, *parts):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(sum(map(len, parts))))
        self.end_headers()
        for part in parts:
            self.wfile.write(part)

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urlsplit(self.path).path
        steps = [unquote(step) for step in path.strip("/").split("/")]
        self.origin.note(f"{self.command} {'/'.join(steps[1:4])}")
        match [self.command, *steps[1:]]:
            case ["GET", "key", "v2", "server", *_]:
                self.reply(200, canonical(self.origin.identity.keys()))
            case ["GET", "federation", "v1", "make_join", room_id, user] if room_id in self.origin.rooms:
                self.reply(200, canonical(self.origin.rooms[room_id].template(user)))
            case ["PUT", "federation", "v2", "send_join", room_id, _] if room_id in self.origin.rooms:
                self.reply(200, self.origin.rooms[room_id].answer, canonical(json.loads(body)), b"}")
            case ["PUT", "federation", "v1", "send", _]:
                self.reply(200, b'{"pdus":{}}')
            case ["GET", "federation", "v1", "event", event_id]:
                self.reply_event(event_id)
            case ["GET", "federation", "v1", "backfill", _]:
                empty = {"origin": self.origin.identity.name, "origin_server_ts": 1, "pdus": []}
                self.reply(200, canonical(empty))
            case ["POST", "federation", "v1", "get_missing_events", _]:
                self.reply(200, b'{"events":[]}')
            case ["GET", "federation", "v1", "query", "profile"]:
                self.reply(200, b"{}")
            case ["GET", "federation", "v1", "user", "devices", user]:
                self.reply(200, canonical({"user_id": user, "stream_id": 1, "devices": []}))
            case ["POST", "federation", "v1", "user", "keys", "query"]:
                self.reply(200, b'{"device_keys":{}}')
            case _:
                self.reply(404, b'{"errcode":"M_UNRECOGNIZED","error":"not served here"}')

    do_GET = do_PUT = do_POST = answer

    def reply_event(self, event_id):
        found = [room.events[event_id] for room in self.origin.rooms.values() if event_id in room.events]
        if not found:
            self.reply(404, b'{"errcode":"M_NOT_FOUND","error":"no such event"}')
            return
        answer = {"origin": self.origin.identity.name, "origin_server_ts": 1, "pdus": found}
        self.reply(200, canonical(answer))


class Listener(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128
    context = None

    def get_request(self):
        connection, address = super().get_request()
        # The handshake is left to the thread that serves the connection.
        return self.context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, *_):
        pass


class Origin:
    """See the module. Listens at a loopback address of its own."""

    def __init__(self, number, folder, authority):
        self.host = f"127.0.0.{number}"
        folder = folder / f"{number}-origin"
        folder.mkdir(parents=True)
        certificate, key = authority.issue(self.host, folder)
        self.trust = ssl.create_default_context(cafile=str(authority.certificate))
        answers = type("AnswersOfOrigin", (Answers,), {"origin": self})
        self.listener = Listener((self.host, 0), answers)
        self.listener.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.listener.context.load_cert_chain(certificate, key)
        self.identity = Identity(f"{self.host}:{self.listener.server_address[1]}")
        self.rooms = {}
        self.asked = {}
        self.connection = None
        threading.Thread(target=self.listener.serve_forever, daemon=True, name="origin").start()

    def note(self, what):
        self.asked[what] = self.asked.get(what, 0) + 1

    def add_room(self, members):
        room = LargeRoom(self.identity, members)
        self.rooms[room.room_id] = room
        return room

    def request(self, server, method, path, content=None):
        """Sends a signed request to a server on the kept connection. Returns the JSON."""
        headers = {"Authorization": self.identity.authorization(server.name, method, path, content)}
        headers |= {"Host": server.name, "Content-Type": "application/json"}
        body = None if content is None else canonical(content)
        if self.connection is None:
            self.connection = http.client.HTTPSConnection(
                server.host, server.port, timeout=LONG_SECONDS, context=self.trust
            )
        self.connection.request(method, path, body, headers)
        answer = self.connection.getresponse()
        data = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{server}: {method} {path.split('?')[0]}: {answer.status} {data[:300]!r}")
        return json.loads(data)

    def close(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def join(self, server, room_id, user):
        """Joins a user of this server. Returns the branch that goes on from there and what authorises messages."""
        room, who = quote(room_id, safe=""), quote(user, safe="")
        template = self.request(
            server, "GET", f"/_matrix/federation/v1/make_join/{room}/{who}?ver={ROOM_VERSION}"
        )
        event = template["event"]
        event["origin_server_ts"] = int(time.time() * 1000)
        event_id = self.identity.seal(event)
        path = f"/_matrix/federation/v2/send_join/{room}/{quote(event_id, safe='')}"
        answer = self.request(server, "PUT", path, event)
        state = {(part["type"], part["state_key"]): event_id_of(part) for part in answer["state"]}
        auth = [state["m.room.create", ""], state["m.room.power_levels", ""], event_id]
        return Branch(self.identity, room_id, event["depth"], [event_id]), auth
