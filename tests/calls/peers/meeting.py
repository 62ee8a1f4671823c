"""Participants over aiortc meet on the media server: meeting.py SERVER, where the example `bare` runs with two seats in a
call.

aiortc has an ICE, DTLS, SRTP and SCTP of its own, and the messages come from LiveKit's own description of them. Shown is
that pictures, sound and data get from one to the other, that a mute is told, that somebody who leaves is gone, and that no more
are let in than there are seats. Prints a line for each, and "N passed, N failed" at the end.
"""

import asyncio
import sys
import time
import urllib.parse
import urllib.request

import websockets
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack, MediaStreamError, VideoStreamTrack
from livekit.protocol import models, rtc

PATIENCE = 30


class Peer:
    """A participant with two connections: one it publishes on, one it receives on."""

    def __init__(self, server, room, identity):
        self.server, self.room, self.identity = server, room, identity
        self.socket, self.publisher, self.subscriber = None, None, None
        self.joined, self.published, self.channels = None, {}, {}
        self.frames = {"audio": 0, "video": 0}
        self.data, self.muted, self.gone, self.others = [], set(), set(), set()
        self.refused = False
        self.readers = []

    async def join(self):
        address, token = await self.entrance()
        query = urllib.parse.urlencode({"access_token": token, "auto_subscribe": 1, "protocol": 15, "sdk": "python"})
        self.socket = await websockets.connect(f"{address}/rtc?{query}", max_size=4 * 1024 * 1024, ping_interval=5)
        self.readers.append(asyncio.ensure_future(self.listen()))
        await until(lambda: self.joined is not None or self.refused, f"{self.identity} is answered")

    async def entrance(self):
        """The address of the signalling, and a token for it."""
        query = urllib.parse.urlencode({"room": self.room, "identity": self.identity})
        with urllib.request.urlopen(f"{self.server}/token?{query}", timeout=PATIENCE) as answer:
            return self.server.replace("http", "ws", 1) + "/sfu", answer.read().decode()

    async def listen(self):
        try:
            async for frame in self.socket:
                message = rtc.SignalResponse()
                message.ParseFromString(frame)
                await self.take(message)
        except websockets.ConnectionClosed:
            pass

    async def take(self, message):
        kind = message.WhichOneof("message")
        if kind == "join":
            self.joined = message.join
            configuration = RTCConfiguration(iceServers=[])
            self.publisher, self.subscriber = RTCPeerConnection(configuration), RTCPeerConnection(configuration)
            self.subscriber.on("track", self.receive)
            self.subscriber.on("datachannel", self.hear)
        elif kind == "leave":
            self.refused = True
        elif kind == "offer":
            if self.subscriber.remoteDescription:
                # What is offered while aiortc still connects is never received by it.
                await until(lambda: self.subscriber.connectionState == "connected", "the subscriber connects")
            await self.subscriber.setRemoteDescription(RTCSessionDescription(message.offer.sdp, "offer"))
            await self.subscriber.setLocalDescription(await self.subscriber.createAnswer())
            answer = self.subscriber.localDescription
            await self.say(answer=rtc.SessionDescription(type="answer", sdp=answer.sdp, id=message.offer.id))
        elif kind == "answer":
            await self.publisher.setRemoteDescription(RTCSessionDescription(message.answer.sdp, "answer"))
        elif kind == "track_published":
            self.published[message.track_published.cid] = message.track_published.track.sid
        elif kind == "update":
            for participant in message.update.participants:
                known = self.gone if participant.state == models.ParticipantInfo.DISCONNECTED else self.others
                known.add(participant.identity)
                self.muted |= {track.sid for track in participant.tracks if track.muted}

    async def say(self, **message):
        await self.socket.send(rtc.SignalRequest(**message).SerializeToString())

    def receive(self, track):
        async def read():
            try:
                while True:
                    await track.recv()
                    self.frames[track.kind] += 1
            except MediaStreamError:
                pass

        self.readers.append(asyncio.ensure_future(read()))

    def hear(self, channel):
        @channel.on("message")
        def note(message):
            packet = models.DataPacket()
            packet.ParseFromString(message)
            self.data.append((packet.participant_identity, packet.user.payload))

    async def publish(self, **options):
        tracks = [
            (AudioStreamTrack(), models.AUDIO, models.MICROPHONE),
            (VideoStreamTrack(), models.VIDEO, models.CAMERA),
        ]
        for track, kind, source in tracks:
            size = {"width": 640, "height": 480} if kind == models.VIDEO else {}
            await self.say(add_track=rtc.AddTrackRequest(cid=track.id, name=track.kind, type=kind, source=source, **size, **options))
            self.publisher.addTransceiver(track, direction="sendonly")
        await until(lambda: len(self.published) == len(tracks), "the tracks are named")
        for label in ["_reliable", "_lossy"]:
            self.channels[label] = self.publisher.createDataChannel(label)
        await self.publisher.setLocalDescription(await self.publisher.createOffer())
        offer = self.publisher.localDescription
        await self.say(offer=rtc.SessionDescription(type="offer", sdp=offer.sdp))
        await until(lambda: self.publisher.connectionState == "connected", "the publisher connects")
        await until(lambda: self.channels["_reliable"].readyState == "open", "the channel opens")

    def send(self, payload):
        packet = models.DataPacket(user=models.UserPacket(payload=payload))
        self.channels["_reliable"].send(packet.SerializeToString())

    async def leave(self):
        await self.say(leave=rtc.LeaveRequest())
        await self.close()

    async def close(self):
        for reader in self.readers:
            reader.cancel()
        for connection in [self.publisher, self.subscriber]:
            if connection:
                await connection.close()
        if self.socket:
            await self.socket.close()


