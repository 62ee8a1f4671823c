"""Starts the servers, runs the scenarios, prints the table. See run.sh for the arguments."""

import argparse
import fnmatch
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import scenarios  # noqa: F401 - declares them
from authority import Authority
from harness import SCENARIOS, Case, Runner, module_of
from servers import Conduit, Synapse

VERSIONS = "6,10,11,12"


def parse_arguments():
    parser = argparse.ArgumentParser(prog="run.sh", description="Federation between real servers.")
    kinds = {"choices": ["conduit", "synapse"]}
    parser.add_argument("--first", default="conduit", **kinds)
    parser.add_argument("--second", default="synapse", **kinds)
    parser.add_argument("--third", default=None, **kinds, help="default: the first's kind")
    parser.add_argument("--versions", default=VERSIONS, help=f"room versions, default {VERSIONS}")
    parser.add_argument("--only", default="*", help="scenarios or subjects, comma-separated, with * and ?")
    parser.add_argument("--skip", default="", help="scenarios or subjects to leave out")
    parser.add_argument("--ways", default="both", choices=["both", "forth", "back"], help="who plays the first part")
    parser.add_argument("--outage", type=float, default=10, help="seconds that a server is down, default 10")
    parser.add_argument("--jobs", type=int, default=3, help="scenarios at a time")
    parser.add_argument("--work", default=None, help="folder for data and logs; kept")
    parser.add_argument("--keep", action="store_true", help="keep data and logs also when all passed")
    parser.add_argument("--list", action="store_true", help="list the scenarios")
    parser.add_argument("--python", default=sys.executable, help="the interpreter that has Synapse")
    parser.add_argument("binary", nargs="?", help="the conduit binary")
    return parser.parse_args()


def matches(wanted, patterns):
    names = wanted.name, module_of(wanted)
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns.split(",") if pattern for name in names)


def choose(options):
    return [one for one in SCENARIOS if matches(one, options.only) and not matches(one, options.skip)]


def make_servers(options, folder, number):
    kinds = [options.first, options.second, options.third or options.first][:number]
    authority = Authority(folder)
    servers = []
    for index, kind in enumerate(kinds, 1):
        if kind == "conduit":
            servers.append(Conduit(index, folder, authority, str(Path(options.binary).resolve())))
        else:
            servers.append(Synapse(index, folder, authority, options.python))
    return servers


def make_cases(options, chosen, servers):
    cases = []
    orders = {"forth": [(0, 1)], "back": [(1, 0)], "both": [(0, 1), (1, 0)]}[options.ways]
    if options.first == options.second and options.ways == "both":
        orders = [(0, 1)]  # the other way is the same
    for wanted in chosen:
        for version in options.versions.split(","):
            if int(version) < wanted.since:
                continue
            for first, second in orders:
                cases.append(Case(wanted, version, [servers[first], servers[second], *servers[2:]], options))
    return cases


def print_table(results, seconds):
    columns = sorted({(one.version, one.way) for one in results}, key=lambda c: (c[0] == "-", c[0].zfill(3), c[1]))
    names = list(dict.fromkeys(one.scenario for one in results))
    width = max(map(len, names), default=0)
    heads = [f"v{version} {way.replace('conduit', 'C').replace('synapse', 'S')}" for version, way in columns]
    print("\n" + " " * width, *heads, sep=" | ")
    for name in names:
        cells = []
        for (version, way), head in zip(columns, heads, strict=True):
            here = [one for one in results if (one.scenario, one.version, one.way) == (name, version, way)]
            cell = "" if not here else "FAIL" if any(one.error for one in here) else f"{here[0].seconds:.1f}"
            cells.append(cell.rjust(len(head)))
        print(name.ljust(width), *cells, sep=" | ")
    failed = sum(1 for one in results if one.error)
    print(f"seconds for each; {seconds:.0f} s in all")
    print(f"{len(results) - failed} passed, {failed} failed")
    return failed


def main():
    options = parse_arguments()
    chosen = choose(options)
    if options.list:
        print("\n".join(f"{module_of(one)}: {one.name}" for one in chosen))
        return 0
    if "conduit" in (options.first, options.second, options.third) and not options.binary:
        print("run.sh: the path of the conduit binary is missing", file=sys.stderr)
        return 2
    # A folder for each pair: a server does not start on another's data.
    pair = Path(options.work) / f"{options.first}-{options.second}" if options.work else None
    folder = pair or Path(tempfile.mkdtemp(prefix="conduit-interop-"))
    folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    # Whoever ends the run ends the servers with it.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    servers = make_servers(options, folder, 3 if any(one.third for one in chosen) else 2)
    runner = Runner(servers, options.jobs)
    try:
        for server in servers:
            server.start()
            print(f"{server} in {server.folder}", flush=True)
        runner.run(make_cases(options, chosen, servers))
    finally:
        for server in servers:
            if not server.stop():
                runner.note(f"{server} did not stop when asked to")
    for server in servers:
        complaints = server.complaints()
        if complaints:
            runner.note(f"{len(complaints)} errors in the log of {server}, the first: {complaints[0]}")
    failed = print_table(runner.results, time.monotonic() - started)
    if failed or options.keep or options.work:
        print(f"data and logs are kept in {folder}")
    else:
        shutil.rmtree(folder)
    return 1 if failed or not runner.results else 0


if __name__ == "__main__":
    sys.exit(main())
