#!/usr/bin/env python3
"""Measures how the cost of operations grows with rooms, members, history and waiting clients.

    growth.py --base URL --pid PID [--only DIMENSION] [--percent N] > growth.jsonl

Acts as clients of a server on loopback whose registration is open and whose rate limits are off, and prints one JSON
object a line. Every dimension is measured at a small and a large size, on users and rooms of its own. Everything is
bounded: numbers of operations by constants, waiting by timeouts. Needs nothing but the standard library.
"""

import argparse
import asyncio
import itertools
import json
import os
import time
import urllib.parse

FILTER = urllib.parse.quote('{"room":{"timeline":{"limit":10},"state":{"lazy_load_members":true}}}')
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
REQUEST_TIMEOUT = 120
WORKERS = 16

SENDS = 2000
IDLE_SYNCS = 2000
NEWS_SYNCS = 500
IDLE_SECS = 10
SETTLE = 1.0


class Connection:
    """One keep-alive HTTP/1.1 connection; one request at a time."""

    def __init__(self, host, port):
        self.host, self.port = host, port
        self.reader = self.writer = None

    async def request(self, method, path, token=None, body=None):
        """The status and the body of the answer."""
        return await asyncio.wait_for(self.exchange(method, path, token, body), REQUEST_TIMEOUT)

    async def exchange(self, method, path, token, body):
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection(self.host, self.port, limit=1 << 20)
        content = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nContent-Length: {len(content)}\r\n"
        if token:
            head += f"Authorization: Bearer {token}\r\n"
        self.writer.write(head.encode() + b"Content-Type: application/json\r\n\r\n" + content)
        answer = await self.reader.readuntil(b"\r\n\r\n")
        status = int(answer[9:12])
        headers = answer.lower()
        at = headers.find(b"\r\ncontent-length:")
        if at >= 0:
            length = int(headers[at + 17 : headers.index(b"\r\n", at + 2)])
            return status, await self.reader.readexactly(length)
        chunks = []
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            chunks.append((await self.reader.readexactly(size + 2))[:-2])
        await self.reader.readuntil(b"\r\n")
        return status, b"".join(chunks)

    def close(self):
        if self.writer is not None:
            self.writer.close()
            self.reader = self.writer = None


