"""A user and an application service talk in an encrypted room: encrypted.py PATH_TO_CONDUIT_BINARY"""

import asyncio
import logging
import sys
import tempfile
from pathlib import Path

import aiohttp
from mautrix.errors import DecryptionError
from mautrix.types import EncryptionKeyAlgorithm, EventType, MessageType, RoomCreatePreset

import bot
from olm_client import decrypt, open_client, say
from programs import Program, free_ports, make_server, show_logs, wait_for_server, wait_until

PASSWORD = "a long password"


class Device:
    """One of the user's devices, and what it could read."""

    def __init__(self, url: str, folder: Path, name: str):
        self.url, self.file, self.read, self.unread = url, folder / f"{name}.db", [], []
        self.client = None

    async def start(self, user_id: str):
        self.client, self.database = await open_client(self.url, user_id, self.file)
        await self.client.login(user_id, password=PASSWORD)
        await self.client.machine.share_keys()
        self.client.add_event_handler(EventType.ROOM_ENCRYPTED, self.take)
        self.client.start(None)

    async def stop(self):
        if self.client is None:
            return
        self.client.stop()
        await self.client.api.session.close()
        await self.database.stop()

    async def take(self, event):
        try:
            message = await decrypt(self.client, event)
            self.read.append((message.sender, message.content.body))
        except DecryptionError as error:
            self.unread.append((event.sender, event.event_id, str(error)))

    async def say(self, room: str, text: str):
        await say(self.client, room, MessageType.TEXT, text)

    async def wait_for(self, text: str):
        await wait_until(lambda: (bot.USER_ID, text) in self.read, f"{text!r} ({self.unread} not read)")


async def register(url: str, name: str):
    body = {"username": name, "password": PASSWORD, "auth": {"type": "m.login.dummy"}, "inhibit_login": True}
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{url}/_matrix/client/v3/register", json=body) as response:
            assert response.status == 200, await response.text()


async def count_keys(url: str, device: str) -> int:
    """The bot's one-time keys, as the server counts them for whoever acts as its device."""
    query = {"user_id": bot.USER_ID, "device_id": device}
    headers = {"Authorization": f"Bearer {bot.AS_TOKEN}"}
    async with aiohttp.ClientSession() as session:
        path = f"{url}/_matrix/client/v3/keys/upload"
        async with session.post(path, params=query, headers=headers, json={}) as response:
            assert response.status == 200, await response.text()
            return (await response.json())["one_time_key_counts"].get("signed_curve25519", 0)


async def make_room(device: Device) -> str:
    content = {"algorithm": "m.megolm.v1.aes-sha2"}
    encryption = {"type": "m.room.encryption", "state_key": "", "content": content}
    return await device.client.create_room(
        preset=RoomCreatePreset.TRUSTED_PRIVATE, invitees=[bot.USER_ID], initial_state=[encryption]
    )


async def bot_device(device: Device) -> str | None:
    """The bot's device, once its keys are there."""
    found = await device.client.query_keys([bot.USER_ID])
    return next((name for name, keys in found.device_keys.get(bot.USER_ID, {}).items() if keys.keys), None)


async def talk(server: Program, service: Program, url: str, folder: Path):
    await register(url, "alice")
    devices = [Device(url, folder, name) for name in ("phone", "laptop", "tablet")]
    try:
        await talk_with(devices, server, service, url)
    finally:
        # Their databases have threads that would keep this program from ending.
        for device in devices:
            await device.stop()


async def talk_with(devices: list[Device], server: Program, service: Program, url: str):
    alice_id = f"@alice:{bot.DOMAIN}"
    phone, laptop, tablet = devices
    await phone.start(alice_id)
    room = await make_room(phone)
    await wait_until(lambda: has_joined(phone, room), "the bot's joining")
    print("ok   the bot was invited and joined")
    device = await wait_until(lambda: bot_device(phone), "the bot's keys")
    await wait_until(lambda: is_full(url, device), "one-time keys of the bot")
    print("ok   told how many one-time keys it has, the bot uploaded some")
    await phone.say(room, "hello")
    await phone.wait_for("You said: hello")
    print("ok   both could read what the other encrypted")
    claimed = await phone.client.claim_keys({bot.USER_ID: {device: EncryptionKeyAlgorithm.SIGNED_CURVE25519}})
    assert claimed.one_time_keys[bot.USER_ID][device], claimed
    await wait_until(lambda: is_full(url, device), "new one-time keys of the bot")
    print("ok   one-time keys that were claimed are replaced")
    await laptop.start(alice_id)
    await wait_until(lambda: answers_for(phone, laptop, room), "an answer that the new device can read")
    await laptop.say(room, "it is")
    await phone.wait_for("You said: it is")
    print("ok   told of a new device, the bot shares its keys with it")
    server.stop()
    server.start()
    await wait_for_server(url)
    await phone.say(room, "after a restart of the server")
    for one in (phone, laptop):
        await one.wait_for("You said: after a restart of the server")
    print("ok   after a restart of the server")
    service.stop()
    await phone.say(room, "while the bot is away")
    await laptop.say(room, "away indeed")
    service.start()
    for one in (phone, laptop):
        await one.wait_for("You said: while the bot is away")
        await one.wait_for("You said: away indeed")
    print("ok   after a restart of the bot, what was said meanwhile")
    await tablet.start(alice_id)
    await tablet.say(room, "with a new device")
    for one in (phone, laptop, tablet):
        await one.wait_for("You said: with a new device")
    assert await bot_device(phone) == device
    print("ok   with a new device after all that; the bot's is the same")
    answers = [text for sender, text in phone.read if sender == bot.USER_ID]
    assert len(answers) == len(set(answers)) and not phone.unread, (answers, phone.unread)


async def answers_for(phone: Device, other: Device, room: str) -> bool:
    """Whether the bot knows of another device by now, and begins a session that it can read."""
    said = f"is my other device there? {len(phone.read)}"
    await phone.say(room, said)
    await phone.wait_for(f"You said: {said}")
    await asyncio.sleep(1)
    return (bot.USER_ID, f"You said: {said}") in other.read


async def has_joined(device: Device, room: str) -> bool:
    return bot.USER_ID in await device.client.get_joined_members(room)


async def is_full(url: str, device: str) -> bool:
    return await count_keys(url, device) >= 50


def main():
    binary = sys.argv[1]
    # mautrix looks for cross-signing keys and says so when there are none.
    logging.basicConfig(level=logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="conduit-appservices-") as folder:
        folder = Path(folder)
        port, service_port = free_ports(2)
        url = f"http://127.0.0.1:{port}"
        services = folder / "services"
        services.mkdir()
        bot.write_registration(services / "echo.yaml", service_port)
        server = make_server(binary, folder, port, services)
        program = Path(__file__).with_name("bot.py")
        service = Program("bot", folder, sys.executable, "-B", str(program), str(folder), url, str(service_port))
        try:
            server.start()
            asyncio.run(wait_for_server(url))
            service.start()
            asyncio.run(talk(server, service, url, folder))
            print("8 passed, 0 failed")
        except BaseException:
            show_logs(server, service)
            raise
        finally:
            for one in (service, server):
                one.stop()


if __name__ == "__main__":
    main()
