#!/usr/bin/env python3
"""Measures what federation costs Conduit and Synapse, each receiving the same from one small homeserver on loopback.

    bench.py incoming|join [OPTION...]      appends one JSON object for each measurement to --results
"""

import argparse
import http.client
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

import subjects
from authority import Authority
from events import ROOM_VERSION
from origin import Origin

PDUS = 50
WARM_UP = 4
PATIENCE_SECONDS = 120


class User:
    """A logged-in user of the measured server, on one kept connection."""

    def __init__(self, server, name):
        self.server, self.token = server, server.register(name).token
        self.connection = None

    def ask(self, method, path, body=None, seconds=90):
        """Returns the status and the JSON."""
        if self.connection is None:
            trust = ssl.create_default_context(cafile=str(self.server.authority.certificate))
            self.connection = http.client.HTTPSConnection(self.server.host, self.server.port, context=trust)
            self.connection.connect()
        self.connection.sock.settimeout(seconds)
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        try:
            content = None if body is None else json.dumps(body).encode()
            self.connection.request(method, f"/_matrix/client/v3{path}", content, headers)
            answer = self.connection.getresponse()
            return answer.status, json.loads(answer.read() or b"{}")
        except (OSError, http.client.HTTPException):
            self.connection.close()
            self.connection = None
            raise

    def create_room(self):
        body = {"preset": "public_chat", "room_version": ROOM_VERSION}
        status, answer = self.ask("POST", "/createRoom", body)
        if status != 200:
            raise RuntimeError(f"no room: {status} {answer}")
        return answer["room_id"]


class Traffic:
    """Transactions of messages for rooms of the measured server, made in advance."""

    def __init__(self, origin, server, user, rooms, events):
        sender = f"@bench:{origin.identity.name}"
        self.origin, self.server, self.user = origin, server, user
        self.polls, self.pause, self.sent = 0, 0.01, 0
        branches = []
        for _ in range(rooms):
            branches.append(origin.join(server, user.create_room(), sender))
        count = (events + PDUS - 1) // PDUS + WARM_UP
        self.transactions = [self.make(branches, sender, PDUS * number) for number in range(count)]

    @staticmethod
    def make(branches, sender, first):
        """The PDUs of a transaction, in turns of all rooms, and the last event of each room."""
        pdus, last = [], {}
        for number in range(first, first + PDUS):
            branch, auth = branches[number % len(branches)]
            content = {"msgtype": "m.text", "body": f"Message {number}: the quick brown fox jumps over the lazy dog."}
            event_id, event = branch.add("m.room.message", sender, content, auth)
            pdus.append(event)
            last[branch.room_id] = event_id
        return pdus, last

    def send(self, pdus, last):
        """Sends a transaction and waits until all of it is stored: Synapse drops what waits when it is more than 99
        events of a room."""
        self.sent += 1
        body = {"origin": self.origin.identity.name, "origin_server_ts": int(time.time() * 1000), "pdus": pdus}
        begun = time.monotonic()
        answer = self.origin.request(self.server, "PUT", f"/_matrix/federation/v1/send/t{self.sent}", body)
        errors = [outcome for outcome in answer["pdus"].values() if outcome]
        if errors:
            raise RuntimeError(f"{self.server} refuses events: {errors[:3]}")
        # Looked for when it should be there, by the times before: asking costs the server, too.
        time.sleep(self.pause)
        polls_before = self.polls
        for room_id, event_id in last.items():
            path = f"/rooms/{quote(room_id, safe='')}/event/{quote(event_id, safe='')}"
            step = 0.002
            while self.user.ask("GET", path)[0] != 200:
                self.polls += 1
                if time.monotonic() - begun > PATIENCE_SECONDS:
                    raise RuntimeError(f"{self.server} has not stored {event_id} after {PATIENCE_SECONDS} s")
                time.sleep(step)
                step = min(step * 1.5, 0.05)
            self.polls += 1
        was_there = self.polls - polls_before == len(last)
        self.pause = 0.7 * self.pause if was_there else 0.5 * self.pause + 0.4 * (time.monotonic() - begun)


class Recorder:
    """perf on a server's process, if it is wanted."""

    def __init__(self, folder, name, server):
        self.process = None
        if folder and server.kind == "conduit":
            Path(folder).mkdir(parents=True, exist_ok=True)
            command = ["perf", "record", "--quiet", "-e", "cpu-clock", "-F", "999", "--call-graph", "dwarf,16384"]
            command += ["-p", str(server.process.pid), "-o", f"{folder}/{name}.data"]
            self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            time.sleep(1)

    def stop(self):
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait()


def cpu_since(server, before):
    own, database = (now - then for now, then in zip(server.cpu_seconds(), before, strict=True))
    return {"cpu_seconds": round(own + database, 2), "database_cpu_seconds": round(database, 2)}


def load():
    return " ".join(Path("/proc/loadavg").read_text().split()[:3])


