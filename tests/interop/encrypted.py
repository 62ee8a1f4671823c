"""Encrypted chat between servers: starts two of them and runs the Rust clients of tests/clients/rust on both."""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from authority import Authority
from servers import Conduit, Synapse

# Over the limits that the scenario sets itself.
LIMIT_SECONDS = 1000


def parse_arguments():
    parser = argparse.ArgumentParser(prog="encrypted.py", description="Encrypted chat between servers.")
    kinds = {"choices": ["conduit", "synapse"]}
    parser.add_argument("--first", default="conduit", **kinds)
    parser.add_argument("--second", default="synapse", **kinds)
    parser.add_argument("--work", default=None, help="folder for data and logs; kept")
    parser.add_argument("scenario", help="the scenario's binary")
    parser.add_argument("binary", nargs="?", help="the conduit binary")
    return parser.parse_args()


def make_servers(options, folder):
    authority = Authority(folder)
    servers = {}
    for number, place in enumerate(("first", "second"), 1):
        if getattr(options, place) == "conduit":
            servers[place] = Conduit(number, folder, authority, str(Path(options.binary).resolve()))
        else:
            servers[place] = Synapse(number, folder, authority, sys.executable)
    return servers


def obey(request, servers):
    """Stops or starts a server for the scenario."""
    what, place = request
    if what == "stop":
        servers[place].stop(signal.SIGKILL)
    else:
        servers[place].start()


def run(scenario, servers):
    """Runs the scenario to its end, shows what it prints and does what it asks for. Returns whether all went well."""
    urls = {place.upper(): server.plain_url for place, server in servers.items()}
    process = subprocess.Popen(
        [scenario], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **urls}
    )
    timer = threading.Timer(LIMIT_SECONDS, process.kill)
    timer.start()
    try:
        for line in process.stdout:
            words = line.split()
            if words[:1] != ["server"]:
                print(line, end="", flush=True)
                continue
            try:
                obey(words[1:], servers)
                answer = "done"
            except RuntimeError as error:
                answer = str(error)
            process.stdin.write(answer + "\n")
            process.stdin.flush()
        return process.wait() == 0
    finally:
        timer.cancel()
        if process.poll() is None:
            process.kill()
            process.wait()


def main():
    options = parse_arguments()
    if "conduit" in (options.first, options.second) and not options.binary:
        print("encrypted.py: the path of the conduit binary is missing", file=sys.stderr)
        return 2
    folder = Path(options.work or tempfile.mkdtemp(prefix="conduit-encrypted-"))
    folder.mkdir(parents=True, exist_ok=True)
    servers = make_servers(options, folder)
    passed = False
    try:
        for server in servers.values():
            server.start()
            print(f"{server} in {server.folder}", flush=True)
        passed = run(options.scenario, servers)
    finally:
        for server in servers.values():
            if server.died() or not server.stop():
                print(f"FAIL {server} ended by itself or did not stop when asked to")
                passed = False
    for server in servers.values():
        complaints = server.complaints()
        if complaints:
            print(f"FAIL {len(complaints)} errors in the log of {server}, the first: {complaints[0]}")
            passed = False
    if passed and not options.work:
        shutil.rmtree(folder)
    else:
        print(f"data and logs are kept in {folder}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
