"""Two users with two devices each chat through matrix-nio (/sync v3) against a running server.

Environment: HOMESERVER (base URL), IMAGE (path of a PNG), RESTART (shell command that restarts the server).
"""

import asyncio
import io
import logging
import os
import pathlib
import tempfile
import urllib.parse

from device import HOMESERVER, Device, everyone_reads, good
from nio import RoomPreset, RoomVisibility
from nio.api import RelationshipType
from nio.crypto.sas import SasState
from report import Abort, Report, ensure, until

SCENARIO_LIMIT = 480.0


class Scenario:
    """The devices, the rooms they share, and the tally."""

    def __init__(self, report, folder):
        self.report = report
        self.folder = folder
        self.alice_name = f"nio-alice-{os.getpid()}"
        self.bob_name = f"nio-bob-{os.getpid()}"
        self.rooms = {}
        self.opened = []

    @property
    def all(self):
        return [self.alice1, self.alice2, self.bob1, self.bob2]

    def store(self, name):
        path = pathlib.Path(self.folder, name)
        path.mkdir(exist_ok=True)
        return str(path)

    async def run(self):
        await self.log_in()
        await self.create_rooms()
        await self.chat()
        await self.report.step("an image arrives byte for byte, with a thumbnail", self.share_image())
        await self.report.step("a new display name reaches the other user", self.rename())
        await self.report.step("the user directory finds bob by name", self.search_users())
        await self.report.must("create an encrypted room", self.create_encrypted())
        await self.chat_encrypted()
        await self.report.step("alice and bob verify their devices by emoji", self.verify())
        await self.restart()
        await self.report.step("a fresh device reads old messages with exported keys", self.import_keys())
        await self.leave()

    async def log_in(self):
        step, must = self.report.step, self.report.must
        self.alice1 = await must("register alice", Device.register(self.alice_name, "alice phone", self.store("alice1")))
        self.bob1 = await must("register bob", Device.register(self.bob_name, "bob phone", self.store("bob1")))
        self.alice2 = await must("log in alice's second device", Device.login(self.alice_name, "desk", self.store("alice2")))
        self.bob2 = await must("log in bob's second device", Device.login(self.bob_name, "desk", self.store("bob2")))
        self.opened = self.all

        async def wrong_password():
            try:
                await Device.login(self.bob_name, "thief", self.store("thief"), password="wrong")
            except AssertionError as error:
                ensure("M_FORBIDDEN" in str(error), str(error))
            else:
                raise AssertionError("a login with a wrong password succeeded")

        await step("a wrong password is refused", wrong_password())

        async def start():
            for device in self.all:
                device.start()
            for device in self.all:
                await until(f"the first sync of {device.name}", lambda device=device: device.client.next_batch)

        await must("start four sync loops", start())

    async def create_rooms(self):
        alice, bob = self.alice1, self.bob1

        async def create():
            for name in ("space", "general", "random"):
                response = await alice.client.room_create(
                    visibility=RoomVisibility.private,
                    preset=RoomPreset.private_chat,
                    name=name,
                    topic=f"about {name}",
                    invite=[bob.user_id],
                    space=name == "space",
                )
                self.rooms[name] = good(response).room_id
            via = {"via": [alice.user_id.split(":", 1)[1]]}
            for name in ("general", "random"):
                room = self.rooms[name]
                good(await alice.client.room_put_state(self.rooms["space"], "m.space.child", via, room))
                good(await alice.client.room_put_state(room, "m.space.parent", via, self.rooms["space"]))

        async def invited():
            for device in (bob, self.bob2):
                for room in self.rooms.values():
                    await until(f"the invite to {room} at {device.name}", lambda: room in device.invites)

        async def join():
            for room in self.rooms.values():
                good(await bob.client.join(room))
            for device in self.all:
                for room in self.rooms.values():
                    await until(f"{room} at {device.name}", lambda: room in device.client.rooms)
                    members = device.client.rooms[room].users
                    await until(f"both members of {room} at {device.name}", lambda: {alice.user_id, bob.user_id} <= members.keys())
            general = self.bob2.client.rooms[self.rooms["general"]]
            ensure((general.name, general.topic) == ("general", "about general"), f"{general.name}: {general.topic}")

        async def hierarchy():
            response = good(await bob.client.space_get_hierarchy(self.rooms["space"]))
            ids = [room["room_id"] for room in response.rooms]
            ensure(set(self.rooms.values()) <= set(ids), f"the hierarchy has {ids}")

        await self.report.must("create a space with two channels", create())
        await self.report.must("bob sees the invites on both devices", invited())
        await self.report.must("bob joins and all devices know names and members", join())
        await self.report.step("the space hierarchy lists both channels", hierarchy())

    async def chat(self):
        step = self.report.step
        self.first = await self.report.must("a message reaches all devices", self.send_first())
        await step("an edit reaches all devices", self.edit())
        await step("a reaction reaches all devices", self.react())
        await step("a thread reply reaches all devices and is listed", self.reply_in_thread())
        await step("typing is seen", self.type_a_while())
        await step("a read receipt is seen by all devices", self.read())
        await step("a redaction reaches all devices", self.redact())
        await step("older messages are paged in order", self.page())

    async def send_first(self):
        event = await self.alice1.text(self.rooms["general"], "hello bob")
        await everyone_reads(self.all, event, "hello bob")
        return event

    async def edit(self):
        content = {
            "msgtype": "m.text",
            "body": "* hello robert",
            "m.new_content": {"msgtype": "m.text", "body": "hello robert"},
            "m.relates_to": {"rel_type": "m.replace", "event_id": self.first},
        }
        edit = await self.alice2.send(self.rooms["general"], "m.room.message", content)
        for device in self.all:
            event = await device.event(edit)
            ensure(event.source["content"] == content, f"{device.name} has {event.source['content']}")

    async def react(self):
        relation = {"rel_type": "m.annotation", "event_id": self.first, "key": "👍"}
        reaction = await self.bob1.send(self.rooms["general"], "m.reaction", {"m.relates_to": relation})
        for device in self.all:
            event = await device.event(reaction)
            ensure((event.reacts_to, event.key) == (self.first, "👍"), f"{device.name} has {event.source}")
        found = self.alice1.client.room_get_event_relations(self.rooms["general"], self.first, RelationshipType.annotation)
        ids = [event.event_id async for event in found]
        ensure(ids == [reaction], f"/relations gives {ids}")

    async def reply_in_thread(self):
        relation = {"rel_type": "m.thread", "event_id": self.first, "m.in_reply_to": {"event_id": self.first}}
        content = {"msgtype": "m.text", "body": "in a thread", "m.relates_to": {**relation, "is_falling_back": True}}
        reply = await self.bob2.send(self.rooms["general"], "m.room.message", content)
        await everyone_reads(self.all, reply, "in a thread")
        roots = [event.event_id async for event in self.alice1.client.room_get_threads(self.rooms["general"])]
        ensure(roots == [self.first], f"/threads gives {roots}")

    async def type_a_while(self):
        room = self.rooms["general"]
        good(await self.alice1.client.room_typing(room, True, timeout=20_000))
        for device in (self.bob1, self.bob2):
            await until(f"typing at {device.name}", lambda: self.alice1.user_id in device.typing.get(room, []))
        good(await self.alice1.client.room_typing(room, False))
        for device in (self.bob1, self.bob2):
            await until(f"the end of typing at {device.name}", lambda: device.typing[room] == [])

    async def read(self):
        event = await self.alice1.text(self.rooms["general"], "did you read this?")
        await self.bob1.event(event)
        good(await self.bob1.client.update_receipt_marker(self.rooms["general"], event))
        for device in self.all:
            await until(f"bob's receipt at {device.name}", lambda: self.bob1.user_id in device.receipts.get(event, ()))

    async def redact(self):
        room = self.rooms["general"]
        event = await self.bob1.text(room, "said too much")
        await everyone_reads(self.all, event, "said too much")
        redaction = good(await self.bob1.client.room_redact(room, event, reason="oops")).event_id
        for device in self.all:
            seen = await device.event(redaction)
            ensure(seen.redacts == event, f"{device.name} has {seen.source}")
        left = good(await self.alice1.client.room_get_event(room, event)).event.source["content"]
        ensure("body" not in left, f"the server still gives out {left}")

    async def page(self):
        room = self.rooms["random"]
        expected = [f"number {number}" for number in range(25)]
        for line in expected:
            last = await self.alice1.text(room, line)
        await self.bob1.event(last)
        lines, start = [], None
        for _ in range(10):
            page = good(await self.bob1.client.room_messages(room, start=start, limit=10))
            lines += [event.body for event in page.chunk if getattr(event, "body", "").startswith("number ")]
            start = page.end
            if not start or not page.chunk:
                break
        ensure(lines == expected[::-1], f"got {lines}")

    async def share_image(self):
        image = pathlib.Path(os.environ["IMAGE"]).read_bytes()
        response, _ = await self.alice1.client.upload(
            lambda *_: io.BytesIO(image), content_type="image/png", filename="image.png", filesize=len(image)
        )
        uri = good(response).content_uri
        info = {"mimetype": "image/png", "size": len(image)}
        content = {"msgtype": "m.image", "body": "image.png", "url": uri, "info": info}
        event = await self.alice1.send(self.rooms["general"], "m.room.message", content)
        for device in (self.bob1, self.bob2):
            seen = await device.event(event)
            body = good(await device.client.download(mxc=seen.url)).body
            ensure(body == image, f"{len(body)} bytes came back for {len(image)}")
            server, media = uri.removeprefix("mxc://").split("/")
            small = good(await device.client.thumbnail(server, media, 64, 64)).body
            ensure(small and small != image, "the thumbnail is empty or the original")

    async def rename(self):
        good(await self.bob1.client.set_displayname("Bob the Snake"))
        room = self.alice2.client.rooms[self.rooms["general"]]
        await until("the new name", lambda: room.users[self.bob1.user_id].display_name == "Bob the Snake")

    async def search_users(self):
        async def found():
            status, body = await self.alice1.raw(
                "POST", "/_matrix/client/v3/user_directory/search", {"search_term": "Snake", "limit": 10}
            )
            ensure(status == 200, f"status {status}: {body}")
            return self.bob1.user_id in [user["user_id"] for user in body["results"]]

        await until("bob among the results", found)

    async def create_encrypted(self):
        state = [{"type": "m.room.encryption", "state_key": "", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}]
        response = await self.alice1.client.room_create(name="secret", invite=[self.bob1.user_id], initial_state=state)
        room = self.rooms["secret"] = good(response).room_id
        await until("the invite", lambda: room in self.bob1.invites)
        good(await self.bob1.client.join(room))
        for device in self.all:
            await until(f"the encrypted room at {device.name}", lambda: room in device.client.rooms)
            view = device.client.rooms[room]
            await until(f"encryption and members at {device.name}", lambda: view.encrypted and self.bob1.user_id in view.users)
        for device in self.all:
            for other in (self.alice1, self.alice2, self.bob1, self.bob2):
                if other is not device:
                    store = device.client.device_store
                    await until(f"the keys of {other.name} at {device.name}", lambda: other.client.device_id in store[other.user_id])

    async def chat_encrypted(self):
        self.secrets = []
        for sender in self.all:

            async def write_and_read(sender=sender):
                body = f"secret from {sender.client.device_id}"
                event = await sender.text(self.rooms["secret"], body)
                status, raw = await sender.raw(
                    "GET", f"/_matrix/client/v3/rooms/{urllib.parse.quote(self.rooms['secret'])}/event/{urllib.parse.quote(event)}"
                )
                ensure(status == 200 and raw["type"] == "m.room.encrypted", f"status {status}: {raw}")
                # The sender has no inbound session for what it sent before its own first sync of it: others only.
                await everyone_reads([device for device in self.all if device is not sender], event, body)
                self.secrets.append((event, body))

            await self.report.step(f"an encrypted message from {sender.name} is read by the other three", write_and_read())

    async def verify(self):
        one, other = self.alice1, self.bob1
        target = one.client.device_store[other.user_id][other.client.device_id]
        good(await one.client.start_key_verification(target))
        (flow,) = one.client.key_verifications
        await until("the start to arrive", lambda: flow in other.client.key_verifications)
        good(await other.client.accept_key_verification(flow))
        ours, theirs = one.client.key_verifications[flow], other.client.key_verifications[flow]
        await until("both keys", lambda: {ours.state, theirs.state} == {SasState.key_received})
        ensure(ours.get_emoji() == theirs.get_emoji(), "the two sides show different emoji")
        good(await one.client.confirm_short_auth_string(flow))
        good(await other.client.confirm_short_auth_string(flow))
        await until("both sides to be verified", lambda: ours.verified and theirs.verified)

    async def restart(self):
        command = os.environ.get("RESTART")
        if not command:
            print("RESTART is not set: the server is not restarted")
            return

        async def run_command():
            process = await asyncio.create_subprocess_shell(command, stdin=asyncio.subprocess.DEVNULL)
            ensure(await process.wait() == 0, f"RESTART ended with {process.returncode}")

        async def tokens():
            for device in self.all:
                who = good(await device.client.whoami())
                ensure((who.user_id, who.device_id) == (device.user_id, device.client.device_id), str(who))

        async def go_on():
            for sender, body in ((self.alice1, "after the restart"), (self.bob2, "welcome back")):
                event = await sender.text(self.rooms["general"], body)
                await everyone_reads(self.all, event, body)

        async def go_on_encrypted():
            event = await self.alice2.text(self.rooms["secret"], "still secret")
            await everyone_reads([self.alice1, self.bob1, self.bob2], event, "still secret")

        async def saved_token():
            again = Device.restored(self.alice1, self.store("again"))
            self.opened = [*self.opened, again]
            good(await again.client.sync(timeout=0, full_state=True))
            ensure(self.rooms["general"] in again.client.rooms, "the room is not in the first sync")

        if await self.report.step("restart the server", run_command()):
            await self.report.step("access tokens outlive the restart", tokens())
            await self.report.step("every sync loop goes on after the restart", go_on())
            await self.report.step("encrypted chat goes on after the restart", go_on_encrypted())
            await self.report.step("a client that starts from a saved token syncs", saved_token())

    async def import_keys(self):
        ensure(self.secrets, "no encrypted message was read before")
        path = os.path.join(self.folder, "keys.txt")
        await self.alice1.client.export_keys(path, "passphrase", count=1000)
        fresh = await Device.login(self.alice_name, "alice new phone", self.store("fresh"))
        self.opened = [*self.opened, fresh]
        good(await fresh.client.sync(timeout=0, full_state=True))
        await fresh.client.import_keys(path, "passphrase")
        page = good(await fresh.client.room_messages(self.rooms["secret"], limit=50))
        bodies = {event.event_id: getattr(event, "body", None) for event in page.chunk}
        # alice's phone holds the inbound sessions of the other three devices.
        for event, body in self.secrets[1:]:
            ensure(bodies.get(event) == body, f"{event} reads {bodies.get(event)!r}, wanted {body!r}")

    async def leave(self):
        room = self.rooms["random"]

        async def bob_leaves():
            good(await self.bob1.client.room_leave(room))
            for device in (self.bob1, self.bob2):
                await until(f"{room} among the left rooms of {device.name}", lambda: room in device.left)
            for device in (self.alice1, self.alice2):
                users = device.client.rooms[room].users
                await until(f"bob's leave at {device.name}", lambda: self.bob1.user_id not in users)

        async def cannot_send():
            status, body = await self.bob2.raw(
                "PUT", f"/_matrix/client/v3/rooms/{urllib.parse.quote(room)}/send/m.room.message/late", {"msgtype": "m.text", "body": "here?"}
            )
            ensure((status, body["errcode"]) == (403, "M_FORBIDDEN"), f"status {status}: {body}")

        async def log_out():
            token = self.bob2.client.access_token
            self.bob2.task.cancel()
            good(await self.bob2.client.logout())
            self.bob2.client.access_token = token
            status, body = await self.bob2.raw("GET", "/_matrix/client/v3/account/whoami")
            ensure((status, body["errcode"]) == (401, "M_UNKNOWN_TOKEN"), f"status {status}: {body}")

        await self.report.step("bob leaves a channel and everybody knows", bob_leaves())
        await self.report.step("bob cannot send after leaving", cannot_send())
        await self.report.step("logging out ends the token", log_out())


async def main():
    report = Report()
    if not HOMESERVER:
        report.fail("environment", "HOMESERVER is not set")
        report.finish()
    if not os.environ.get("VERBOSE"):
        logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        scenario = Scenario(report, folder)
        try:
            await asyncio.wait_for(scenario.run(), SCENARIO_LIMIT)
        except Abort:
            print("the steps after this one need it and were not run")
        except TimeoutError:
            report.fail("scenario", f"not finished after {SCENARIO_LIMIT:.0f} s")
        for device in scenario.opened:
            await device.stop()
    report.finish()


asyncio.run(main())
