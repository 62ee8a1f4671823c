#!/usr/bin/env python3
"""Measures administration, one step after the other; run.sh starts the servers between them.

    bench.py STEP --users N --rooms N --events N --binary FILE --data FOLDER --base URL --pid PID --organisation FILE

Prints one JSON object a line. Everything is bounded: numbers of operations by the sizes, waiting by limits of time.
Needs nothing but the standard library.
"""

import argparse
import asyncio
import itertools
import json
import math
import os
import pathlib
import subprocess
import tempfile
import time

from organisation import CLIENT, PACK_RAT, REGISTRATION, REPORTS, SYNAPSE, UPLOADS, Organisation, quote, write_list
from growth import set_up

OWN = "/_conduit/admin/v1"
PAGE = 100
MIN_PAGES = 100
MAX_PAGES = 400
# Each of the five sends a message, rests this long, and sends the next.
REST_SECS = 0.05
PURGE_LIMIT_SECS = 900
# The history is purged in so many parts, and between them nothing is.
PARTS = 6
# Windows without a purge are as long as the purge before them, within these bounds.
MIN_WINDOW_SECS, MAX_WINDOW_SECS = 20, 120
OLDEST_DAYS, KEPT_DAYS = 400, 30
SETTLE_LIMIT_SECS = 60


def listings(kept):
    """Every listing: a name, the address without place and size of the page, and where the entries are."""
    # What a request costs that does nothing: the machine's part in the latencies of the others.
    yield "nothing", "", "/_matrix/client/versions", "versions"
    users = [f"order_by={order}" for order in ("name", "displayname", "creation_ts", "last_seen_ts", "admin", "locked")]
    users += ["order_by=displayname&dir=b", "name=person01", "user_id=9", "guests=false&deactivated=true", "admins=true"]
    orders = ("name", "canonical_alias", "joined_members", "joined_local_members", "version", "creator", "encryption",
              "federatable", "public", "join_rules", "guest_access", "history_visibility", "state_events")
    rooms = [f"order_by={order}" for order in orders]
    rooms += ["order_by=joined_members&dir=b", "search_term=room 1", "search_term=nothing has this", "public_rooms=true",
              "empty_rooms=true"]
    for version, query in itertools.product(("v2", "v3"), users):
        yield f"users {version}", query, f"/_synapse/admin/{version}/users", "users"
    for query in rooms:
        yield "rooms", query, f"{SYNAPSE}/rooms", "rooms"
    for order in ("created_ts", "media_length", "upload_name", "last_access_ts"):
        yield "media of a user", f"order_by={order}", f"{SYNAPSE}/users/{quote(kept['pack_rat'])}/media", "media"
    for query in ("order_by=user_id", "order_by=displayname", "order_by=media_length&dir=b", "order_by=media_count&dir=b",
                  "search_term=person00", f"from_ts={kept['begun_ms']}"):
        yield "statistics of users' media", query, f"{SYNAPSE}/statistics/users/media", "users"
    yield "registration tokens", "", f"{SYNAPSE}/registration_tokens", "registration_tokens"
    yield "event reports", "", f"{SYNAPSE}/event_reports", "event_reports"
    yield "event reports", "dir=f", f"{SYNAPSE}/event_reports", "event_reports"
    yield "event reports", "user_id=person00", f"{SYNAPSE}/event_reports", "event_reports"
    yield "destinations", "", f"{SYNAPSE}/federation/destinations", "destinations"
    yield "members of a room", "", f"{SYNAPSE}/rooms/{quote(kept['hall'])}/members", "members"
    own = ["admin/list", "user/list", "room/list", "media/list", "report/list", "token/list", "federation/destinations",
           "appservice/list", "job/list", "audit/list", "policy/list", "room/blocked"]
    for name in own:
        yield f"own {name}", "", f"{OWN}/{name}", "items"
    yield "own user/list", "order=last-seen", f"{OWN}/user/list", "items"
    yield "own user/list", "role=moderator", f"{OWN}/user/list", "items"
    yield "own room/list", "order=joined_members", f"{OWN}/room/list", "items"
    yield "own room/members", f"room={quote(kept['hall'])}", f"{OWN}/room/members", "items"
    yield "own media/list", f"user=person{PACK_RAT:05}", f"{OWN}/media/list", "items"


