"""One logged-in device of matrix-nio: its sync loop, and everything that it has seen."""

import asyncio
import os

import aiohttp
from nio import (
    AsyncClient,
    AsyncClientConfig,
    EphemeralEvent,
    ErrorResponse,
    Event,
    InviteEvent,
    ReceiptEvent,
    SyncResponse,
    TypingNoticeEvent,
)
from nio.store import SqliteStore
from report import ensure, until

HOMESERVER = os.environ.get("HOMESERVER", "")
PASSWORD = "correct horse battery staple"


def good(response):
    """The response, when it is not an error."""
    ensure(not isinstance(response, ErrorResponse), f"the server answered {response}")
    return response


class Device:
    """A client with a session; `events` maps event ids to the events that its sync loop brought."""

    def __init__(self, user, store_path):
        config = AsyncClientConfig(store=SqliteStore, encryption_enabled=True, store_sync_tokens=False, request_timeout=30)
        self.client = AsyncClient(HOMESERVER, user, store_path=store_path, config=config)
        self.events = {}
        self.invites = set()
        self.left = set()
        self.typing = {}
        self.receipts = {}
        self.task = None
        self.client.add_event_callback(self._on_event, Event)
        self.client.add_event_callback(self._on_invite, InviteEvent)
        self.client.add_ephemeral_callback(self._on_ephemeral, EphemeralEvent)
        self.client.add_response_callback(self._on_sync, SyncResponse)

    @classmethod
    async def register(cls, username, device_name, store_path):
        """Registers a user with the dummy stage."""
        device = cls(username, store_path)
        response = good(await device.client.register(username, PASSWORD, device_name))
        device._restore(response.user_id, response.device_id, response.access_token)
        return device

    @classmethod
    async def login(cls, username, device_name, store_path, password=PASSWORD):
        """Logs in: a new device of an existing user. Raises when the server refuses."""
        device = cls(username, store_path)
        try:
            good(await device.client.login(password, device_name))
        except AssertionError:
            await device.client.close()
            raise
        return device

    @classmethod
    def restored(cls, other, store_path):
        """A new client with the session of another one, as after a restart of the client."""
        device = cls(other.user_id, store_path)
        device._restore(other.user_id, other.client.device_id, other.client.access_token)
        return device

    def _restore(self, user_id, device_id, access_token):
        self.client.restore_login(user_id, device_id, access_token)

    @property
    def user_id(self):
        return self.client.user_id

    @property
    def name(self):
        return f"{self.user_id} {self.client.device_id}"

    def start(self):
        """Starts the sync loop, which also uploads keys and answers to-device messages."""
        self.task = asyncio.create_task(self.client.sync_forever(timeout=10_000, full_state=True))

    async def stop(self):
        """Ends the sync loop and closes the connections."""
        if self.task:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
        await self.client.close()

    async def _on_event(self, _room, event):
        self.events[event.event_id] = event

    async def _on_invite(self, room, _event):
        self.invites.add(room.room_id)

    async def _on_sync(self, response):
        self.left |= response.rooms.leave.keys()

    async def _on_ephemeral(self, room, event):
        if isinstance(event, TypingNoticeEvent):
            self.typing[room.room_id] = event.users
        elif isinstance(event, ReceiptEvent):
            for receipt in event.receipts:
                self.receipts.setdefault(receipt.event_id, set()).add(receipt.user_id)

    async def event(self, event_id, wanted=lambda event: True):
        """Waits until sync has brought the event (and it is as wanted)."""
        try:
            return await until(f"event {event_id}", lambda: (e := self.events.get(event_id)) and wanted(e) and e)
        except AssertionError as error:
            seen = self.events.get(event_id)
            raise AssertionError(f"{error} at {self.name}; it has {seen.source if seen else 'nothing'}") from None

    async def send(self, room_id, kind, content):
        """Sends an event and gives its id; encrypted by the SDK in an encrypted room."""
        return good(await self.client.room_send(room_id, kind, content, ignore_unverified_devices=True)).event_id

    async def text(self, room_id, body):
        return await self.send(room_id, "m.room.message", {"msgtype": "m.text", "body": body})

    async def raw(self, method, path, body=None, token=True):
        """A request for what the SDK has no function for: (status, JSON)."""
        headers = {"Authorization": f"Bearer {self.client.access_token}"} if token else {}
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, HOMESERVER + path, json=body, headers=headers) as response,
        ):
            is_json = response.content_type == "application/json"
            return response.status, await response.json() if is_json else None


async def everyone_reads(devices, event_id, body):
    """Waits until each device has the event in readable form."""
    for device in devices:
        event = await device.event(event_id, lambda event: hasattr(event, "body"))
        ensure(event.body == body, f"{device.name} reads {event.body!r}")
