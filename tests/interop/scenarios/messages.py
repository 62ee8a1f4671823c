"""What is said, and what relates to it."""

import threading

from client import Refused, poll
from harness import check, equal, refused, scenario


def bodies(client, room_id):
    return [event["content"].get("body") for event in client.history(room_id) if event["type"] == "m.room.message"]


@scenario("messages_in_order")
def messages_in_order(case):
    alice, bob, room_id = case.shared_room()
    wanted = []
    for number in range(10):
        for speaker, listener in ((alice, bob), (bob, alice)):
            text = f"{number} by {speaker.user_id}"
            case.heard(room_id, text, speaker, listener)
            wanted.append(text)
    bob.until("all messages", lambda: len(bob.mirror.room(room_id).texts()) == len(wanted))
    for client in (alice, bob):
        equal(client.mirror.room(room_id).texts(), wanted, f"the messages as they came to {client}")
        equal(bodies(client, room_id), wanted, f"the messages of {client} in /messages")
    case.same(room_id, alice, bob)


@scenario("messages_at_once")
def messages_at_once(case):
    """Both talk without waiting for each other: nothing is lost, and each speaker's order is kept."""
    alice, bob, room_id = case.shared_room()
    sent = {alice: [f"a{number}" for number in range(40)], bob: [f"b{number}" for number in range(40)]}
    errors = []

    def speak(client):
        try:
            for text in sent[client]:
                client.say(room_id, text)
        except (OSError, Refused) as error:
            errors.append(error)

    speakers = [threading.Thread(target=speak, args=(client,)) for client in sent]
    for speaker in speakers:
        speaker.start()
    for speaker in speakers:
        speaker.join(60)
    equal(errors, [], "errors on sending")
    for client in sent:
        room = client.mirror.room(room_id)
        client.until("all messages", lambda room=room: len(room.texts()) == 80)
        for texts in sent.values():
            equal([text for text in room.texts() if text in texts], texts, f"one's messages as they came to {client}")
    case.same(room_id, alice, bob)


@scenario("unusual_content")
def unusual_content(case):
    """Canonical JSON: whoever writes it otherwise gets another hash or event id, and the event is lost."""
    alice, bob, room_id = case.shared_room()
    contents = [
        {"msgtype": "m.text", "body": "äöü € 😀 \u2028 \u0000 \u001f \u007f \" \\ / </script>"},
        {"msgtype": "m.text", "body": "", "org.example.numbers": [0, -1, 9007199254740991, -9007199254740991]},
        {"msgtype": "m.text", "body": "deep", "a": {"": None, "é": [], "e\u0301": {}, "\uffff": 1, "\U00010000": 2}},
        {"msgtype": "m.text", "body": "x" * 60000},
    ]
    for content in contents:
        for speaker, listener in ((alice, bob), (bob, alice)):
            event_id = speaker.send(room_id, "m.room.message", content)
            equal(listener.until_event(room_id, event_id)["content"], content, "the content that arrived")
    key = "ä@/%2F?#:\u2028 😀"
    alice.set_state(room_id, "org.example.state", {"x": [True, False, None]}, key=key)
    bob.until_state(room_id, "org.example.state", lambda content: content == {"x": [True, False, None]}, key=key)
    refused(400, alice.send, room_id, "m.room.message", {"msgtype": "m.text", "body": "x", "float": 1.5})
    case.same(room_id, alice, bob)


@scenario("edits")
def edits(case):
    alice, bob, room_id = case.shared_room()
    for author, reader in ((alice, bob), (bob, alice)):
        first = case.heard(room_id, "teh text", author, reader)
        for text in ("the txet", "the text"):
            edit = author.say(
                room_id,
                f"* {text}",
                **{
                    "m.new_content": {"msgtype": "m.text", "body": text},
                    "m.relates_to": {"rel_type": "m.replace", "event_id": first},
                },
            )
            event = reader.until_event(room_id, edit)
            equal(event["content"]["m.new_content"]["body"], text, "the new content")
        for client in (author, reader):
            bundle = client.event(room_id, first)["unsigned"]["m.relations"]["m.replace"]
            equal(bundle["event_id"], edit, f"the latest edit as {client} gets it")
    case.same(room_id, alice, bob)