# These know neither size nor place of a page: all comes at once.
WHOLE = {"registration tokens", "members of a room", "own admin/list", "own token/list", "own appservice/list", "own policy/list",
         "nothing"}


def print_line(**facts):
    print(json.dumps(facts), flush=True)


def summarise(latencies):
    ordered = sorted(latencies)
    at = lambda share: round(ordered[max(0, math.ceil(share * len(ordered)) - 1)], 2)  # noqa: E731
    return {"count": len(ordered), "p50": at(0.5), "p99": at(0.99), "max": round(ordered[-1], 2)}


def disk_bytes(folder):
    """What the files take, by the ending of their names."""
    sizes = {}
    for path in pathlib.Path(folder).rglob("*"):
        try:
            if path.is_file():
                kind = path.suffix or path.name.split("-")[0]
                sizes[kind] = sizes.get(kind, 0) + path.stat().st_blocks * 512
        except FileNotFoundError:
            continue
    return {"all": sum(sizes.values()), "tables": sizes.get(".sst", 0) + sizes.get(".blob", 0), "log": sizes.get(".log", 0)}


def command(arguments, *words):
    """`conduit admin`, as an administrator types it."""
    line = [arguments.binary, "--set", f"data_dir={arguments.data}", "admin", *words]
    environment = os.environ | {"CONDUIT_CONFIG": "/dev/null"}
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=3600)
    if done.returncode:
        raise SystemExit(f"conduit admin {' '.join(words[:2])}: {done.stderr[-500:]}")
    return done.stdout


async def measure_import(organisation, arguments):
    server = organisation.server
    user_id, token = await server.register()
    organisation.keep(admin=token, server_name=user_id.split(":", 1)[1], begun_ms=int(time.time() * 1000))
    with tempfile.TemporaryDirectory() as folder:
        accounts, registration = pathlib.Path(folder, "people.csv"), pathlib.Path(folder, "service.yaml")
        write_list(accounts, arguments.users)
        registration.write_text(json.dumps(REGISTRATION))  # JSON is YAML.
        before, cpu, begun = server.resident_mib(), server.cpu_secs(), time.monotonic()
        answer = await asyncio.to_thread(command, arguments, "user", "import", str(accounts), "--json")
        secs, cpu = time.monotonic() - begun, server.cpu_secs() - cpu
        failed = sum(1 for row in json.loads(answer)["items"] if row["error"])
        command(arguments, "appservice", "add", str(registration))
    print_line(imported={"users": arguments.users, "failed": failed, "secs": round(secs, 1), "cpu_secs": round(cpu, 1),
                         "rss_before_mib": round(before, 1), "rss_after_mib": round(server.resident_mib(), 1)})


async def furnish(organisation, arguments):
    """Rooms, members, messages, media, tokens and reports."""
    begun = time.monotonic()
    await organisation.make_rooms()
    rooms_secs = time.monotonic() - begun
    await organisation.make_hall()
    share = arguments.users / 10_000
    await set_up(max(4, int(UPLOADS * share)), organisation.upload)
    organisation.keep(pack_rat=organisation.person(PACK_RAT))
    await organisation.make_tokens()
    await set_up(max(4, int(REPORTS * share)), organisation.report)
    print_line(furnished={"rooms": arguments.rooms, "rooms_secs": round(rooms_secs, 1),
                          "secs": round(time.monotonic() - begun, 1),
                          "rss_mib": round(organisation.server.resident_mib(), 1)})


