#!/usr/bin/env python3
"""What becomes of a call on a damaged network: damage.py SERVER GENERATOR [--only CASE] [--trace]

SERVER is the example `bare` of the crate sfu, GENERATOR the program of bench/calls. The server, a participant who sends sound and
three layers of video, and one who receives are in a network namespace each; a switch between them (network.py) damages the link
of one of them. Needs root, iproute2 and /dev/net/tun. Ends with "N passed, N failed"; exit code 1 when anything failed.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

from network import Damage, Network, run

SERVER, SENDER, RECEIVER = "conduit-call-s", "conduit-call-a", "conduit-call-b"
ADDRESSES = {SERVER: "10.213.0.1", SENDER: "10.213.0.2", RECEIVER: "10.213.0.3"}
PORT = 7880
LONGEST_FREEZE_MS = 2000
BEST = 2
LOSSY = Damage(loss=0.05, delay=0.05)
NARROW = Damage(bits_a_second=500_000)


@contextlib.contextmanager
def process(name, log, *command):
    """A program in a namespace; gone afterwards."""
    with open(log, "w") as errors:
        started = subprocess.Popen(
            ["ip", "netns", "exec", name, *map(str, command)], stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
        )
        try:
            yield started
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGKILL)
            started.wait()
            started.stdout.close()


@dataclasses.dataclass
class Step:
    """The state of a link for some seconds."""

    seconds: int
    participant: str = RECEIVER
    down: Damage = Damage()
    up: Damage = Damage()


@dataclasses.dataclass
class Case:
    name: str
    steps: list[Step]
    # Whether the video must be at its best at the end of each step (True), below it (False), or either (None).
    best: list[bool | None]


CASES = [
    Case("a good network", [Step(10)], [True]),
    Case(
        "5 % loss and 100 ms to and from the receiver",
        [Step(5), Step(20, down=LOSSY, up=LOSSY)],
        [True, None],
    ),
    Case(
        "5 % loss and 100 ms to and from the sender",
        [Step(5), Step(20, SENDER, down=LOSSY, up=LOSSY)],
        [True, None],
    ),
    Case(
        "a link narrowed to 500 kbit/s and widened again",
        [Step(8), Step(15, down=NARROW), Step(20)],
        [True, False, True],
    ),
]


class Call:
    """One call of a sender and a receiver; what the receiver sees, in half seconds."""

    def __init__(self, options, folder):
        self.options, self.folder = options, folder
        self.trace = []

    def play(self, network, case):
        total = sum(step.seconds for step in case.steps)
        media = ["--audio", "--video", "0,1,2", "--url", f"{ADDRESSES[SERVER]}:{PORT}", "--publishers", "1"]
        with contextlib.ExitStack() as stack:
            stack.enter_context(
                process(SERVER, self.folder / "server.log", self.options.server, "--port", PORT, "--listen", ADDRESSES[SERVER],
                        "--public", ADDRESSES[SERVER], "--root", self.folder)
            )
            await_server()
            stack.enter_context(
                process(SENDER, self.folder / "sender.log", self.options.generator, "--role", "publish", "--subscribers", "0",
                        "--seconds", total + 30, "--address", ADDRESSES[SENDER], *media)
            )
            time.sleep(1)
            receiver = stack.enter_context(
                process(RECEIVER, self.folder / "receiver.log", self.options.generator, "--role", "subscribe", "--subscribers", "1",
                        "--warm-up", "8", "--seconds", total, "--address", ADDRESSES[RECEIVER], "--trace", *media)
            )
            self.watch(network, case, receiver)

    def watch(self, network, case, receiver):
        steps = list(case.steps)
        until = 0.0
        for line in receiver.stdout:
            seen = json.loads(line)
            if "at" not in seen:
                continue
            self.trace.append(seen)
            if self.options.trace:
                print(f"    {seen['at']:5.1f} s  layer {seen['level']}  {seen['frames_per_second']:4.0f} frames/s  "
                      f"{seen['kbit']:6.0f} kbit/s  longest freeze {seen['longest_gap_ms']} ms", flush=True)
            if steps and seen["at"] >= until:
                step = steps.pop(0)
                until += step.seconds
                network.damage(step.participant, step.down, step.up)
        if not self.trace:
            raise RuntimeError(f"no call: {(self.folder / 'receiver.log').read_text()} {(self.folder / 'sender.log').read_text()}")

    def faults(self, case):
        """What went wrong."""
        longest = self.trace[-1]["longest_gap_ms"]
        if longest > LONGEST_FREEZE_MS:
            yield f"the video stood still for {longest} ms"
        until = 0
        for step, best in zip(case.steps, case.best):
            until += step.seconds
            # Two seconds at the end of the step: by then things have settled.
            levels = [seen["level"] for seen in self.trace if until - 2 <= seen["at"] <= until]
            if best is True and (not levels or min(levels) < BEST):
                yield f"after {until} s the layers are {levels}, not the best"
            if best is False and (not levels or max(levels) >= BEST):
                yield f"after {until} s the layers are {levels}, no lower one on the narrow link"


def await_server():
    for _ in range(100):
        probe = f"import socket; socket.create_connection(('{ADDRESSES[SERVER]}', {PORT}), 1)"
        if run("ip", "netns", "exec", SERVER, sys.executable, "-c", probe, check=False).returncode == 0:
            return
        time.sleep(0.1)
    raise RuntimeError("the server does not listen")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("server", type=pathlib.Path)
    parser.add_argument("generator", type=pathlib.Path)
    parser.add_argument("--only", default="", help="a part of a case's name")
    parser.add_argument("--trace", action="store_true", help="print what the receiver sees every half second")
    options = parser.parse_args()
    passed = failed = 0
    for case in CASES:
        if options.only not in case.name:
            continue
        if options.trace:
            print(case.name, flush=True)
        with tempfile.TemporaryDirectory() as folder, Network(ADDRESSES) as network:
            call = Call(options, pathlib.Path(folder))
            try:
                call.play(network, case)
                faults = list(call.faults(case))
            except (RuntimeError, subprocess.CalledProcessError) as error:
                faults = [f"{error} {getattr(error, 'stderr', '')}"]
        seen = f", longest freeze {call.trace[-1]['longest_gap_ms']} ms" if call.trace else ""
        print(f"{'FAIL' if faults else 'ok  '} {case.name}{seen}{''.join(f'; {fault}' for fault in faults)}", flush=True)
        passed, failed = passed + (not faults), failed + bool(faults)
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()
