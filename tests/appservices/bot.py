"""An application service that answers in encrypted rooms, as mautrix bridges do it: by its transactions, without /sync.
bot.py FOLDER URL PORT"""

import asyncio
import json
import logging
import signal
import sys
from pathlib import Path

from mautrix.appservice import AppService
from mautrix.client import Client
from mautrix.types import EncryptedEvent, EventType, Membership, MessageType, StateEvent

from olm_client import decrypt, open_client, say

DOMAIN = "hs.test"
LOCALPART = "echo"
USER_ID = f"@{LOCALPART}:{DOMAIN}"
AS_TOKEN, HS_TOKEN = "token-of-the-service", "token-of-the-server"


def write_registration(path: Path, port: int):
    registration = {
        "id": "echo",
        "url": f"http://127.0.0.1:{port}",
        "as_token": AS_TOKEN,
        "hs_token": HS_TOKEN,
        "sender_localpart": LOCALPART,
        "namespaces": {"users": [{"regex": f"@{LOCALPART}:hs\\.test", "exclusive": True}]},
        "receive_ephemeral": True,
        "org.matrix.msc3202": True,
        "io.element.msc4190": True,
    }
    # JSON is YAML.
    path.write_text(json.dumps(registration))


class Bot:
    def __init__(self, client: Client):
        self.client = client

    async def take(self, event):
        if isinstance(event, StateEvent):
            await self.take_state(event)
        elif isinstance(event, EncryptedEvent) and event.sender != USER_ID:
            message = await decrypt(self.client, event)
            if message.content.msgtype == MessageType.TEXT:
                await say(self.client, event.room_id, MessageType.NOTICE, f"You said: {message.content.body}")

    async def take_state(self, event: StateEvent):
        await self.client.state_store.update_state(event)
        if event.type != EventType.ROOM_MEMBER:
            return
        await self.client.machine.handle_member_event(event)
        if event.state_key == USER_ID and event.content.membership == Membership.INVITE:
            await self.client.join_room_by_id(event.room_id)
            # What was there before the join is not told.
            for state in await self.client.get_state(event.room_id):
                await self.client.state_store.update_state(state)


async def run(folder: Path, url: str, port: int):
    client, database = await open_client(url, USER_ID, folder / "bot.db")
    client.api.token = AS_TOKEN
    names = {"as_token": AS_TOKEN, "hs_token": HS_TOKEN, "bot_localpart": LOCALPART, "id": "echo"}
    service = AppService(
        url, DOMAIN, **names, state_store=client.state_store, ephemeral_events=True, encryption_events=True
    )
    service.otk_handler = client.machine.handle_as_otk_counts
    service.device_list_handler = client.machine.handle_as_device_lists
    service.to_device_handler = client.machine.handle_as_to_device_event
    store = client.machine.crypto_store
    device = await store.get_device_id()
    # MSC4190: the device is made without logging in. From then on the client acts as it (MSC4326).
    await client.create_device_msc4190(device_id=device or "", initial_display_name="Echo")
    await store.put_device_id(client.device_id)
    service.matrix_event_handler(Bot(client).take)
    await service.start("127.0.0.1", port)
    # The server may have given up on the service for a while.
    await service.ping_self()
    print("ready as", client.device_id, flush=True)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()
    await service.stop()
    await client.api.session.close()
    await database.stop()


if __name__ == "__main__":
    logging.basicConfig(level=logging.DEBUG, stream=sys.stdout)
    logging.getLogger("aiosqlite").setLevel(logging.WARNING)
    asyncio.run(run(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