async def measure_listing(organisation, name, query, address, entries):
    """Walks over the whole listing, again and again until there are enough pages."""
    latencies, listed, first = [], 0, None
    cpu = organisation.server.cpu_secs()
    while len(latencies) < MIN_PAGES:
        place, seen = None, 0
        while len(latencies) < MAX_PAGES:
            parts = [part for part in (query.replace(" ", "%20"),) if part]
            if name not in WHOLE:
                parts.append(f"limit={PAGE}")
                if place is not None:
                    parts.append(f"from={quote(str(place))}")
            begun = time.perf_counter()
            page = await organisation.administer("GET", f"{address}?{'&'.join(parts)}")
            latencies.append((time.perf_counter() - begun) * 1000)
            first = first or latencies[0]
            found = page.get(entries) or []
            seen += len(found)
            place = page.get("next_token", page.get("next_batch", page.get("next")))
            if place is None or name in WHOLE:
                break
        listed = max(listed, seen)
    cpu = (organisation.server.cpu_secs() - cpu) * 1000 / len(latencies)
    print_line(listing={"name": name, "query": query if "room=" not in query else "", "entries": listed,
                        "first": round(first, 2), "cpu_ms": round(cpu, 2), **summarise(latencies)})


async def measure_listings(organisation, _arguments):
    for name, query, address, entries in listings(organisation.kept):
        try:
            await measure_listing(organisation, name, query, address, entries)
        except RuntimeError as error:
            print_line(failure=f"{name} {query}: {error}")
    print_line(listed={"rss_mib": round(organisation.server.resident_mib(), 1)})


async def make_history(organisation, arguments):
    begun = time.monotonic()
    before = disk_bytes(arguments.data)
    await organisation.make_busy_room(arguments.events)
    print_line(history={"events": arguments.events, "secs": round(time.monotonic() - begun, 1),
                        "tables_before": before["tables"]})


class Chat:
    """Five people who write in a room and read what the others write."""

    def __init__(self, organisation, room, people):
        self.organisation, self.room, self.people = organisation, room, people
        self.latencies, self.failures = [], []
        self.is_over = False
        self.tasks = []

    def begin(self):
        self.tasks = [asyncio.create_task(one(person)) for person in self.people for one in (self.write, self.read)]

    async def end(self):
        self.is_over = True
        await asyncio.gather(*self.tasks)

    def take(self):
        """What was measured since the last time."""
        taken = self.latencies, self.failures
        self.latencies, self.failures = [], []
        return taken

    async def write(self, person):
        while not self.is_over:
            begun = time.perf_counter()
            try:
                await self.organisation.send(person, self.room, "a message of a usual length while history goes")
                self.latencies.append((time.perf_counter() - begun) * 1000)
            except (RuntimeError, OSError, EOFError, asyncio.TimeoutError) as error:
                self.failures.append(repr(error))
            await asyncio.sleep(REST_SECS)

    async def read(self, person):
        query = "filter=" + quote(json.dumps({"room": {"timeline": {"limit": 10}, "state": {"lazy_load_members": True}}}))
        place = (await self.organisation.act(person, "GET", f"{CLIENT}/sync?{query}"))["next_batch"]
        while not self.is_over:
            path = f"{CLIENT}/sync?{query}&timeout=1000&since={quote(place)}"
            place = (await self.organisation.act(person, "GET", path))["next_batch"]


class Windows:
    """Windows of time, with a purge or without, and what sends took in each: in the purged room and in another one."""

    def __init__(self, chats):
        self.chats = chats
        self.lines, self.pooled = [], {}

    async def measure(self, kind, work):
        """A window as long as the work, and what the work gives."""
        for chat in self.chats.values():
            chat.take()
        begun = time.monotonic()
        given = await work
        line = {"kind": kind, "secs": round(time.monotonic() - begun, 1), "load": round(os.getloadavg()[0], 1)}
        for name, chat in self.chats.items():
            latencies, failures = chat.take()
            self.pooled.setdefault((kind, name), []).extend(latencies)
            line[name] = {**summarise(latencies), "errors": len(failures)}
        self.lines.append(line)
        return given

    def ratios(self, name):
        """The p99 of each window with a purge, by the mean of those of the windows before and after it."""
        found = []
        for before, purge, after in zip(self.lines, self.lines[1:], self.lines[2:]):
            if purge["kind"] == "purge":
                found.append(round(2 * purge[name]["p99"] / (before[name]["p99"] + after[name]["p99"]), 2))
        return found

    def summary(self):
        pooled = {name: {kind: summarise(self.pooled[kind, name]) for kind in ("quiet", "purge")} for name in self.chats}
        return {"windows": self.lines, "pooled": pooled, "ratios": {name: self.ratios(name) for name in self.chats}}


