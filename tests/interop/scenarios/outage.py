"""One of the servers is away for a while, in the middle of traffic."""

import signal
import threading
import time

from client import Refused
from harness import Failed, encode, equal, scenario

PAUSE_SECONDS = 0.15
BEFORE_SECONDS = 2
AFTER_SECONDS = 3


class Traffic:
    """Users who talk in a room, each in a thread, whatever becomes of their server."""

    def __init__(self, room_id, speakers):
        self.room_id, self.ended = room_id, threading.Event()
        self.sent, self.errors = {}, []
        self.threads = [threading.Thread(target=self.speak, args=(one,), daemon=True) for one in speakers]
        for thread in self.threads:
            thread.start()

    def speak(self, client):
        number = 0
        while not self.ended.is_set():
            number += 1
            self.say(client, f"{client.user_id} {number}")
            self.ended.wait(PAUSE_SECONDS)

    def say(self, client, text):
        # The same transaction until it is answered: who was not answered tries again.
        while True:
            try:
                event_id = client.say(self.room_id, text, transaction=encode(text))
                self.sent[event_id] = text
                return
            except OSError:
                if self.ended.wait(PAUSE_SECONDS):
                    return
            except Refused as error:
                if error.status < 500:
                    self.errors.append(str(error))
                    return
                self.ended.wait(PAUSE_SECONDS)

    def end(self):
        self.ended.set()
        for thread in self.threads:
            thread.join(60)
        equal(self.errors, [], "refused messages")
        return self.sent


def wake(room_id, *clients):
    """Lets the servers notice each other again without an event."""

    def nudge():
        for client in clients:
            client.typing(room_id)

    return nudge


def all_heard(sent, room_id, *clients):
    for client in clients:
        got = {event["event_id"] for event in client.history(room_id)}
        missing = [text for event_id, text in sent.items() if event_id not in got]
        if missing:
            raise Failed(f"{client} lacks {len(missing)} of {len(sent)} messages: {missing[:5]}")


def away(case, how):
    """The second server goes away by this signal while four users talk, and the first changes the room meanwhile."""
    alice, bob, room_id = case.shared_room(preset="public_chat")
    carol, dave = case.user(case.one, "carol"), case.user(case.two, "dave")
    erin = case.user(case.one, "erin")
    carol.join(room_id)
    dave.join(room_id, via=case.one)
    for client in (alice, bob):
        client.until_member(room_id, carol, "join")
        client.until_member(room_id, dave, "join")
    # One to speak, one to look, for each.
    traffic = Traffic(room_id, [alice, bob, carol, dave])
    try:
        time.sleep(BEFORE_SECONDS)
        if not case.two.stop(how):
            raise Failed(f"{case.two} did not stop")
        part = case.options.outage / 3
        time.sleep(part)
        erin.join(room_id)
        rename_thrice(erin, room_id)
        time.sleep(part)
        erin.leave(room_id)
        time.sleep(part)
        case.two.start()
        time.sleep(AFTER_SECONDS)
    finally:
        sent = traffic.end()
    case.same(room_id, alice, bob, seconds=90 + 5 * case.options.outage, nudge=wake(room_id, alice, bob))
    all_heard(sent, room_id, alice, bob)
    case.heard(room_id, "together again", alice, bob)
    case.heard(room_id, "so it is", bob, alice)
    case.same(room_id, alice, bob)


def rename_thrice(erin, room_id):
    """Something that changes the state while the other server is away."""
    path = f"/v3/profile/{encode(erin.user_id)}/displayname"
    for number in range(3):
        erin.put(path, {"displayname": f"Erin {number}"})


@scenario("outage", alone=True)
def outage(case):
    away(case, signal.SIGTERM)


@scenario("crash", alone=True)
def crash(case):
    away(case, signal.SIGKILL)


@scenario("outage_of_devices", alone=True)
def outage_of_devices(case):
    """Messages to devices that are sent while the other server is away arrive, once, in order."""
    alice, bob, _ = case.shared_room()
    case.two.stop()
    for number in range(130):  # more than fits in one transaction
        body = {"messages": {bob.user_id: {bob.device_id: {"number": number}}}}
        alice.put(f"/v3/sendToDevice/org.example.note/{encode(f't{number}')}", body)
    time.sleep(min(case.options.outage, 5))
    case.two.start()

    def numbers():
        return [e["content"]["number"] for e in bob.mirror.to_device if e["type"] == "org.example.note"]

    bob.until("all messages", lambda: len(numbers()) >= 130, seconds=60)
    bob.mirror.sync(1)
    equal(numbers(), list(range(130)), "the messages, in order")


@scenario("changes_while_away", alone=True)
def changes_while_away(case):
    """A room goes on without the second server; who left it meanwhile and who was kicked is known afterwards."""
    alice, bob, room_id = case.shared_room(preset="public_chat")
    dave = case.user(case.two, "dave")
    dave.join(room_id, via=case.one)
    alice.until_member(room_id, dave, "join")
    bob.until_member(room_id, dave, "join")
    case.two.stop()
    alice.kick(room_id, dave, "while away")
    alice.set_state(room_id, "m.room.name", {"name": "Changed while away"})
    for number in range(60):  # more than one transaction of events
        alice.say(room_id, f"while away {number}")
    case.two.start()
    bob.until_state(room_id, "m.room.name", lambda content: content == {"name": "Changed while away"})
    bob.until_member(room_id, dave, "leave")
    dave.until_self(room_id, "leave")
    case.same(room_id, alice, bob, seconds=60, nudge=wake(room_id, alice, bob))
