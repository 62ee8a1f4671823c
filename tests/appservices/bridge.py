"""A Matrix user and an IRC user talk through heisenbridge: bridge.py PATH_TO_CONDUIT_BINARY"""

import asyncio
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

import aiohttp

from programs import LIMIT, Program, free_ports, make_server, show_logs, wait_for_server, wait_until

CHANNEL = "#bridge"


class Irc:
    """A user of the IRC server."""

    def __init__(self, port: int):
        self.port, self.heard = port, []

    async def start(self, nick: str):
        deadline = time.monotonic() + LIMIT
        while True:
            try:
                self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.1)
        self.send(f"NICK {nick}")
        self.send(f"USER {nick} 0 * :{nick}")
        self.task = asyncio.create_task(self.listen())

    def send(self, line: str):
        self.writer.write(f"{line}\r\n".encode())

    async def listen(self):
        while line := await self.reader.readline():
            text = line.decode(errors="replace").strip()
            if text.startswith("PING"):
                self.send("PONG" + text[4:])
            if " 001 " in text:
                self.send(f"JOIN {CHANNEL}")
            self.heard.append(text)

    async def wait_for(self, what: str) -> str:
        return await wait_until(lambda: next((line for line in self.heard if what in line), None), f"IRC: {what}")


class Matrix:
    """A user of the server."""

    def __init__(self, session: aiohttp.ClientSession, url: str):
        self.session, self.url, self.token, self.since, self.events, self.invites = session, url, None, None, [], set()

    async def call(self, method: str, path: str, body=None):
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        async with self.session.request(method, self.url + path, json=body, headers=headers) as response:
            answer = await response.json()
            if response.status != 200:
                raise RuntimeError(f"{method} {path}: {response.status} {answer}")
            return answer

    async def register(self, name: str):
        body = {"username": name, "password": "a long password", "auth": {"type": "m.login.dummy"}}
        answer = await self.call("POST", "/_matrix/client/v3/register", body)
        self.token, self.user_id = answer["access_token"], answer["user_id"]

    async def sync(self):
        path = "/_matrix/client/v3/sync?timeout=500" + (f"&since={self.since}" if self.since else "")
        answer = await self.call("GET", path)
        self.since = answer["next_batch"]
        for room in answer.get("rooms", {}).get("invite", {}):
            await self.call("POST", f"/_matrix/client/v3/join/{quote(room)}", {})
        for room, news in answer.get("rooms", {}).get("join", {}).items():
            for event in news.get("timeline", {}).get("events", []):
                self.events.append((room, event))

    async def wait_for(self, found, what: str):
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline:
            await self.sync()
            for room, event in self.events:
                if found(event):
                    return room, event
        raise SystemExit(f"FAILED: Matrix: {what} did not come")

    async def wait_for_text(self, text: str):
        says = lambda event: text in str(event["content"].get("body", ""))
        return await self.wait_for(says, repr(text))

    async def say(self, room: str, text: str):
        path = f"/_matrix/client/v3/rooms/{quote(room)}/send/m.room.message/{time.monotonic_ns()}"
        await self.call("PUT", path, {"msgtype": "m.text", "body": text})


async def talk(server: Program, bridge: Program, url: str, irc_port: int):
    async with aiohttp.ClientSession() as session:
        alice, eve = Matrix(session, url), Irc(irc_port)
        await alice.register("alice")
        await eve.start("eve")
        bridge.start()
        bot = "@heisenbridge:hs.test"
        body = {"preset": "trusted_private_chat", "is_direct": True, "invite": [bot]}
        control = (await alice.call("POST", "/_matrix/client/v3/createRoom", body))["room_id"]
        joined = lambda event: event.get("state_key") == bot and event["content"].get("membership") == "join"
        await alice.wait_for(joined, "the bridge's joining")
        print("ok   the bridge was invited and joined")
        await alice.say(control, "ADDNETWORK local")
        await alice.say(control, f"ADDSERVER local 127.0.0.1 {irc_port}")
        await alice.say(control, "OPEN local")
        named = lambda event: event["type"] == "m.room.name" and event["content"].get("name") == "local"
        network, _ = await alice.wait_for(named, "the room of the network")
        print("ok   the bridge made a room for the network")
        await alice.say(network, "NICK alice")
        await alice.say(network, "CONNECT")
        # It connects in its own time, and says so in words that change.
        for _ in range(LIMIT // 2):
            await alice.say(network, f"JOIN {CHANNEL}")
            await asyncio.sleep(2)
            if any(line.startswith(":alice!") and " JOIN " in line for line in eve.heard):
                break
        await eve.wait_for(":alice!")
        named = lambda event: event["type"] == "m.room.name" and CHANNEL in event["content"].get("name", "")
        channel, _ = await alice.wait_for(named, "the room of the channel")
        await alice.say(channel, "from matrix to irc")
        await eve.wait_for(f"PRIVMSG {CHANNEL} :from matrix to irc")
        print("ok   Matrix to IRC")
        eve.send(f"PRIVMSG {CHANNEL} :from irc to matrix")
        room, event = await alice.wait_for_text("from irc to matrix")
        assert room == channel and event["sender"].startswith("@irc_"), event
        print("ok   IRC to Matrix, as", event["sender"])
        server.stop()
        server.start()
        await wait_for_server(url)
        await alice.say(channel, "after a restart of the server")
        await eve.wait_for("after a restart of the server")
        print("ok   Matrix to IRC after a restart of the server")
        bridge.process.send_signal(signal.SIGSTOP)
        for number in range(5):
            await alice.say(channel, f"while the bridge hangs {number}")
        await asyncio.sleep(2)
        bridge.process.send_signal(signal.SIGCONT)
        for number in range(5):
            await eve.wait_for(f"while the bridge hangs {number}")
        texts = [line.split(" :", 1)[1] for line in eve.heard if "while the bridge hangs" in line]
        assert texts == [f"while the bridge hangs {number}" for number in range(5)], texts
        print("ok   in order and once after the bridge hung")


def main():
    binary = sys.argv[1]
    with tempfile.TemporaryDirectory(prefix="conduit-appservices-") as folder:
        folder = Path(folder)
        port, irc_port, bridge_port = free_ports(3)
        url = f"http://127.0.0.1:{port}"
        services = folder / "services"
        services.mkdir()
        registration = services / "heisenbridge.yaml"
        python = [sys.executable, "-m", "heisenbridge"]
        generate = [*python, "-c", str(registration), "-p", str(bridge_port), "--generate"]
        subprocess.run(generate, check=True, stdout=subprocess.DEVNULL)
        (folder / "ngircd.conf").write_text(
            f"[Global]\nName = irc.test.local\nInfo = Test\nListen = 127.0.0.1\nPorts = {irc_port}\n"
            f"MotdPhrase = test\n[Limits]\nMaxConnectionsIP = 0\nMaxPenaltyTime = 0\n"
            "[Options]\nDNS = no\nIdent = no\nPAM = no\n"
        )
        server = make_server(binary, folder, port, services)
        irc = Program("ngircd", folder, "ngircd", "-n", "-f", str(folder / "ngircd.conf"))
        bridge = Program("heisenbridge", folder, *python, "-v", "-c", str(registration), url)
        try:
            irc.start()
            server.start()
            asyncio.run(wait_for_server(url))
            asyncio.run(talk(server, bridge, url, irc_port))
            print("6 passed, 0 failed")
        except BaseException:
            show_logs(server, bridge, irc)
            raise
        finally:
            for program in (bridge, server, irc):
                program.stop()


if __name__ == "__main__":
    main()