async def run_purge(organisation, days):
    """Starts the job and waits for its end: how long it took, and what it did."""
    body = {"room": organisation.kept["busy"], "before": f"{days}d", "local": True}
    begun = time.monotonic()
    job = (await organisation.administer("POST", f"{OWN}/room/purge", body))["job"]
    while time.monotonic() - begun < PURGE_LIMIT_SECS:
        row = await organisation.administer("GET", f"{OWN}/job/show?job={job}")
        if row["state"] not in ("queued", "running"):
            return {"secs": round(time.monotonic() - begun, 1), "days": days, "state": row["state"],
                    "result": json.loads(row.get("result") or "{}"), "error": row.get("error")}
        await asyncio.sleep(0.5)
    raise SystemExit("the purge does not end")


async def measure_purge(organisation, arguments):
    server, kept = organisation.server, organisation.kept
    quiet_room = kept["rooms"][0]
    members = [organisation.person(0)] + [organisation.person(1 + 997 * one) for one in range(4)]
    chats = {"busy": Chat(organisation, kept["busy"], kept["chatters"]), "elsewhere": Chat(organisation, quiet_room, members)}
    before, windows, purges, cpu = disk_bytes(arguments.data), Windows(chats), [], 0
    for chat in chats.values():
        chat.begin()
    await asyncio.sleep(5)
    await windows.measure("quiet", asyncio.sleep(MIN_WINDOW_SECS))
    for part in range(1, PARTS + 1):
        spent = server.cpu_secs()
        days = OLDEST_DAYS - (OLDEST_DAYS - KEPT_DAYS) * part // PARTS
        purges.append(await windows.measure("purge", run_purge(organisation, days)))
        cpu += server.cpu_secs() - spent
        await windows.measure("quiet", asyncio.sleep(min(max(purges[-1]["secs"], MIN_WINDOW_SECS), MAX_WINDOW_SECS)))
    for chat in chats.values():
        await chat.end()
    print_line(purge={**windows.summary(), "purges": purges, "cpu_secs": round(cpu, 1), "disk_before": before,
                      "disk_after": disk_bytes(arguments.data), "rss_mib": round(server.resident_mib(), 1)})


async def look_afterwards(organisation, arguments):
    """After a restart the log of the database is empty: what is left is what the tables take."""
    print_line(afterwards={"disk": disk_bytes(arguments.data), "rss_mib": round(organisation.server.resident_mib(), 1)})


async def make_history_again(organisation, arguments):
    """Another busy room, for a purge beside which nothing is written: by that one sees what space comes back."""
    before = disk_bytes(arguments.data)
    await organisation.make_busy_room(arguments.events)
    print_line(again={"events": arguments.events, "tables_before": before["tables"]})


async def purge_unseen(organisation, arguments):
    before = disk_bytes(arguments.data)
    purge = await run_purge(organisation, KEPT_DAYS)
    print_line(unseen={"purge": purge, "tables_before": before["tables"], "tables_after": disk_bytes(arguments.data)["tables"]})


async def look_at_space(_organisation, arguments):
    print_line(space={"tables": disk_bytes(arguments.data)["tables"]})


STEPS = {"import": measure_import, "furnish": furnish, "listings": measure_listings, "history": make_history,
         "purge": measure_purge, "afterwards": look_afterwards, "again": make_history_again, "unseen": purge_unseen,
         "space": look_at_space}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("step", choices=STEPS)
    for name in ("users", "rooms", "events", "pid"):
        parser.add_argument(f"--{name}", type=int, required=True)
    for name in ("binary", "data", "base", "organisation"):
        parser.add_argument(f"--{name}", required=True)
    arguments = parser.parse_args()
    if arguments.step == "import":
        pathlib.Path(arguments.organisation).unlink(missing_ok=True)

    async def run():
        await STEPS[arguments.step](Organisation(arguments), arguments)

    asyncio.run(run())


if __name__ == "__main__":
    main()
