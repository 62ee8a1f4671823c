"""Whether servers agree on a room: by the events themselves, as each server gives them to its users."""

import json
import time

SEEN = ("type", "sender", "state_key", "content", "origin_server_ts")


class Differs(Exception):
    """Servers do not agree."""


def digest(event):
    return json.dumps({name: event.get(name) for name in SEEN}, sort_keys=True)


def name_of(event):
    key = event.get("state_key")
    return f"{event['event_id']} {event['type']}{'' if key is None else f' [{key}]'} of {event['sender']}"


def differences(one, other, first, second):
    """Texts about what differs between two maps of events."""
    found = []
    for key in sorted(one.keys() | other.keys(), key=str):
        mine, theirs = one.get(key), other.get(key)
        if theirs is None:
            found.append(f"only {first} has {name_of(mine)}")
        elif mine is None:
            found.append(f"only {second} has {name_of(theirs)}")
        elif mine["event_id"] != theirs["event_id"]:
            found.append(f"{first} has {name_of(mine)}, {second} {name_of(theirs)}")
        elif digest(mine) != digest(theirs):
            found.append(f"{name_of(mine)} is {digest(mine)} at {first}, {digest(theirs)} at {second}")
    return found


def timeline(client, room_id):
    return {event["event_id"]: event for event in client.history(room_id)}


def compare_once(clients, room_id, timelines=True):
    """What differs between the servers of `clients` at the moment."""
    first, *others = clients
    found = []
    state = first.full_state(room_id)
    events = timeline(first, room_id) if timelines else {}
    for other in others:
        names = str(first), str(other)
        found += [f"state: {text}" for text in differences(state, other.full_state(room_id), *names)]
        if timelines:
            found += [f"timeline: {text}" for text in differences(events, timeline(other, room_id), *names)]
    return found


def same_rooms(clients, room_id, seconds, timelines=True, nudge=None):
    """Waits until the timelines and states that the clients are given are equal. `nudge` is called between attempts."""
    deadline = time.monotonic() + seconds
    while True:
        found = compare_once(clients, room_id, timelines)
        if not found:
            return
        if time.monotonic() > deadline:
            shown = "\n      ".join(found[:12])
            raise Differs(f"after {seconds} s, {len(found)} differences:\n      {shown}")
        if nudge:
            nudge()
        time.sleep(0.5)
