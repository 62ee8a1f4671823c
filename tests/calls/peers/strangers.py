"""Two that have nothing in common but the standards meet: strangers.py BINARY PEER FOLDER. A participant over the `webrtc`
crate (PEER, of webrtc-rs/) and one over aiortc are in the call of a room of a whole Conduit. Each gets the pictures and the
sound of the other, first directly, then with the first one behind the relay (TURN) only. Prints a line for each step, and
"N passed, N failed" at the end.
"""

import asyncio
from dataclasses import dataclass

from house import Guest, Run, Server, User, loopback, play, quote
from meeting import until
from program import Program

PICTURES, PACKETS = 10, 50


@dataclass
class Way:
    """How the participant over the crate reaches the server."""

    title: str
    # The kind of its own address, `host` or `relay`, and the server's address.
    kind: str
    far: str
    # What stands before its command, such as to run it in a network namespace.
    prefix: tuple = ()

    @property
    def options(self):
        return ["relay"] * (self.kind == "relay")


class Company:
    """Alice and bob, who are in a room of a server."""

    def __init__(self, server):
        self.alice, self.bob = User(server, "alice"), User(server, "bob")
        self.room = self.alice.create_room()
        self.bob.must("POST", f"/join/{quote(self.room)}", {})

    def guests(self):
        return Guest(self.alice, self.room), Guest(self.bob, self.room)


async def meet(run, way, company, peer, folder):
    """The call of alice (aiortc) and bob (the program), who goes this way."""
    alice, bob = company.guests()
    url, token = await bob.entrance()
    log = f"{folder}/{way.title.replace(' ', '-')}.log"
    program = Program(peer, url, token, *way.options, log=log, prefix=way.prefix)

    def named(what):
        return f"webrtc-rs and aiortc, {way.title}: {what}"

    async def wait(line):
        await asyncio.to_thread(program.wait_for, line)

    async def enter():
        await alice.join()
        await alice.publish()
        for line in ["joined", "published audio", "published video", "way "]:
            await wait(line)

    async def check_way():
        kind, _, addresses = program.says("way ").removeprefix("way ").partition("/")
        _, far = addresses.split()
        assert (kind, far) == (way.kind, way.far), program.says("way ")

    async def to_aiortc():
        before = dict(alice.frames)
        await until(
            lambda: all(alice.frames[kind] >= before[kind] + PICTURES for kind in ["audio", "video"]),
            f"{alice.frames} frames after {before}",
        )

    async def to_the_crate():
        before = {kind: program.counted(kind) for kind in ["audio", "video"]}
        await until(
            lambda: all(program.counted(kind) >= before[kind] + PACKETS for kind in before),
            f"{program.says('received')} after {before}",
        )

    async def talk():
        alice.send(b"from aiortc")
        await wait(f"data {alice.identity} from aiortc")
        program.write("from the crate")
        await until(lambda: (bob.identity, b"from the crate") in alice.data, f"{alice.data}")

    async def leave():
        assert await asyncio.to_thread(program.leave) == 0, program.lines
        await until(lambda: bob.identity in alice.gone, "alice is told")

    try:
        await run.step(named("both join and publish"), enter())
        await run.step(named("it goes that way"), check_way())
        await run.step(named("aiortc decodes what the crate sends"), to_aiortc())
        await run.step(named("the crate gets what aiortc sends"), to_the_crate())
        await run.step(named("messages both ways"), talk())
        await run.step(named("who hangs up is gone"), leave())
    finally:
        program.end()
        await alice.close()


async def main(binary, peer, folder):
    run, server = Run(), Server(binary, folder, loopback())
    await server.start()
    try:
        company = Company(server)
        for title, kind in [("directly", "host"), ("through the relay", "relay")]:
            await meet(run, Way(title, kind, "127.0.0.1"), company, peer, folder)
    finally:
        server.end(is_crash=False)
    print(f"{run.passed} passed, {run.failed} failed")
    return run.failed


if __name__ == "__main__":
    play(main)
