"""Property tests of the client API against the OpenAPI definitions of the specification. See README.md."""

import argparse
import os
import sys
import time
from fnmatch import fnmatchcase
from pathlib import Path

import bundle
import cases
import deviations
import report
from client import Refused
from passes import Run
from server import Server, ServerTrouble

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary", help="the server")
    parser.add_argument("--only", default="*", help="operation ids, for example 'get*,sync'")
    parser.add_argument(
        "--examples", type=int, default=40, help="drawn requests of each operation, and a third as many invalid ones"
    )
    parser.add_argument("--seed", type=int, default=1, help="what is drawn")
    default = os.environ.get("SPEC_API", ROOT.parent / "shared" / "spec" / "api")
    parser.add_argument("--api", type=Path, default=Path(default), help="the definitions (default: $SPEC_API)")
    return parser.parse_args()


def test(server, operations, options):
    """Returns whether everything was as it must be."""
    patterns = options.only.split(",")
    chosen = [item for item in operations if any(fnmatchcase(item.id, pattern) for pattern in patterns)]
    if not chosen:
        print(f"FAIL no operation is called {options.only}")
        return False
    run, whole = Run(server, chosen, options), len(chosen) == len(operations)
    known = cases.load(bundle.document(chosen))
    run.check_unserved()
    unauthenticated = run.check_unauthenticated()
    started = time.monotonic()
    for operation in chosen:
        if operation.state == bundle.BUILT:
            run.check_operation(operation, known)
            print(f"{operation.id}: {dict(run.statuses[operation.id])}", flush=True)
    accepted = deviations.read(HERE / "deviations.toml")
    bad = report.print_findings(run, accepted)
    for line in server.errors():
        print(f"FAIL the server logged: {line[:300]}")
        bad += 1
    for deviation in accepted:
        if whole and not deviation.used:
            print(f"FAIL unused deviation: {deviation.operation} {deviation.rule} {deviation.place}")
            bad += 1
    report.print_coverage(run, chosen)
    for mode, names in run.undrawn.items():
        print(f"{len(names)} operations have nothing {mode} to draw")
    refused = sum(item.state == bundle.NOT_YET for item in chosen)
    print(f"{refused} operations that are not built are unrecognized; {unauthenticated} requests without a valid token")
    seconds = round(time.monotonic() - started)
    print(f"seed {options.seed}, {options.examples} examples, {run.wire.count} requests, {seconds} s")
    used = sum(deviation.used > 0 for deviation in accepted)
    print(f"{len(run.found)} kinds of findings, {used} deviations used, {bad} failed")
    return bad == 0


def main():
    options = parse_arguments()
    try:
        operations = bundle.read_operations(options.api, ROOT / "docs" / "endpoints.md")
        server = Server(options.binary)
    except (bundle.BadDefinitions, ServerTrouble, OSError) as error:
        sys.exit(f"openapi: {error}")
    good = False
    try:
        good = test(server, operations, options)
    except (ServerTrouble, Refused) as error:
        print(f"FAIL {error}")
    finally:
        if not server.stop():
            good = False
            print("FAIL the server did not run to the end, or did not stop when asked to")
        if good:
            server.remove()
        else:
            print(f"the server's log and data are kept in {server.folder}")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
