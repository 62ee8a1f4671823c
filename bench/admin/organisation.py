"""The organisation that is administered: its accounts, rooms, media, tokens and reports, made by many hands at once."""

import json
import pathlib
import random
import sys
import time
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from growth import Server, set_up  # noqa: E402

AS_TOKEN = "the-token-of-the-application-service-of-this-measurement"
REGISTRATION = {
    "id": "organisation",
    "url": None,
    "as_token": AS_TOKEN,
    "hs_token": "not-used-because-there-is-no-url",
    "sender_localpart": "organiser",
    "rate_limited": False,
    "namespaces": {kind: [{"regex": f"{mark}.*", "exclusive": False}] for kind, mark in (("users", "@"), ("aliases", "#"))},
}
CLIENT = "/_matrix/client/v3"
SYNAPSE = "/_synapse/admin/v1"
MEMBERS = 10
MESSAGES = 10
HALL_MEMBERS = 1000
UPLOADS = 2000
PACK_RAT = 7
TOKENS = 500
REPORTS = 1000
BUSY_MEMBERS = 30
# Numbers of rooms, in which the number says what kind of room it is.
HALL, BUSY_ROOM = 1_000_001, 1_000_003
DAY_MS = 24 * 60 * 60 * 1000
WORDS = "server room message history member federation policy report token upload purge listing state event".split()


def quote(text):
    return urllib.parse.quote(text, safe="")


def write_list(path, users):
    """The list that `conduit admin user import` reads."""
    lines = ["name,displayname,role,email"]
    for number in range(users):
        role = "moderator" if number % 200 == 1 else "member"
        lines.append(f"person{number:05},Person {number:05} of the Organisation,{role},person{number:05}@example.org")
    path.write_text("\n".join(lines) + "\n")


def speech(rng, length=60):
    return " ".join(rng.choice(WORDS) + format(rng.randrange(1 << 24), "x") for _ in range(length))


class Organisation:
    """What bench.py keeps between its steps, and the requests that it makes as anybody in the organisation.

    An application service whose namespace is everybody acts as them: nobody has to log in.
    """

    def __init__(self, arguments):
        self.server = Server(arguments.base, arguments.pid)
        self.users, self.rooms = arguments.users, arguments.rooms
        self.path = pathlib.Path(arguments.organisation)
        self.kept = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.names = f"t{time.time_ns()}"
        self.numbers = iter(range(10**12))

    def keep(self, **facts):
        self.kept.update(facts)
        self.path.write_text(json.dumps(self.kept))

    def person(self, number):
        return f"@person{number % self.users:05}:{self.kept['server_name']}"

    async def act(self, person, method, path, body=None):
        """A request of one of the organisation."""
        mark = "&" if "?" in path else "?"
        return await self.server.call(method, f"{path}{mark}user_id={quote(person)}", AS_TOKEN, body)

    async def administer(self, method, path, body=None):
        """A request of the administrator."""
        return await self.server.call(method, path, self.kept["admin"], body)

    async def send(self, person, room, text, ts=None):
        path = f"{CLIENT}/rooms/{quote(room)}/send/m.room.message/{self.names}{next(self.numbers)}"
        if ts is not None:
            path += f"?ts={ts}"
        return (await self.act(person, "PUT", path, {"msgtype": "m.text", "body": text}))["event_id"]

    async def create_room(self, number):
        body = {"preset": "public_chat" if number % 2 else "private_chat", "name": f"Room {number:04} of the Organisation"}
        if number % 4 == 1:
            body |= {"room_alias_name": f"room{number:04}", "visibility": "public", "topic": "What is new"}
        creator = self.person(number)
        room = (await self.act(creator, "POST", f"{CLIENT}/createRoom", body))["room_id"]
        return creator, room

    async def join(self, creator, person, room):
        path = f"{CLIENT}/rooms/{quote(room)}"
        await self.act(creator, "POST", f"{path}/invite", {"user_id": person})
        await self.act(person, "POST", f"{path}/join", {})

    async def make_rooms(self):
        made = [None] * self.rooms

        async def make(number):
            creator, room = await self.create_room(number)
            made[number] = room
            people = [self.person(number + 1 + 997 * one) for one in range(MEMBERS - 1)]
            for person in people:
                if person != creator:
                    await self.join(creator, person, room)
            for one in range(MESSAGES):
                await self.send(creator, room, f"a message of a usual length, number {one}")

        await set_up(self.rooms, make)
        self.keep(rooms=made)

    async def make_hall(self):
        _, room = await self.create_room(HALL)
        join = lambda number: self.act(self.person(2 + number), "POST", f"{CLIENT}/join/{quote(room)}", {})  # noqa: E731
        await set_up(min(HALL_MEMBERS, self.users - 3), join)
        self.keep(hall=room)

    async def upload(self, number):
        """Half are of one person, the others of somebody each."""
        person = self.person(PACK_RAT if number % 2 else number // 2)
        await self.act(person, "POST", f"/_matrix/media/v3/upload?filename=note{number}.txt", {"note": number})

    async def report(self, number):
        room = self.kept["rooms"][number % len(self.kept["rooms"])]
        creator = self.person(number % len(self.kept["rooms"]))
        event = await self.send(creator, room, f"something that is reported, number {number}")
        path = f"{CLIENT}/rooms/{quote(room)}/report/{quote(event)}"
        await self.act(creator, "POST", path, {"reason": "it is one of many", "score": -50})

    async def make_tokens(self):
        make = lambda number: self.administer("POST", f"{SYNAPSE}/registration_tokens/new", {"uses_allowed": 1 + number})  # noqa: E731
        await set_up(TOKENS, make)

    async def make_busy_room(self, events):
        """A room with messages of the last 400 days but the last 5."""
        _, room = await self.create_room(BUSY_ROOM)
        people = [self.person(100 + 7 * one) for one in range(BUSY_MEMBERS)]
        for person in people:
            await self.act(person, "POST", f"{CLIENT}/join/{quote(room)}", {})
        now = int(time.time() * 1000)
        rng = random.Random(1)
        texts = [speech(rng) for _ in range(events)]
        first, last = now - 400 * DAY_MS, now - 5 * DAY_MS
        # In the order of time, as one writer makes them.
        queue = iter(range(events))
        await set_up(events, lambda _: self.say_in_turn(people, room, texts, next(queue), first, last))
        self.keep(busy=room, chatters=people[:5])

    async def say_in_turn(self, people, room, texts, number, first, last):
        ts = first + (last - first) * number // len(texts)
        await self.send(people[number % len(people)], room, texts[number], ts)