class Bench:
    def __init__(self, options):
        self.options = options
        self.work = Path(options.work)
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)
        self.authority = Authority(self.work)
        self.origin = Origin(219, self.work, self.authority)
        self.number = 220

    def start(self, kind):
        self.number += 1
        folder = self.work / f"run-{self.number}"
        folder.mkdir()
        if kind == "conduit":
            server = subjects.Conduit(self.number, folder, self.authority, self.options.binary)
        else:
            server = subjects.Synapse(self.number, folder, self.authority, sys.executable)
        server.start()
        return server

    def record(self, scenario, server, **figures):
        name = "-".join(filter(None, [scenario, self.options.label]))
        line = {"scenario": name, "server": server.kind, "version": server.version()}
        line |= {"date": time.strftime("%Y-%m-%d", time.gmtime()), "load": load(), **figures}
        print(json.dumps(line), flush=True)
        with open(self.options.results, "a") as results:
            results.write(json.dumps(line) + "\n")

    def incoming(self, kind, rooms, events):
        server = self.start(kind)
        try:
            traffic = Traffic(self.origin, server, User(server, "reader"), rooms, events)
            for transaction in traffic.transactions[:WARM_UP]:
                traffic.send(*transaction)
            measured = traffic.transactions[WARM_UP:]
            recorder = Recorder(self.options.perf, f"incoming-{rooms}", server)
            traffic.polls, before, begun, load_before = 0, server.cpu_seconds(), time.monotonic(), load()
            for transaction in measured:
                traffic.send(*transaction)
            elapsed, spent = time.monotonic() - begun, cpu_since(server, before)
            recorder.stop()
            count = len(measured) * PDUS
            self.record(
                f"incoming-{rooms}", server, events=count, rooms=rooms, **spent,
                seconds=round(elapsed, 2), events_per_cpu_second=round(count / spent["cpu_seconds"], 1),
                polls=round(traffic.polls / len(measured), 1), load_before=load_before,
                resident_mib=round(server.resident_mib(), 1),
            )  # fmt: skip
            self.keep(measured)
        finally:
            self.origin.close()
            server.stop()

    def keep(self, transactions):
        """Leaves the events and the key to whoever measures their signatures."""
        with open(self.work / "events.jsonl", "w") as out:
            for pdus, _ in transactions:
                out.writelines(json.dumps(event) + "\n" for event in pdus)
        (self.work / "public-key").write_text(self.origin.identity.public)

    def join(self, kind, room):
        server = self.start(kind)
        try:
            user = User(server, "joiner")
            time.sleep(3)
            figures = {"members": room.members, "answer_mib": round(len(room.answer) / 2**20, 1)}
            figures["idle_mib"] = round(server.resident_mib(), 1)
            server.forget_peak()
            self.origin.asked.clear()
            recorder = Recorder(self.options.perf, f"join-{room.members}", server)
            before, begun, figures["load_before"] = server.cpu_seconds(), time.monotonic(), load()
            path = f"/join/{quote(room.room_id, safe='')}?via={quote(self.origin.identity.name)}"
            path += f"&server_name={quote(self.origin.identity.name)}"
            try:
                status, answer = user.ask("POST", path, {}, self.options.bound)
                if status != 200:
                    raise RuntimeError(f"{server} does not join: {status} {answer}")
                figures["join_seconds"] = round(time.monotonic() - begun, 2)
                figures["peak_mib"] = round(server.peak_mib(), 1)
                self.await_members(user, room, begun, figures)
            except TimeoutError:
                figures["unfinished_seconds"] = round(time.monotonic() - begun)
                figures["peak_mib"] = round(server.peak_mib(), 1)
            figures |= cpu_since(server, before)
            recorder.stop()
            figures["peak_with_members_mib"] = round(server.peak_mib(), 1)
            figures["asked"] = dict(self.origin.asked)
            self.record(f"join-{room.members}", server, **figures)
        finally:
            server.stop(signal.SIGKILL if "unfinished_seconds" in figures else signal.SIGTERM)

    @staticmethod
    def await_members(user, room, begun, figures):
        while True:
            status, answer = user.ask("GET", f"/rooms/{quote(room.room_id, safe='')}/joined_members", seconds=300)
            found = len(answer.get("joined", {})) if status == 200 else 0
            if found == room.members + 1:
                figures["members_seconds"] = round(time.monotonic() - begun, 2)
                return
            if time.monotonic() - begun > 1800:
                raise RuntimeError(f"only {found} members: {status}")
            time.sleep(1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["incoming", "join"])
    parser.add_argument("--binary", help="of Conduit")
    parser.add_argument("--servers", default="conduit,synapse")
    parser.add_argument("--rooms", type=int, default=1, help="incoming: rooms whose events share the transactions")
    parser.add_argument("--events", type=int, default=5000)
    parser.add_argument("--members", type=int, default=50000)
    parser.add_argument("--bound", type=float, default=900, help="join: seconds after which it is given up")
    parser.add_argument("--work", default="/tmp/conduit-bench-federation", help="folder for data; it is emptied")
    parser.add_argument("--label", default="", help="is added to the name of the measurement")
    parser.add_argument("--results", default=os.devnull)
    parser.add_argument("--perf", help="folder for what perf records of Conduit; slows it down")
    options = parser.parse_args()
    bench = Bench(options)
    room = bench.origin.add_room(options.members) if options.what == "join" else None
    for kind in options.servers.split(","):
        if options.what == "incoming":
            bench.incoming(kind, options.rooms, options.events)
        else:
            bench.join(kind, room)


if __name__ == "__main__":
    main()