class Server:
    """The server under test: a pool of connections, its process, and the calls that are measured."""

    def __init__(self, base, pid):
        url = urllib.parse.urlsplit(base)
        if url.hostname not in ("127.0.0.1", "localhost", "::1"):
            raise SystemExit("only a server on loopback may be loaded")
        self.address = (url.hostname, url.port)
        self.pid = pid
        self.connections = []
        self.numbers = itertools.count()
        self.names = f"g{int(time.time()) % 10_000_000}u"

    async def call(self, method, path, token=None, body=None):
        while True:
            connection = self.connections.pop() if self.connections else Connection(*self.address)
            is_kept = connection.writer is not None
            try:
                status, content = await connection.request(method, path, token, body)
                break
            except BaseException as error:
                connection.close()
                # A server may close what nobody used for a while: on to the next one.
                if not (is_kept and isinstance(error, (asyncio.IncompleteReadError, ConnectionError))):
                    raise
        self.connections.append(connection)
        if status != 200:
            raise RuntimeError(f"{method} {path[:80]}: {status} {content[:200]!r}")
        return json.loads(content)

    def cpu_secs(self):
        with open(f"/proc/{self.pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND

    def resident_mib(self):
        with open(f"/proc/{self.pid}/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 1048576

    async def register(self):
        body = {"username": f"{self.names}{next(self.numbers)}", "password": "growth-Pw-4711", "auth": {"type": "m.login.dummy"}}
        answer = await self.call("POST", "/_matrix/client/v3/register", body=body)
        return answer["user_id"], answer["access_token"]

    async def create_room(self, user):
        body = {"preset": "public_chat", "room_version": "11"}
        return (await self.call("POST", "/_matrix/client/v3/createRoom", user[1], body))["room_id"]

    async def join(self, user, room):
        await self.call("POST", f"/_matrix/client/v3/join/{room}", user[1], {})

    async def send(self, user, room, text="a message of a usual length"):
        path = f"/_matrix/client/v3/rooms/{room}/send/m.room.message/t{next(self.numbers)}"
        await self.call("PUT", path, user[1], {"msgtype": "m.text", "body": text})

    async def sync(self, user, since=None, timeout=0):
        path = f"/_matrix/client/v3/sync?filter={FILTER}&timeout={timeout}"
        if since:
            path += "&since=" + urllib.parse.quote(since)
        return await self.call("GET", path, user[1])

    async def position(self, user):
        return (await self.sync(user))["next_batch"]


async def run_all(count, workers, operation):
    """Runs operation(0) … operation(count - 1), some at once: latencies in ms, and how many failed."""
    numbers, latencies, failures = iter(range(count)), [], []

    async def work():
        for number in numbers:
            begun = time.perf_counter()
            try:
                await operation(number)
                latencies.append((time.perf_counter() - begun) * 1000)
            except (RuntimeError, OSError, asyncio.TimeoutError, asyncio.IncompleteReadError) as error:
                failures.append(repr(error))

    await asyncio.gather(*(work() for _ in range(workers)))
    return latencies, failures


async def set_up(count, operation):
    _, failures = await run_all(count, WORKERS, operation)
    if failures:
        raise RuntimeError(f"{len(failures)} operations of the set-up failed: {failures[0]}")


def report(server, dimension, size, op, latencies, failures, cpu, per=1):
    latencies = sorted(latencies) or [0.0]
    operations = max(len(latencies) * per, 1)
    line = {
        "dimension": dimension,
        "size": size,
        "op": op,
        "count": operations,
        "errors": len(failures),
        "cpu_ms_per_op": round(cpu * 1000 / operations, 4),
        "p50": round(latencies[len(latencies) // 2], 2),
        "p99": round(latencies[min(len(latencies) - 1, len(latencies) * 99 // 100)], 2),
        "rss_mib": round(server.resident_mib(), 1),
    }
    if failures:
        line["first_error"] = failures[0][:300]
    print(json.dumps(line), flush=True)


async def measure(server, dimension, size, op, count, workers, operation):
    await asyncio.sleep(SETTLE)
    begun = server.cpu_secs()
    latencies, failures = await run_all(count, workers, operation)
    await asyncio.sleep(SETTLE)
    report(server, dimension, size, op, latencies, failures, server.cpu_secs() - begun)


async def measure_usual(server, dimension, size, writers, reader, rooms):
    """Sends, syncs without news, and syncs with one new message, in what has been set up."""

    async def send(number):
        await server.send(writers[number % len(writers)], rooms[number % len(rooms)])

    await measure(server, dimension, size, "send", SENDS, WORKERS, send)
    since = await server.position(reader)

    async def sync_without_news(_):
        nonlocal since
        since = (await server.sync(reader, since))["next_batch"]

    await measure(server, dimension, size, "sync without news", IDLE_SYNCS, 1, sync_without_news)

    async def send_and_sync(number):
        nonlocal since
        await server.send(writers[0], rooms[number % len(rooms)])
        answer = await server.sync(reader, since, 5000)
        since = answer["next_batch"]
        if "join" not in answer.get("rooms", {}):
            raise RuntimeError("the message did not come")

    await measure(server, dimension, size, "send and sync", NEWS_SYNCS, 1, send_and_sync)


async def grow_rooms(server, users, sizes):
    for size in sizes:
        writer, reader = await server.register(), await server.register()
        rooms = []

        async def make(_):
            room = await server.create_room(writer)
            await server.join(reader, room)
            rooms.append(room)

        await set_up(size, make)
        await measure_usual(server, "rooms of a user", size, [writer], reader, rooms)


async def grow_history(server, users, sizes):
    for size in sizes:
        pair = users[:2]
        room = await server.create_room(pair[0])
        await server.join(pair[1], room)
        await set_up(size, lambda number: server.send(pair[number % 2], room))
        await measure_usual(server, "events in a room", size, pair[:1], pair[1], [room])


async def grow_members(server, users, sizes):
    for size in sizes:
        room = await server.create_room(users[0])
        await set_up(size - 1, lambda number: server.join(users[number + 1], room))
        await measure_usual(server, "members of a room", size, users[:8], users[9], [room])


class Crowd:
    """Clients that are always in /sync, and how many answers with news they got."""

    def __init__(self, server):
        self.server = server
        self.tasks = []
        self.arrived = self.expected = 0
        self.complete = asyncio.Event()

    async def gather(self, users):
        for user in users:
            self.tasks.append(asyncio.create_task(self.stay(user)))
            # A few at a time: each begins with an initial sync.
            if len(self.tasks) % 50 == 0:
                await asyncio.sleep(0.2)
        await asyncio.sleep(3)

    async def stay(self, user):
        connection = Connection(*self.server.address)
        path = f"/_matrix/client/v3/sync?filter={FILTER}&timeout=60000&since="
        since = await self.server.position(user)
        try:
            while True:
                status, content = await connection.request("GET", path + urllib.parse.quote(since), user[1])
                if status != 200:
                    raise RuntimeError(f"/sync: {status}")
                answer = json.loads(content)
                since = answer["next_batch"]
                if "join" in answer.get("rooms", {}):
                    self.arrived += 1
                    if self.arrived >= self.expected:
                        self.complete.set()
        finally:
            connection.close()

    async def deliver(self, sender, room):
        """Sends one message and waits until everybody has it."""
        self.arrived, self.expected = 0, len(self.tasks)
        self.complete.clear()
        await self.server.send(sender, room)
        await asyncio.wait_for(self.complete.wait(), 60)

    def failures(self):
        return [repr(task.exception()) for task in self.tasks if task.done() and not task.cancelled()]

    async def disperse(self):
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def grow_waiting(server, users, sizes):
    dimension = "waiting clients"
    for size in sizes:
        waiting, sender, pair = users[:size], users[-1], users[-3:-1]
        square = await server.create_room(sender)
        await set_up(size, lambda number: server.join(waiting[number], square))
        room = await server.create_room(pair[0])
        await server.join(pair[1], room)
        crowd = Crowd(server)
        await crowd.gather(waiting)

        begun = server.cpu_secs()
        await asyncio.sleep(IDLE_SECS)
        idle = server.cpu_secs() - begun
        report(server, dimension, size, "one second of waiting", [], [], idle / IDLE_SECS)
        await measure_usual(server, dimension, size, pair[:1], pair[1], [room])
        await asyncio.sleep(SETTLE)
        begun = server.cpu_secs()
        latencies, failures = await run_all(max(5, 400 // size), 1, lambda _: crowd.deliver(sender, square))
        await asyncio.sleep(SETTLE)
        cpu = server.cpu_secs() - begun
        report(server, dimension, size, "delivery to one of them", latencies, failures + crowd.failures(), cpu, per=size)
        await crowd.disperse()


# The measured dimensions with their small and large size.
DIMENSIONS = {
    "rooms": (grow_rooms, (10, 1_000)),
    "history": (grow_history, (1_000, 100_000)),
    "waiting": (grow_waiting, (10, 2_000)),
    "members": (grow_members, (10, 10_000)),
}


async def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", required=True)
    parser.add_argument("--pid", type=int, required=True)
    parser.add_argument("--only", choices=DIMENSIONS, action="append")
    parser.add_argument("--percent", type=int, default=100, help="of the large sizes, for trying out")
    args = parser.parse_args()

    server = Server(args.base, args.pid)
    wanted = {name: DIMENSIONS[name] for name in args.only or DIMENSIONS}
    scaled = {name: (small, max(small, large * args.percent // 100)) for name, (_, (small, large)) in wanted.items()}
    accounts = max(scaled.get("members", (0, 0))[1], scaled.get("waiting", (0, 0))[1] + 3, 10)
    users = []

    async def register(_):
        users.append(await server.register())

    begun = server.cpu_secs()
    await set_up(accounts, register)
    cost = (server.cpu_secs() - begun) * 1000 / accounts
    print(json.dumps({"note": f"Making an account cost {cost:.1f} ms of CPU, nearly all of it the password's hash."}), flush=True)
    for name, (measure_growth, _) in wanted.items():
        begun = time.perf_counter()
        try:
            await measure_growth(server, users, scaled[name])
        except (RuntimeError, OSError, asyncio.TimeoutError, asyncio.IncompleteReadError) as error:
            print(json.dumps({"note": f"{name} could not be measured to the end: {error!r}"[:400]}), flush=True)
        log = f"{name}: {time.perf_counter() - begun:.0f} s, {server.resident_mib():.0f} MiB resident"
        print(json.dumps({"progress": log}), flush=True)
    print(json.dumps({"note": f"Resident at the end: {server.resident_mib():.0f} MiB."}), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
