"""Scenarios: how they are declared, what they are given, how they are run and what came of them."""

import inspect
import itertools
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from client import Late, Refused, encode
from compare import Differs, same_rooms

SCENARIOS = []


class Failed(Exception):
    """What a scenario wants is not so."""


def check(truth, what):
    if not truth:
        raise Failed(what)


def equal(found, wanted, what):
    if found != wanted:
        raise Failed(f"{what}: found {found!r}, wanted {wanted!r}")


def refused(status, action, *arguments, **named):
    """Runs a request that has to be refused with this status."""
    try:
        answer = action(*arguments, **named)
    except Refused as error:
        if error.status != status:
            raise Failed(f"refused otherwise than by {status}: {error}") from error
        return
    raise Failed(f"not refused with {status}, but answered {answer!r}")


@dataclass
class Scenario:
    name: str
    run: object
    since: int
    alone: bool
    third: bool


def scenario(name, since=1, alone=False, third=False):
    """Declares a scenario. `since`: the first room version that has it. `alone`: disturbs the servers, so that nothing
    else may run. `third`: needs a third server."""

    def declare(function):
        SCENARIOS.append(Scenario(name, function, since, alone, third))
        return function

    return declare


class Case:
    """One run of a scenario: a room version, and the two servers in one of their orders (and the third)."""

    rooms = itertools.count(1)

    def __init__(self, wanted, version, servers, options):
        self.scenario, self.version, self.options = wanted, version, options
        self.one, self.two = servers[0], servers[1]
        self.three = servers[2] if len(servers) > 2 else None
        self.clients = []
        self.lock = threading.Lock()

    def __str__(self):
        return f"{self.scenario.name} v{self.version} {self.way}"

    @property
    def way(self):
        return f"{self.one.kind}>{self.two.kind}"

    @property
    def features(self):
        """The room version as a number, for what depends on it."""
        return int(self.version)

    def user(self, server, name):
        """A new account on a server."""
        client = server.register(f"{name}-{self.scenario.name.replace('_', '-')}")
        with self.lock:
            self.clients.append(client)
        # A first sync leaves out the rooms that one has left; what comes later tells of leaving.
        client.mirror.sync()
        return client

    def pair(self):
        """Alice on the first server and Bob on the second."""
        return self.user(self.one, "alice"), self.user(self.two, "bob")

    def create(self, owner, **content):
        """A room of the case's version."""
        content.setdefault("preset", "private_chat")
        content.setdefault("name", f"Room {next(Case.rooms)}")
        return owner.create_room(room_version=self.version, **content)

    def bring(self, room_id, host, guest):
        """Invites, waits for the invite, accepts it, waits until both see that."""
        host.invite(room_id, guest)
        guest.until_self(room_id, "invite")
        guest.join(room_id)
        guest.until_self(room_id, "join")
        host.until_member(room_id, guest, "join")

    def shared_room(self, **content):
        """Alice, Bob and a room of Alice's where both are."""
        alice, bob = self.pair()
        room_id = self.create(alice, **content)
        self.bring(room_id, alice, bob)
        return alice, bob, room_id

    def alias(self, name):
        """A local part for an alias that no other case uses."""
        return f"{name}-{next(Case.rooms)}"

    def heard(self, room_id, text, speaker, *listeners):
        """Lets one speak and waits until the others have it. Returns the event id."""
        event_id = speaker.say(room_id, text)
        for listener in listeners:
            equal(listener.until_event(room_id, event_id)["content"].get("body"), text, "the text that arrived")
        return event_id

    def same(self, room_id, *clients, seconds=30, timelines=True, nudge=None):
        """Waits until the servers of these clients agree on the room."""
        same_rooms(clients, room_id, seconds, timelines, nudge)

    def close(self):
        for client in self.clients:
            client.close()


@dataclass
class Result:
    scenario: str
    version: str
    way: str
    seconds: float
    error: str | None
    clients: list = field(default_factory=list)


def place_of(error):
    """The line of the scenario in which the error came up."""
    frames = traceback.extract_tb(error.__traceback__)
    inside = [frame for frame in frames if "/scenarios/" in frame.filename] or frames[-1:]
    return f"{inside[-1].filename.rsplit('/', 1)[-1]}:{inside[-1].lineno}"


def run_case(case):
    """Runs one case. Errors become its result."""
    started, error = time.monotonic(), None
    try:
        case.scenario.run(case)
    except (Failed, Late, Differs, Refused, OSError, RuntimeError) as caught:
        error = f"{place_of(caught)}: {caught}"
    except Exception as caught:
        error = f"{place_of(caught)}: {caught!r}"
    finally:
        case.close()
    users = sorted({client.user_id for client in case.clients})
    return Result(case.scenario.name, case.version, case.way, time.monotonic() - started, error, users)


class Runner:
    """Runs cases, those that disturb nobody some at a time, and prints each result."""

    def __init__(self, servers, jobs):
        self.servers, self.jobs = servers, jobs
        self.results = []
        self.lock = threading.Lock()

    def run(self, cases):
        together = [case for case in cases if not case.scenario.alone]
        pool = ThreadPoolExecutor(self.jobs)
        try:
            list(pool.map(self.run_one, together))
        finally:  # without waiting, in case that the run is ended from outside
            pool.shutdown(wait=False, cancel_futures=True)
        for case in cases:
            if case.scenario.alone:
                self.run_one(case)
                self.restore()

    def run_one(self, case):
        started = time.strftime("%H:%M:%S")
        result = run_case(case)
        with self.lock:
            self.results.append(result)
            word = "FAIL" if result.error else "ok  "
            print(f"{word} {case} {result.seconds:.1f} s", flush=True)
            if result.error:
                print(f"    {started} {', '.join(result.clients)}\n    {result.error}", flush=True)
            for server in self.servers:
                if server.died():
                    self.note(f"{server} ended by itself with {server.process.returncode}")
                    server.start()

    def restore(self):
        """After a case that stops servers or cuts links: all as it was."""
        for server in self.servers:
            server.link.mend()
            if server.process is None:
                server.start()

    def note(self, error):
        """A failure that belongs to no scenario."""
        self.results.append(Result("servers", "-", "-", 0.0, error))
        print(f"FAIL servers: {error}", flush=True)


def module_of(wanted):
    """The subject a scenario belongs to: the name of its file."""
    return inspect.getmodule(wanted.run).__name__.rsplit(".", 1)[-1]


__all__ = ["Case", "Failed", "Runner", "SCENARIOS", "check", "encode", "equal", "module_of", "refused", "scenario"]
