"""A whole Conduit with its users, and participants over aiortc in the calls of its rooms."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass

from meeting import PATIENCE, Peer, until

DEVICE = "DEVICE"


@dataclass
class Place:
    """Where a server is."""

    # What it listens on, and where clients reach it.
    listener: str
    url: str
    # The sections of its configuration that say where media and relay are.
    sections: str
    # What stands before its command, such as to run it in a network namespace.
    prefix: tuple = ()


def loopback():
    """A place on loopback, with free ports."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(4)]
    http, udp, tcp, relay = (one.getsockname()[1] for one in sockets)
    for one in sockets:
        one.close()
    sections = f"""[sfu]
udp_port = {udp}
tcp_port = {tcp}
listen = ["127.0.0.1"]
[turn]
listen = ["127.0.0.1"]
port = {relay}
host = "127.0.0.1"
relay_addresses = ["127.0.0.1"]
"""
    return Place(f"127.0.0.1:{http}", f"http://127.0.0.1:{http}", sections)


class Server:
    """A Conduit with a data folder of its own."""

    def __init__(self, binary, folder, place):
        self.binary, self.folder, self.place, self.process = binary, folder, place, None
        self.url = place.url
        self.config = f"""server_name = "hs.test"
data_dir = "{folder}/data"
listeners = ["{place.listener}"]
registration = "open"
[client]
public_baseurl = "{place.url}"
[calls.recording]
enabled = true
[federation]
enabled = false
[rate_limits]
enabled = false
{place.sections}"""

    def command(self, *words):
        return [*self.place.prefix, self.binary, *words, "--config", f"{self.folder}/conduit.toml"]

    async def start(self):
        with open(f"{self.folder}/conduit.toml", "w") as file:
            file.write(self.config)
        log = open(f"{self.folder}/server", "ab")
        self.process = subprocess.Popen(self.command("run"), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.close()

        def answers():
            assert self.process.poll() is None, f"the server ended by itself; see {self.folder}/server"
            try:
                return self.ask("GET", "/_matrix/client/versions")[0] == 200
            except OSError:
                return False

        await until(answers, "the server answers")

    def end(self, is_crash):
        if self.process and self.process.poll() is None:
            self.process.kill() if is_crash else self.process.terminate()
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise

    def ask(self, method, path, body=None, token=None):
        """Status and body of the answer: JSON, or bytes."""
        headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                status, kind, content = answer.status, answer.headers.get("content-type", ""), answer.read()
        except urllib.error.HTTPError as error:
            status, kind, content = error.code, error.headers.get("content-type", ""), error.read()
        return status, json.loads(content) if "json" in kind else content


class User:
    """Somebody with an account."""

    def __init__(self, server, name):
        self.server, self.name = server, name
        body = {"username": name, "password": "not-a-secret-1", "device_id": DEVICE, "auth": {"type": "m.login.dummy"}}
        status, answer = server.ask("POST", "/_matrix/client/v3/register", body)
        assert status == 200, answer
        self.token, self.id = answer["access_token"], answer["user_id"]

    def ask(self, method, path, body=None):
        return self.server.ask(method, path, body, self.token)

    def must(self, method, path, body=None):
        status, answer = self.ask(method, "/_matrix/client/v3" + path, body)
        assert status == 200, f"{path}: {status} {answer}"
        return answer

    def create_room(self, **options):
        return self.must("POST", "/createRoom", {"preset": "public_chat", **options})["room_id"]


class Guest(Peer):
    """A participant in the call of a room, with a token as Element Call asks for it."""

    def __init__(self, user, room):
        super().__init__(user.server.url, room, f"{user.id}:{DEVICE}")
        self.user = user

    async def entrance(self):
        openid = self.user.must("POST", f"/user/{quote(self.user.id)}/openid/request_token", {})
        body = {"room": self.room, "openid_token": openid, "device_id": DEVICE}
        status, access = self.user.ask("POST", "/_rtc/jwt/sfu/get", body)
        assert status == 200, access
        return access["url"], access["jwt"]


def quote(text):
    return urllib.parse.quote(text, safe="")


class Run:
    """Counts what passes."""

    passed = failed = 0

    async def step(self, what, work):
        if await self.attempt(what, work):
            self.add([f"ok   {what}"])

    async def attempt(self, what, work):
        """Whether it was done; counted is only what was not."""
        try:
            await work
            return True
        except Exception as error:  # whatever it is, it has failed
            self.add([f"FAIL {what}: {type(error).__name__} {error}"])
            return False

    def add(self, lines):
        """Counts and prints lines that begin with "ok" or "FAIL"."""
        for line in lines:
            self.passed, self.failed = self.passed + line.startswith("ok"), self.failed + line.startswith("FAIL")
            print(line, flush=True)


def play(main):
    """Runs what a script does, with its arguments, and ends the process: `main` gives whether anything failed. Who is told
    to end takes away what it started, too.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(1 if asyncio.run(main(*sys.argv[1:])) else 0)
