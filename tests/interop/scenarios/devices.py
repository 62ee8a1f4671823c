"""Devices: their keys, changes of their lists, messages to them."""

from client import poll
from harness import check, encode, equal, scenario
from keys import CrossSigning, DeviceKeys


def query(client, other):
    """What a client gets on asking for another user's keys. A server may be about to refresh its list: tries again."""

    def ask():
        answer = client.post("/v3/keys/query", {"device_keys": {other.user_id: []}, "timeout": 10000})
        return None if answer.get("failures") else answer

    return poll("a key query without failures", ask)


def devices_of(client, other):
    return query(client, other)["device_keys"].get(other.user_id, {})


def until_changed(client, other):
    """Waits until the client is told that the devices of the other changed, and forgets it again."""
    client.until(f"{other.user_id} changed devices", lambda: other.user_id in client.mirror.devices_changed)
    client.mirror.devices_changed.discard(other.user_id)


def settle(*clients):
    """Takes what is there already and forgets which devices changed."""
    for client in clients:
        client.mirror.sync(0.5)
        client.mirror.devices_changed.clear()


def log_in_again(client):
    """A second device of the same user."""
    body = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": client.user_id},
        "password": "correct horse battery",
    }
    answer = client.post("/v3/login", body)
    return type(client)(client.server, client.user_id, answer["access_token"], answer["device_id"])


@scenario("device_keys")
def device_keys(case):
    alice, bob, _ = case.shared_room()
    for owner, asker in ((alice, bob), (bob, alice)):
        keys = DeviceKeys(owner)
        one_time, fallback = keys.one_time(3), keys.fallback()
        keys.upload(one_time, fallback)
        poll("the device's keys", lambda: owner.device_id in devices_of(asker, owner))
        found = devices_of(asker, owner)[owner.device_id]
        wanted = keys.device()
        for name in ("keys", "algorithms", "signatures", "device_id", "user_id"):
            equal(found[name], wanted[name], f"{name} of the device keys")
        claimed = {}
        claim = {"one_time_keys": {owner.user_id: {owner.device_id: "signed_curve25519"}}, "timeout": 10000}
        for _ in range(3):
            answer = asker.post("/v3/keys/claim", claim)["one_time_keys"][owner.user_id][owner.device_id]
            claimed.update(answer)
        equal(claimed, one_time, "the one-time keys claimed one by one")
        for _ in range(2):
            answer = asker.post("/v3/keys/claim", claim)["one_time_keys"][owner.user_id][owner.device_id]
            equal(answer, fallback, "the fallback key")


@scenario("keys_without_a_room")
def keys_without_a_room(case):
    """Users who share no room can ask for each other's keys: clients do before they send an invite."""
    alice, bob = case.pair()
    keys = DeviceKeys(alice)
    keys.upload(keys.one_time(1))
    found = devices_of(bob, alice)
    equal(list(found), [alice.device_id], "the devices found")
    unknown = bob.post("/v3/keys/query", {"device_keys": {f"@nobody:{case.one.name}": []}})
    equal(unknown["device_keys"].get(f"@nobody:{case.one.name}", {}), {}, "the devices of nobody")


@scenario("device_list_changes")
def device_list_changes(case):
    alice, bob, _ = case.shared_room()
    DeviceKeys(alice).upload()
    DeviceKeys(bob).upload()
    for owner, watcher in ((alice, bob), (bob, alice)):
        poll("the first device's keys", lambda: owner.device_id in devices_of(watcher, owner))
        settle(owner, watcher)
        second = log_in_again(owner)
        DeviceKeys(second).upload()
        until_changed(watcher, owner)
        poll("both devices", lambda: set(devices_of(watcher, owner)) == {owner.device_id, second.device_id})
        settle(watcher)
        second.post("/v3/logout")
        second.close()
        until_changed(watcher, owner)
        poll("one device less", lambda: set(devices_of(watcher, owner)) == {owner.device_id})


@scenario("cross_signing")
def cross_signing(case):
    alice, bob, _ = case.shared_room()
    for owner, watcher in ((alice, bob), (bob, alice)):
        keys = DeviceKeys(owner)
        keys.upload()
        poll("the device's keys", lambda: owner.device_id in devices_of(watcher, owner))
        settle(watcher)
        cross = CrossSigning(owner)
        cross.upload()
        until_changed(watcher, owner)
        user = owner.user_id

        def public(kind):
            key = query(watcher, owner).get(kind, {}).get(user, {})
            return list(key.get("keys", {}).values())

        poll("the master key", lambda: public("master_keys") == [cross.master.public])
        poll("the self-signing key", lambda: public("self_signing_keys") == [cross.self_signing.public])
        check(user not in query(watcher, owner).get("user_signing_keys", {}), "the user-signing key is shown to others")
        settle(watcher)
        cross.sign_device(keys.device())
        until_changed(watcher, owner)
        key_id = f"ed25519:{cross.self_signing.public}"
        poll(
            "the device's signature",
            lambda: key_id in devices_of(watcher, owner)[owner.device_id]["signatures"].get(user, {}),
        )


@scenario("devices_known_on_joining")
def devices_known_on_joining(case):
    """Who comes into a room where one is: their devices are told as changed, and can be asked for."""
    alice, bob = case.pair()
    DeviceKeys(alice).upload()
    DeviceKeys(bob).upload()
    room_id = case.create(alice)
    settle(alice, bob)
    case.bring(room_id, alice, bob)
    until_changed(alice, bob)
    until_changed(bob, alice)
    for owner, watcher in ((alice, bob), (bob, alice)):
        poll("the keys", lambda: owner.device_id in devices_of(watcher, owner))


@scenario("to_device")
def to_device(case):
    alice, bob, _ = case.shared_room()
    for sender, receiver in ((alice, bob), (bob, alice)):
        second = log_in_again(receiver)
        second.mirror.sync()
        for number in range(20):
            content = {"number": number, "text": "ä€😀"}
            target = receiver.device_id if number % 2 else "*"
            body = {"messages": {receiver.user_id: {target: content}}}
            sender.put(f"/v3/sendToDevice/org.example.note/{encode(f't{number}-{sender.device_id}')}", body)

        def numbers(client):
            return [e["content"]["number"] for e in client.mirror.to_device if e["type"] == "org.example.note"]

        receiver.until("all messages", lambda: len(numbers(receiver)) >= 20)
        equal(numbers(receiver), list(range(20)), "the messages to the first device, in order")
        second.until("all messages to all devices", lambda: len(numbers(second)) >= 10)
        equal(numbers(second), list(range(0, 20, 2)), "the messages to the second device, in order")
        notes = [event for event in receiver.mirror.to_device if event["type"] == "org.example.note"]
        equal({event["sender"] for event in notes}, {sender.user_id}, "the sender")
        second.close()
