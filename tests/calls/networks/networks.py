"""Calls in networks that are not one machine: networks.py BINARY PEER DRIVER FOLDER [NAME]. A whole Conduit (BINARY) and its users
are in network namespaces of their own (land.py): over IPv6 alone, and behind routers that translate addresses. The users are
aiortc, the `webrtc` crate (PEER) and Chromium (by the script DRIVER). NAME is a part of a case's name. Prints a line for each
step, and "N passed, N failed" at the end.
"""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import threading
from dataclasses import dataclass

from aioice import stun
from house import Place, Run, Server, play
from land import Land
from program import Program
from strangers import Company, Way, meet

# All of these count as public addresses, as those for documentation do not; they are used inside the namespaces only.
SIX = {"server": "2a0e:c::1", "alice": "2a0e:c::2", "bob": "2a0e:c::3"}
SIX_GATE = "2a0e:c::fe"
PUBLIC, STUN = "5.0.0.7", "5.0.0.99"
# The network of the server, behind its router.
GATE, INNER, MATE = "10.213.1.254", "10.213.1.1", "10.213.1.2"
PORT, UDP, TCP = 8008, 7882, 7881
# How long somebody who cannot be reached is waited for.
UNREACHED_S = 15
BROWSERS_S = 240


@dataclass
class Tools:
    binary: str
    peer: str
    driver: str
    folder: str


@contextlib.asynccontextmanager
async def serving(land, tools, place):
    """A server at this place, and the two in a room of it. Meanwhile the driver of the test is where alice is."""
    folder = os.path.join(tools.folder, land.prefix.strip("-"))
    os.makedirs(folder)
    with land.inside("alice"):
        server = Server(tools.binary, folder, place)
        try:
            await server.start()
            yield server, Company(server)
        finally:
            server.end(is_crash=False)


def doctor(server):
    """What the self-test says: for each check the levels of its lines, and its exit code."""
    done = subprocess.run(server.command("calls", "doctor", "--json"), capture_output=True, text=True, timeout=120, check=False)
    found = {}
    for finding in json.loads(done.stdout)["findings"]:
        found.setdefault(finding["check"], set()).add(finding["level"])
    return found, done.returncode, done.stdout


async def diagnose(run, title, server, exit_code, **expected):
    """The self-test says of these checks what is expected: the only level of all their lines, or none for no line."""

    async def ask():
        found, code, said = await asyncio.to_thread(doctor, server)
        wrong = {check: found.get(check) for check, level in expected.items() if found.get(check) != (level and {level})}
        assert not wrong and code == exit_code, f"{wrong}, exit code {code}; it says {said}"

    await run.step(f"{title}: calls doctor says so", ask())


async def browsers(run, title, land, tools, company, address, *, relay=False):
    """Alice over UDP and bob, whose network lets none through, over TCP, to the media server or to the relay: both in Chromium."""
    people = []
    for guest, name, way in zip(company.guests(), ["alice", "bob"], [{"protocol": "udp"}, by_tcp(relay)]):
        url, token = await guest.entrance()
        way = {**way, "address": address}
        people.append({"identity": guest.identity, "machine": land.prefix + name, "url": url, "token": token, "way": way})
    site = os.path.join(os.path.dirname(tools.driver), "site")
    environment = {**os.environ, "SITE": site, "TITLE": title, "PEOPLE": json.dumps(people), "LOGS": tools.folder}
    driver = subprocess.Popen(
        ["timeout", "-k", "10", str(BROWSERS_S), "node", tools.driver], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    )
    said, _ = await asyncio.to_thread(driver.communicate)
    lines = said.splitlines()
    run.add([line for line in lines if line.startswith(("ok ", "FAIL "))])
    if not lines or "passed" not in lines[-1]:
        run.add([f"FAIL {title}: the driver of the browsers ended with {driver.returncode}"])


def by_tcp(relay):
    """The relay speaks UDP with the media server."""
    return {"protocol": "udp", "relay": "tcp"} if relay else {"protocol": "tcp"}


