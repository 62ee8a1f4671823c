"""What a client knows from /sync."""

import json


def make_filter(lazy):
    return json.dumps({"room": {"timeline": {"limit": 500}, "state": {"lazy_load_members": lazy}}})


class Room:
    def __init__(self):
        self.membership = None
        self.events = {}
        self.state = {}
        self.stripped = []
        self.typing = []
        self.receipts = {}

    def take(self, state, timeline):
        for event in state + timeline:
            if "state_key" in event:
                self.state[(event["type"], event["state_key"])] = event
        for event in timeline:
            self.events[event["event_id"]] = event

    def texts(self):
        """The bodies of the messages, in the order of the timeline."""
        return [event["content"].get("body") for event in self.events.values() if event["type"] == "m.room.message"]


class Mirror:
    def __init__(self, client):
        self.client = client
        self.since = None
        self.rooms = {}
        self.presence = {}
        self.to_device = []
        self.devices_changed = set()
        self.key_counts = {}
        self.set_presence = "offline"
        self.lazy = False

    def room(self, room_id):
        return self.rooms.setdefault(room_id, Room())

    def sync(self, seconds=0.0):
        """One /sync, waiting at most so long for news."""
        query = {"filter": make_filter(self.lazy), "timeout": int(seconds * 1000), "set_presence": self.set_presence}
        if self.since:
            query["since"] = self.since
        answer = self.client.get("/v3/sync", **query)
        self.since = answer["next_batch"]
        rooms = answer.get("rooms", {})
        for room_id, part in rooms.get("join", {}).items():
            self.take_joined(self.room(room_id), part)
        for room_id, part in rooms.get("leave", {}).items():
            self.take_timeline(self.room(room_id), part, "leave")
        for room_id, part in rooms.get("invite", {}).items():
            self.take_stripped(self.room(room_id), part.get("invite_state", {}), "invite")
        for room_id, part in rooms.get("knock", {}).items():
            self.take_stripped(self.room(room_id), part.get("knock_state", {}), "knock")
        for event in answer.get("presence", {}).get("events", []):
            self.presence[event["sender"]] = event["content"]
        self.to_device += answer.get("to_device", {}).get("events", [])
        self.devices_changed.update(answer.get("device_lists", {}).get("changed", []))
        self.key_counts = answer.get("device_one_time_keys_count", self.key_counts)

    @staticmethod
    def take_timeline(room, part, membership):
        room.membership = membership
        room.take(part.get("state", {}).get("events", []), part.get("timeline", {}).get("events", []))

    def take_joined(self, room, part):
        self.take_timeline(room, part, "join")
        for event in part.get("ephemeral", {}).get("events", []):
            if event["type"] == "m.typing":
                room.typing = event["content"]["user_ids"]
            elif event["type"] == "m.receipt":
                for event_id, kinds in event["content"].items():
                    for kind, users in kinds.items():
                        for user_id, data in users.items():
                            room.receipts[(kind, user_id, data.get("thread_id"))] = event_id

    @staticmethod
    def take_stripped(room, part, membership):
        room.membership = membership
        room.stripped = part.get("events", [])

    def stripped(self, room_id, kind, key=""):
        """The content of a stripped state event, or nothing."""
        for event in self.room(room_id).stripped:
            if event["type"] == kind and event.get("state_key") == key:
                return event["content"]
        return None