@scenario("reactions")
def reactions(case):
    alice, bob, room_id = case.shared_room()
    first = case.heard(room_id, "what do you think?", alice, bob)
    content = {"m.relates_to": {"rel_type": "m.annotation", "event_id": first, "key": "👍"}}
    ids = [bob.send(room_id, "m.reaction", content), alice.send(room_id, "m.reaction", content)]
    for client in (alice, bob):
        for event_id in ids:
            equal(client.until_event(room_id, event_id)["content"], content, "the reaction")
        path = client.room(room_id, "relations", first, "m.annotation").replace("/v3/", "/v1/")
        equal({event["event_id"] for event in client.get(path)["chunk"]}, set(ids), "the reactions listed")
    alice.until_event(room_id, bob.redact(room_id, ids[0]))
    path = alice.room(room_id, "relations", first, "m.annotation").replace("/v3/", "/v1/")
    poll(
        "the reaction is gone at the other server",
        lambda: [event["event_id"] for event in alice.get(path)["chunk"]] == [ids[1]],
    )
    case.same(room_id, alice, bob)


@scenario("redactions")
def redactions(case):
    alice, bob, room_id = case.shared_room()
    for author, redactor, reader in ((alice, alice, bob), (bob, bob, alice), (bob, alice, bob)):
        event_id = case.heard(room_id, "a slip", author, alice if author is bob else bob)
        redaction = redactor.redact(room_id, event_id, "a reason")
        event = reader.until_event(room_id, redaction)
        equal(event.get("redacts") or event["content"].get("redacts"), event_id, "what is redacted")
        equal(event["content"].get("reason"), "a reason", "the reason")
        for client in (alice, bob):
            poll(f"redacted for {client}", lambda c=client, e=event_id: c.event(room_id, e)["content"] == {})
    kept = case.heard(room_id, "this stays", alice, bob)
    refused(403, bob.redact, room_id, kept)
    state = alice.set_state(room_id, "m.room.topic", {"topic": "a slip in the topic"})
    bob.until_event(room_id, state)
    bob.until_event(room_id, alice.redact(room_id, state))
    poll("the topic is empty", lambda: bob.get_state(room_id, "m.room.topic") == {})
    case.same(room_id, alice, bob)


@scenario("threads")
def threads(case):
    alice, bob, room_id = case.shared_room()
    root = case.heard(room_id, "a thread begins", alice, bob)
    relation = {"rel_type": "m.thread", "event_id": root, "is_falling_back": True, "m.in_reply_to": {"event_id": root}}
    replies = []
    for number, (author, reader) in enumerate(((bob, alice), (alice, bob), (bob, alice))):
        replies.append(author.say(room_id, f"reply {number}", **{"m.relates_to": relation}))
        reader.until_event(room_id, replies[-1])
    case.heard(room_id, "beside the thread", bob, alice)
    for client in (alice, bob):
        found = client.get(client.room(room_id, "threads").replace("/v3/", "/v1/"))["chunk"]
        equal([event["event_id"] for event in found], [root], f"the threads that {client} has")
        summary = found[0]["unsigned"]["m.relations"]["m.thread"]
        equal(summary["count"], 3, "the replies counted")
        equal(summary["latest_event"]["event_id"], replies[-1], "the latest reply")
        check(summary["current_user_participated"], "that both took part is known")
    case.same(room_id, alice, bob)


@scenario("state_events")
def state_events(case):
    alice, bob, room_id = case.shared_room()
    for number in range(3):
        event_id = alice.set_state(room_id, "m.room.topic", {"topic": f"topic {number}"})
        bob.until_event(room_id, event_id)
    alice.set_state(room_id, "m.room.encryption", {"algorithm": "m.megolm.v1.aes-sha2"})
    bob.until_state(room_id, "m.room.encryption", lambda content: content["algorithm"] == "m.megolm.v1.aes-sha2")
    sealed = {"algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "AAAA", "session_id": "s", "device_id": "D"}
    for speaker, listener in ((alice, bob), (bob, alice)):
        event_id = speaker.send(room_id, "m.room.encrypted", sealed)
        equal(listener.until_event(room_id, event_id)["content"], sealed, "the encrypted event")
    refused(403, bob.set_state, room_id, "m.room.topic", {"topic": "not allowed"})
    case.same(room_id, alice, bob)