async def ipv6(run, tools):
    title = "IPv6 alone"
    with Land("conduit-six-") as land:
        land.machine("road")
        land.hub("road", f"{SIX_GATE}/64")
        for name, address in SIX.items():
            land.machine(name)
            land.cable(name, "wan", "road", f"{address}/64", SIX_GATE)
        server = SIX["server"]
        place = Place(f"[{server}]:{PORT}", f"http://[{server}]:{PORT}", f'[turn]\nhost = "[{server}]"\n', land.within("server"))
        async with serving(land, tools, place) as (conduit, company):
            checks = dict.fromkeys(["media_address", "media_udp", "media_tcp", "relay_udp", "relay_tcp", "signalling", "websocket"], "ok")
            await diagnose(run, title, conduit, 0, hairpin=None, **checks)
            await meet(run, Way(title, "host", server, land.within("bob")), company, tools.peer, conduit.folder)
            land.block_udp("bob", "ip6tables")
            await browsers(run, title, land, tools, company, server)


def lay_routers(land, hairpin):
    """The server and a mate of it behind a router with one public address; alice and bob behind routers of their own."""
    land.machine("road")
    land.hub("road", f"{STUN}/24")
    land.router("gate", f"{PUBLIC}/24", f"{GATE}/24", "road")
    for name, address in [("server", INNER), ("mate", MATE)]:
        land.machine(name)
        land.cable(name, "wan", "gate", f"{address}/24", GATE)
    arriving = [] if hairpin else ["-i", "wan"]
    land.translate("gate", "PREROUTING", *arriving, "-d", PUBLIC, "-j", "DNAT", "--to-destination", INNER)
    land.translate("gate", "POSTROUTING", "-o", "wan", "-s", INNER, "-j", "SNAT", "--to-source", PUBLIC)
    if hairpin:
        land.translate("gate", "POSTROUTING", "-o", "lan", "-s", f"{GATE}/24", "-d", INNER, "-j", "MASQUERADE")
    for number, name in enumerate(["alice", "bob"], 21):
        router, own = f"home-{name}", f"192.168.{number}.1"
        land.router(router, f"5.0.0.{number}/24", f"{own}/24", "road")
        land.translate(router, "POSTROUTING", "-o", "wan", "-j", "MASQUERADE", "--random-fully")
        land.machine(name)
        land.cable(name, "wan", router, f"192.168.{number}.2/24", own)


def behind_router(land, media="", relay=f'public_addresses = ["{PUBLIC}"]', more=""):
    """The place of a server behind the router, with these lines in its configuration."""
    sections = f'{more}\n[sfu]\n{media}\n[turn]\nhost = "{PUBLIC}"\n{relay}\n'
    return Place(f"0.0.0.0:{PORT}", f"http://{PUBLIC}:{PORT}", sections, land.within("server"))


async def router(run, tools):
    title = "behind routers"
    with Land("conduit-nat-") as land:
        lay_routers(land, hairpin=True)
        place = behind_router(land, f'public_addresses = ["{PUBLIC}"]')
        async with serving(land, tools, place) as (server, company):
            checks = dict.fromkeys(["media_address", "media_udp", "media_tcp", "relay_udp", "relay_tcp", "relay_address", "signalling"], "ok")
            await diagnose(run, title, server, 0, hairpin=None, **checks)
            for goes, kind in [("directly", "host"), ("through the relay", "relay")]:
                way = Way(f"{title}, {goes}", kind, PUBLIC, land.within("bob"))
                await meet(run, way, company, tools.peer, server.folder)
            land.block_udp("home-bob")
            for relay in [False, True]:
                await browsers(run, title, land, tools, company, PUBLIC, relay=relay)


async def nothing_comes_back(run, tools):
    title = "a router without hairpin"
    with Land("conduit-hair-") as land:
        lay_routers(land, hairpin=False)
        place = behind_router(land, f'public_addresses = ["{PUBLIC}", "{INNER}"]')
        async with serving(land, tools, place) as (server, company):
            # Of the two addresses one is reached from there, and the other may be.
            await diagnose(run, title, server, 1, media_address="ok", media_udp="ok", media_tcp="ok", hairpin="warn", signalling="fail")
            await meet(run, Way(f"{title}, outside", "host", PUBLIC, land.within("bob")), company, tools.peer, server.folder)
            await meet(run, Way(f"{title}, relay", "relay", INNER, land.within("bob")), company, tools.peer, server.folder)

            async def inside():
                with await of_mate(land, tools, company, server.folder) as program:
                    way = await asyncio.to_thread(program.wait_for, "way ")
                    assert way.endswith(f" {INNER}"), way

            await run.step(f"{title}: who is in the server's network takes its inner address", inside())


