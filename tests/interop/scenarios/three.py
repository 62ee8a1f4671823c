"""Three servers in one room."""

from harness import equal, scenario
from scenarios.outage import wake


def page_back(case, room_id, *clients):
    """Lets the servers fetch the room's history before a third joins. Synapse may ask that one first, which has none,
    and then leaves the history alone for an hour."""
    case.same(room_id, *clients)


def trio(case):
    """Alice, Bob and Carol, each on a server, in a room of Alice's; Bob brought Carol in."""
    alice, bob, room_id = case.shared_room(power_level_content_override={"invite": 0})
    page_back(case, room_id, alice, bob)
    carol = case.user(case.three, "carol")
    case.bring(room_id, bob, carol)
    alice.until_member(room_id, carol, "join")
    return alice, bob, carol, room_id


@scenario("three_servers", third=True)
def three_servers(case):
    alice, bob, carol, room_id = trio(case)
    people = alice, bob, carol
    for number in range(5):
        for speaker in people:
            listeners = [one for one in people if one is not speaker]
            case.heard(room_id, f"{number} by {speaker.user_id}", speaker, *listeners)
    for listener in (alice, bob):
        carol.typing(room_id)
        listener.until("Carol types", lambda one=listener: carol.user_id in one.mirror.room(room_id).typing)
    equal(alice.mirror.room(room_id).texts(), bob.mirror.room(room_id).texts(), "the messages in order")
    case.same(room_id, *people)
    alice.kick(room_id, bob)
    bob.until_self(room_id, "leave")
    carol.until_member(room_id, bob, "leave")
    case.heard(room_id, "without Bob", carol, alice)
    case.bring(room_id, alice, bob)
    carol.until_member(room_id, bob, "join")
    case.heard(room_id, "with Bob", bob, alice, carol)
    case.same(room_id, *people)


@scenario("three_servers_host_away", third=True, alone=True)
def three_servers_host_away(case):
    """The room's first server is away: the others go on, a new one joins by way of the second."""
    alice, bob, room_id = case.shared_room(preset="public_chat")
    page_back(case, room_id, alice, bob)
    case.one.stop()
    carol = case.user(case.three, "carol")
    carol.join(room_id, via=case.two)
    bob.until_member(room_id, carol, "join")
    for number in range(10):
        case.heard(room_id, f"host away {number}", bob, carol)
        case.heard(room_id, f"indeed {number}", carol, bob)
    bob.put(f"/v3/profile/{bob.user_id}/displayname", {"displayname": "Bob the keeper"})
    case.one.start()
    case.same(room_id, alice, bob, carol, seconds=60, nudge=wake(room_id, bob, carol))
    case.heard(room_id, "back", alice, bob, carol)
    case.same(room_id, alice, bob, carol)


@scenario("three_servers_parted", third=True, alone=True)
def three_servers_parted(case):
    """The first server is cut off from the others; both sides go on and meet again."""
    alice, bob, carol, room_id = trio(case)
    case.one.link.cut()
    for number in range(10):
        bob.say(room_id, f"with Carol {number}")
        carol.say(room_id, f"with Bob {number}")
    # What Alice says still gets out: only the way to her server is cut.
    for number in range(10):
        alice.say(room_id, f"one way {number}")
    case.one.link.mend()
    case.same(room_id, alice, bob, carol, seconds=60, nudge=wake(room_id, alice, bob, carol))
    for speaker in (alice, bob, carol):
        case.heard(room_id, "one again", speaker, *[one for one in (alice, bob, carol) if one is not speaker])
    case.same(room_id, alice, bob, carol)
