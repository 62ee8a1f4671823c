#!/usr/bin/env python3
"""Measures a join to a large room whose members come behind it, beside one that waits for them.

    partial.py --binary FILE [--members N] [--work FOLDER] [--results FILE]

A small homeserver (origin.py) has a room whose members are all its own. A first Conduit joins it; from then on its user
sits in the room, and lets in one server after the other, each a new Conduit with empty data:

    whole     joins and waits for all members (`federation.partial_joins=false`)
    partial   joins, and members arrive behind it
    killed    as `partial`, but it is killed (SIGKILL) when about half of what that took is over, and started again

Appends one JSON object for each to --results. Everything is bounded by limits of time.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from urllib.parse import quote

sys.path.insert(0, str(Path(__file__).resolve().parent))

import subjects
from authority import Authority
from bench import User, load
from origin import Origin

LIMIT_SECONDS = 900
# How long a user rests between two messages while members arrive.
REST_SECONDS = 0.2
LAZY = quote(json.dumps({"room": {"timeline": {"limit": 20}, "state": {"lazy_load_members": True}}}))


class Joiner(subjects.Conduit):
    """A Conduit that joins with or without waiting for the members."""

    def __init__(self, number, folder, authority, binary, is_partial):
        self.is_partial = is_partial
        super().__init__(number, folder, authority, binary)

    def command(self):
        return [*super().command(), "--set", f"federation.partial_joins={str(self.is_partial).lower()}"]


class Again(User):
    """Another connection of a user: one does not wait for the other."""

    def __init__(self, user):
        self.server, self.token, self.connection = user.server, user.token, None


class Watch:
    """A client of the user that is always in /sync, members loaded lazily: when it saw the room, and each message."""

    def __init__(self, user, room_id):
        self.user, self.room_id = Again(user), room_id
        self.seen, self.changed, self.is_over = {}, threading.Condition(), False
        self.since = self.user.ask("GET", f"/sync?filter={LAZY}")[1]["next_batch"]
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.is_over:
            try:
                path = f"/sync?filter={LAZY}&timeout=2000&since={quote(self.since)}"
                status, answer = self.user.ask("GET", path)
            except OSError:
                time.sleep(0.05)
                continue
            if status != 200:
                time.sleep(0.05)
                continue
            self.since = answer["next_batch"]
            room = answer.get("rooms", {}).get("join", {}).get(self.room_id)
            if room is not None:
                bodies = [event["content"].get("body") for event in room["timeline"]["events"] if "content" in event]
                self.note("the room", *bodies)

    def note(self, *what):
        with self.changed:
            for one in what:
                self.seen.setdefault(one, time.monotonic())
            self.changed.notify_all()

    def when(self, what):
        """When it was seen first; waits for that."""
        with self.changed:
            if not self.changed.wait_for(lambda: what in self.seen, LIMIT_SECONDS):
                raise RuntimeError(f"{self.user.server} does not show {what}")
            return self.seen[what]

    def stop(self):
        self.is_over = True
        self.thread.join(10)


class Members:
    """Asks for all members of a room until all are there; a server that does not know them yet lets it wait."""

    def __init__(self, user, room_id, expected):
        self.user, self.expected = Again(user), expected
        self.path = f"/rooms/{quote(room_id, safe='')}/joined_members"
        self.at, self.found, self.is_over = None, 0, False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        deadline = time.monotonic() + LIMIT_SECONDS
        while self.at is None and not self.is_over and time.monotonic() < deadline:
            try:
                status, answer = self.user.ask("GET", self.path, seconds=120)
            except OSError:
                status, answer = 0, {}
            self.found = len(answer.get("joined", {})) if status == 200 else 0
            if self.found == self.expected:
                self.at = time.monotonic()
            else:
                time.sleep(0.2)

    def wait(self):
        self.thread.join(LIMIT_SECONDS)
        if self.at is None:
            raise RuntimeError(f"{self.user.server} knows {self.found} of {self.expected} members")
        return self.at


def say(user, room_id, text):
    """Sends a message. Returns how long that took."""
    begun = time.monotonic()
    path = f"/rooms/{quote(room_id, safe='')}/send/m.room.message/{quote(text)}"
    status, answer = user.ask("PUT", path, {"msgtype": "m.text", "body": text})
    if status != 200:
        raise RuntimeError(f"{user.server} does not send: {status} {answer}")
    return time.monotonic() - begun


def share(values, part):
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(part * len(ordered)))] * 1000, 1)


class Bench:
    """The first server, its user, and the measurements of those that join."""

    def __init__(self, options):
        self.options, self.work = options, Path(options.work)
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)
        self.authority = Authority(self.work)
        self.number, self.joined, self.servers = 230, 0, []
        self.origin = Origin(229, self.work, self.authority)
        self.room = self.origin.add_room(options.members)
        self.room_id = self.room.room_id
        self.first = self.start(is_partial=False)
        self.alice = User(self.first, "alice")
        self.join(self.alice, self.origin.identity.name)
        Members(self.alice, self.room_id, self.expected()).wait()
        self.heard = Watch(self.alice, self.room_id)
        self.partial_seconds = None

    def expected(self):
        return self.room.members + self.joined

    def start(self, is_partial):
        self.number += 1
        folder = self.work / f"run-{self.number}"
        folder.mkdir()
        server = Joiner(self.number, folder, self.authority, self.options.binary, is_partial)
        self.servers.append(server)
        server.start()
        return server

    def join(self, user, via):
        path = f"/join/{quote(self.room_id, safe='')}?via={quote(via)}&server_name={quote(via)}"
        status, answer = user.ask("POST", path, {}, LIMIT_SECONDS)
        if status != 200:
            raise RuntimeError(f"{user.server} does not join: {status} {answer}")
        self.joined += 1

    def enter(self, bob, watch, figures):
        """The join, and what can be done right after it; seconds since it was asked for."""
        begun = time.monotonic()

        def since():
            return round(time.monotonic() - begun, 2)

        self.join(bob, self.first.name)
        figures["join"] = since()
        name = f"{self.number}"
        say(bob, self.room_id, f"hello of {name}")
        figures["sent"] = since()
        figures["in_sync"] = round(watch.when("the room") - begun, 2)
        figures["heard_there"] = round(self.heard.when(f"hello of {name}") - begun, 2)
        asked = time.monotonic()
        say(self.alice, self.room_id, f"welcome {name}")
        figures["heard_here_ms"] = round((watch.when(f"welcome {name}") - asked) * 1000, 1)
        return begun

    def chat(self, bob, members, until):
        """Messages of the user until the members are there, or the time has come: how long each took, in s."""
        took, number = [], 0
        while members.at is None and time.monotonic() < until:
            took.append(say(bob, self.room_id, f"{self.number} says {number}"))
            number += 1
            time.sleep(REST_SECONDS)
        return took

    def measure(self, kind):
        server = self.start(is_partial=kind != "whole")
        figures = {"kind": kind, "size": self.options.members, "date": time.strftime("%Y-%m-%d", time.gmtime()),
                   "version": server.version(), "load_before": load()}  # fmt: skip
        bob = User(server, "bob")
        time.sleep(3)
        watch = Watch(bob, self.room_id)
        figures["idle_mib"] = round(server.resident_mib(), 1)
        server.forget_peak()
        spent, spent_there = sum(server.cpu_seconds()), sum(self.first.cpu_seconds())
        begun = self.enter(bob, watch, figures)
        figures["cpu_usable"] = round(sum(server.cpu_seconds()) - spent, 2)
        members = Members(bob, self.room_id, self.expected())
        if kind == "killed":
            begun, spent = self.kill(server, bob, members, begun, figures), 0
            members = Members(bob, self.room_id, self.expected())
        took = self.chat(bob, members, begun + LIMIT_SECONDS)
        figures["complete"], figures["known"] = round(members.wait() - begun, 2), members.expected
        if took:
            figures["sends"] = {"count": len(took), "p50": share(took, 0.5), "max": share(took, 1)}
        figures["cpu"] = round(sum(server.cpu_seconds()) - spent, 2)
        figures["cpu_there"] = round(sum(self.first.cpu_seconds()) - spent_there, 2)
        figures["peak_mib"] = round(server.peak_mib(), 1)
        figures["load"] = load()
        if kind == "partial":
            self.partial_seconds = figures["complete"]
        watch.stop()
        print(json.dumps(figures), flush=True)
        with open(self.options.results, "a") as results:
            results.write(json.dumps(figures) + "\n")

    def kill(self, server, bob, members, begun, figures):
        """Ends the server when half is over, and starts it again. Returns when that was."""
        took = self.chat(bob, members, begun + (self.partial_seconds or 0) / 2)
        members.is_over = True
        figures["killed_after"], figures["was_whole"] = round(time.monotonic() - begun, 2), members.at is not None
        figures["said_before"] = len(took)
        server.stop(signal.SIGKILL)
        bob.connection.close()
        bob.connection = None
        started = time.monotonic()
        server.start()
        figures["up_again"] = round(time.monotonic() - started, 2)
        say(bob, self.room_id, f"{self.number} is back")
        figures["sent_again"] = round(time.monotonic() - started, 2)
        self.heard.when(f"{self.number} is back")
        figures["heard_there_again"] = round(time.monotonic() - started, 2)
        return started

    def close(self):
        """Not before the end: whoever joins needs the keys of all who did."""
        self.heard.stop()
        for server in self.servers:
            server.stop()
        self.origin.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--members", type=int, default=50_000)
    parser.add_argument("--work", default="/tmp/conduit-bench-partial", help="folder for data; it is emptied")
    parser.add_argument("--results", default=os.devnull)
    bench = Bench(parser.parse_args())
    try:
        for kind in ("whole", "partial", "killed"):
            bench.measure(kind)
    finally:
        bench.close()


if __name__ == "__main__":
    main()
