"""What is started beside the tests, and waiting for it."""

import asyncio
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import aiohttp

# How long something may take to come, in seconds.
LIMIT = 60


def free_ports(count: int) -> list[int]:
    """Held together until all are found: one that was let go may be found again."""
    found = [socket.socket() for _ in range(count)]
    for one in found:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in found]
    for one in found:
        one.close()
    return ports


class Program:
    """A process with its log."""

    def __init__(self, name: str, folder: Path, *command: str):
        self.name, self.log, self.command = name, folder / f"{name}.log", command
        self.process = None

    def start(self):
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def stop(self):
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise SystemExit(f"{self.name} did not stop within 30 s")
        finally:
            self.process = None


async def wait_until(found, what: str):
    """What `found` gives, or the coroutine that it gives, once that is something."""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        value = found()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return value
        await asyncio.sleep(0.1)
    raise SystemExit(f"FAILED: {what} did not come")


async def wait_for_server(url: str):
    async with aiohttp.ClientSession() as session:
        for _ in range(600):
            try:
                async with session.get(f"{url}/_matrix/client/versions") as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)
    raise SystemExit("FAILED: the server did not come up")


def make_server(binary: str, folder: Path, port: int, services: Path) -> Program:
    """A server with an empty data folder, which knows the application services in a folder."""
    (folder / "conduit.toml").write_text(
        f'server_name = "hs.test"\ndata_dir = "{folder}/data"\nlisteners = ["127.0.0.1:{port}"]\n'
        f'registration = "open"\n[appservices]\nfolder = "{services}"\n[admin]\nroom = false\n[rate_limits]\nenabled = false\n'
    )
    return Program("conduit", folder, binary, "run", "--config", str(folder / "conduit.toml"))


def show_logs(*programs: Program):
    for program in programs:
        if program.log.exists():
            lines = program.log.read_text(errors="replace").splitlines()[-40:]
            print(f"--- the end of {program.name}.log", *lines, sep="\n", file=sys.stderr)