async def untold_inside(run, tools):
    title = "a router without hairpin, the public address only"
    with Land("conduit-bare-") as land:
        lay_routers(land, hairpin=False)
        async with serving(land, tools, behind_router(land, f'public_addresses = ["{PUBLIC}"]')) as (server, company):

            async def inside():
                with await of_mate(land, tools, company, server.folder) as program:
                    await asyncio.to_thread(program.wait_for, "joined")
                    with contextlib.suppress(TimeoutError):
                        way = await asyncio.to_thread(program.wait_for, "way ", UNREACHED_S)
                        raise AssertionError(f"it is reached: {way}")

            await run.step(f"{title}: who is in the server's network has no media", inside())
            await diagnose(run, title, server, 1, media_address="ok", media_udp=None, media_tcp=None, hairpin="warn")
            # The relay reaches the media server without the router, whatever clients are told.
            await meet(run, Way(f"{title}, relay", "relay", PUBLIC, land.within("bob")), company, tools.peer, server.folder)


async def of_mate(land, tools, company, folder):
    """The crate in the server's own network, which reaches the signalling at the inner address."""
    url, token = await company.guests()[1].entrance()
    return Program(tools.peer, url.replace(PUBLIC, INNER), token, log=f"{folder}/mate.log", prefix=land.within("mate"))


async def told_by_stun(run, tools):
    title = "the public address is asked of a STUN server"
    with Land("conduit-stun-") as land, contextlib.ExitStack() as stack:
        lay_routers(land, hairpin=True)
        with land.inside("road"):
            stack.enter_context(answering())
        place = behind_router(land, relay="", more=f'[calls]\nstun_server = "{STUN}:3478"')
        async with serving(land, tools, place) as (server, company):
            await diagnose(run, title, server, 0, media_address="ok", relay_address="ok", media_udp="ok", relay_udp="ok", hairpin=None)
            await meet(run, Way(title, "host", PUBLIC, land.within("bob")), company, tools.peer, server.folder)


async def nobody_told(run, tools):
    title = "behind a router, with nothing said of it"
    with Land("conduit-mute-") as land:
        lay_routers(land, hairpin=True)
        async with serving(land, tools, behind_router(land, relay="")) as (server, _):
            await diagnose(run, title, server, 0, media_address="warn", relay_address="warn", media_udp="ok")


@contextlib.contextmanager
def answering():
    """A STUN server (RFC 8489) in the namespace of this thread: it says where a request comes from."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here:
        here.bind((STUN, 3478))
        here.settimeout(0.2)
        is_over = threading.Event()

        def answer():
            while not is_over.is_set():
                with contextlib.suppress(TimeoutError, ValueError):
                    data, source = here.recvfrom(1500)
                    asked = stun.parse_message(data)
                    told = {"XOR-MAPPED-ADDRESS": source}
                    reply = stun.Message(asked.message_method, stun.Class.RESPONSE, asked.transaction_id, told)
                    here.sendto(bytes(reply), source)

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()


CASES = {
    "ipv6": ipv6,
    "nat with hairpin": router,
    "nat without hairpin": nothing_comes_back,
    "nat without hairpin or inner address": untold_inside,
    "nat and stun": told_by_stun,
    "nat unsaid": nobody_told,
}


async def main(binary, peer, driver, folder, only=""):
    run, tools = Run(), Tools(binary, peer, driver, folder)
    for name, case in CASES.items():
        if only in name:
            # What has no step of its own, such as laying the cables.
            await run.attempt(name, case(run, tools))
    print(f"{run.passed} passed, {run.failed} failed")
    return run.failed or not run.passed


if __name__ == "__main__":
    play(main)
