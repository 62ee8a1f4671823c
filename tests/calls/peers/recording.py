"""A call is recorded by a whole Conduit: recording.py BINARY FOLDER. Participants over aiortc, whose media nobody encrypts,
are in a call of a room; the server records it into a WebM file and sends that into the room. ffprobe and ffmpeg say whether
the file is a good one. Prints a line for each step, and "N passed, N failed" at the end.
"""

import asyncio
import json
import subprocess

from livekit.protocol import models

from house import Guest, Run, Server, User, loopback, play, quote
from meeting import until

STATE = "io.conduit.call.recording"


class Moderator(User):
    """Somebody with an account who asks for recordings."""

    def record(self, room, action):
        return self.ask("POST", recording(room), {"action": action})

    def state(self, room):
        return self.ask("GET", f"/_matrix/client/v3/rooms/{quote(room)}/state/{STATE}/")[1]

    def recordings(self, room):
        """The contents of the messages with a file, the last first."""
        events = self.must("GET", f"/rooms/{quote(room)}/messages?dir=b&limit=100")["chunk"]
        contents = [event["content"] for event in events if event["type"] == "m.room.message"]
        return [content for content in contents if content.get("msgtype") in ["m.video", "m.audio"]]


def recording(room):
    return f"/_conduit/client/v1/rooms/{quote(room)}/call/recording"


def probe(path):
    """What ffprobe says of the file, and what ffmpeg complains of when it decodes all of it."""
    command = ["ffprobe", "-v", "error", "-count_packets", "-show_streams", "-show_format", "-of", "json", path]
    shown = subprocess.run(command, capture_output=True, timeout=60, check=True)
    # With the times of the file, not those of a frame rate that is guessed.
    times = ["-fps_mode", "passthrough", "-enc_time_base", "-1"]
    decode = ["ffmpeg", "-v", "error", "-i", path, "-map", "0", *times, "-f", "null", "-"]
    decoded = subprocess.run(decode, capture_output=True, timeout=120, check=True)
    return json.loads(shown.stdout), (shown.stderr + decoded.stderr).decode()


async def main(binary, folder):
    run, server = Run(), Server(binary, folder, loopback())
    await server.start()
    alice, bob, carol = (Moderator(server, name) for name in ["alice", "bob", "carol"])
    room = alice.create_room()
    bob.must("POST", f"/join/{quote(room)}", {})
    first, second = Guest(alice, room), Guest(bob, room)
    peers = [first, second]

    async def meet():
        status, answer = alice.record(room, "start")
        assert status == 404, f"a call that is not there: {status} {answer}"
        await first.join()
        await first.publish()
        await second.join()
        await until(lambda: second.frames["video"] > 10, "bob decodes pictures")

    async def refuse():
        for user, expected in [(bob, 403), (carol, 403)]:
            status, answer = user.record(room, "start")
            assert (status, answer["errcode"]) == (expected, "M_FORBIDDEN"), f"{user.name}: {status} {answer}"
        assert carol.ask("GET", recording(room))[0] == 403, "carol is told whether it is recorded"
        assert alice.record(room, "stop")[0] == 404, "what does not run can be stopped"
        assert alice.record(room, "pause")[0] == 400, "there is such an action"
        assert "recording" not in bob.state(room), "the room says that it is recorded"

    async def begin():
        status, answer = alice.record(room, "start")
        assert status == 200, answer
        state = bob.state(room)
        assert (state.get("recording"), state.get("user_id")) == (True, alice.id), state
        assert bob.ask("GET", recording(room))[1]["user_id"] == alice.id
        assert alice.record(room, "start")[0] == 409, "it is recorded twice"
        assert bob.record(room, "stop")[0] == 403, "bob can stop it"

    async def talk():
        await second.publish()
        before = second.frames["video"]
        await until(lambda: second.frames["video"] > before + 120, "bob decodes more pictures")

    async def stop():
        status, answer = alice.record(room, "stop")
        assert status == 200, answer
        await until(lambda: bob.state(room) == {}, "the state is emptied")
        await until(lambda: bob.recordings(room), "the file is sent")
        await until(lambda: bob.ask("GET", recording(room))[1] == {"recording": False}, "it is over")

    async def look(videos, sounds, seconds):
        content = bob.recordings(room)[0]
        path = content["url"].removeprefix("mxc://")
        status, file = bob.ask("GET", f"/_matrix/client/v1/media/download/{path}")
        info = content["info"]
        assert (status, len(file)) == (200, info["size"]), f"{status}, {len(file)} bytes, {info}"
        assert (content["msgtype"], info["mimetype"]) == ("m.video", "video/webm"), content
        assert (info["w"], info["h"]) == (640, 480), info
        with open(f"{folder}/recording.webm", "wb") as out:
            out.write(file)
        shown, complaints = probe(f"{folder}/recording.webm")
        streams = [(stream["codec_name"], int(stream["nb_read_packets"])) for stream in shown["streams"]]
        assert [name for name, _ in streams].count("vp8") == videos, streams
        assert [name for name, _ in streams].count("opus") == sounds, streams
        assert all(count > 30 for _, count in streams), streams
        assert not complaints, complaints
        assert info["duration"] >= seconds * 1000, info
        length = shown["format"].get("duration")
        assert length is None or abs(float(length) - info["duration"] / 1000) < 1, f"{length} s, {info}"

    async def crash():
        assert alice.record(room, "start")[0] == 200
        before = second.frames["video"]
        # Longer than what waits in memory.
        await until(lambda: second.frames["video"] > before + 270, "bob decodes more pictures")
        server.end(is_crash=True)
        await server.start()
        await until(lambda: bob.state(room) == {}, "the state is emptied")
        await until(lambda: len(bob.recordings(room)) == 2, "the file is sent")

    async def encrypted():
        sealed = alice.create_room()
        bob.must("POST", f"/join/{quote(sealed)}", {})
        guest = Guest(alice, sealed)
        peers.append(guest)
        await guest.join()
        await guest.publish(encryption=models.Encryption.GCM)
        status, answer = alice.record(sealed, "start")
        assert (status, answer["errcode"]) == (403, "M_FORBIDDEN") and "encrypted" in answer["error"], answer
        await until(lambda: alice.state(sealed).get("recording") is not True, "the room says that it is not recorded")

    async def over():
        for peer in [first, second]:
            await peer.close()
        room = alice.create_room()
        guest = Guest(alice, room)
        await guest.join()
        await guest.publish()
        assert alice.record(room, "start")[0] == 200
        await asyncio.sleep(3)
        await guest.leave()
        await until(lambda: len(alice.recordings(room)) == 1, "the file is sent")
        assert alice.state(room) == {}, alice.state(room)

    try:
        await run.step("recording: two people are in a call", meet())
        await run.step("recording: refused without power, and to strangers", refuse())
        await run.step("recording: begins, and the room's state says so", begin())
        await run.step("recording: a second one publishes meanwhile", talk())
        await run.step("recording: ends, and the file is sent", stop())
        await run.step("recording: the file has every track and decodes without a complaint", look(2, 2, 3))
        await run.step("recording: what a crash cuts off is sent at the next start", crash())
        await run.step("recording: also that file is a good one", look(2, 2, 4))
        await run.step("recording: refused where media are encrypted", encrypted())
        await run.step("recording: ends with the call", over())
    finally:
        for peer in peers:
            await peer.close()
        server.end(is_crash=False)
    print(f"{run.passed} passed, {run.failed} failed")
    return run.failed


if __name__ == "__main__":
    play(main)