async def until(is_so, what):
    end = time.monotonic() + PATIENCE
    while not is_so():
        if time.monotonic() > end:
            raise TimeoutError(what)
        await asyncio.sleep(0.05)


async def main(server):
    passed = failed = 0
    room = f"peers-{time.time()}"
    alice, bob = Peer(server, room, "alice"), Peer(server, room, "bob")

    async def step(what, work):
        nonlocal passed, failed
        try:
            await work
            passed += 1
            print(f"ok   {what}")
        except Exception as error:  # whatever it is, the step has failed
            failed += 1
            print(f"FAIL {what}: {type(error).__name__} {error}")

    async def meet():
        await bob.join()
        await alice.join()
        await until(lambda: "alice" in bob.others, "bob is told of alice")

    async def flow(kind, count):
        before = bob.frames[kind]
        await until(lambda: bob.frames[kind] >= before + count, f"{bob.frames} frames")

    async def talk():
        alice.send(b"hello")
        await until(lambda: ("alice", b"hello") in bob.data, f"{bob.data}")

    async def mute():
        sid = next(iter(alice.published.values()))
        await alice.say(mute=rtc.MuteTrackRequest(sid=sid, muted=True))
        await until(lambda: sid in bob.muted, "bob is told")

    async def crowd():
        carol = Peer(server, room, "carol")
        await carol.join()
        await carol.close()
        assert carol.refused and not carol.joined, "carol is let in"
        before = bob.frames["video"]
        await until(lambda: bob.frames["video"] >= before + 20, "the call goes on")

    async def leave():
        await alice.leave()
        await until(lambda: "alice" in bob.gone, "bob is told")

    await step("aiortc: two join", meet())
    await step("aiortc: one publishes", alice.publish())
    await step("aiortc: the other decodes pictures", flow("video", 20))
    await step("aiortc: the other decodes sound", flow("audio", 50))
    await step("aiortc: a data message arrives", talk())
    await step("aiortc: a full call lets nobody in, and goes on", crowd())
    await step("aiortc: a mute is told", mute())
    await step("aiortc: who leaves is gone", leave())
    await bob.close()
    print(f"{passed} passed, {failed} failed")
    return failed


if __name__ == "__main__":
    sys.exit(1 if asyncio.run(main(sys.argv[1])) else 0)
