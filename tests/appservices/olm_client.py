"""A client of mautrix that encrypts, with all that it has to remember in an SQLite file."""

from pathlib import Path

from mautrix.appservice.state_store.asyncpg import PgASStateStore
from mautrix.client import Client
from mautrix.crypto import OlmMachine, PgCryptoStore, StateStore
from mautrix.errors import SessionNotFound
from mautrix.types import EncryptedEvent, EventType, MessageEvent, MessageType, TextMessageEventContent
from mautrix.util.async_db import Database


class RoomStates(PgASStateStore, StateStore):
    """What is known of rooms, for the application service and for encryption."""


async def open_client(url: str, user_id: str, file: Path, **options) -> tuple[Client, Database]:
    database = Database.create(f"sqlite:{file}", upgrade_table=PgASStateStore.upgrade_table)
    await database.start()
    await PgCryptoStore.upgrade_table.upgrade(database)
    store = PgCryptoStore("", "a key", database)
    await store.open()
    client = Client(mxid=user_id, base_url=url, state_store=RoomStates(database), sync_store=store, **options)
    # Not set at the client, which would decrypt by itself without waiting for keys that come later.
    client.machine = OlmMachine(client, store, client.state_store)
    await client.machine.load()
    return client, database


async def decrypt(client: Client, event: EncryptedEvent, patience: float = 10) -> MessageEvent:
    """The key may come after what it opens."""
    try:
        return await client.machine.decrypt_megolm_event(event)
    except SessionNotFound as error:
        await client.machine.wait_for_session(event.room_id, error.session_id, timeout=patience)
        return await client.machine.decrypt_megolm_event(event)


async def say(client: Client, room: str, kind: MessageType, text: str):
    """Encrypted for all devices of those who are in the room."""
    machine, content = client.machine, TextMessageEventContent(msgtype=kind, body=text)
    if (await machine.crypto_store.get_outbound_group_session(room)) is None:
        await machine.share_group_session(room, list(await client.get_joined_members(room)))
    encrypted = await machine.encrypt_megolm_event(room, EventType.ROOM_MESSAGE, content)
    await client.send_message_event(room, EventType.ROOM_ENCRYPTED, encrypted)
