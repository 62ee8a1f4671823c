#!/usr/bin/env python3
"""Writes the table on joins to large rooms of docs/benchmarks.md: partial_report.py RESULTS_FILE DOCUMENT

Only what stands between `<!-- partial:begin -->` and `<!-- partial:end -->` is replaced.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from report import read_lines, replace_section, show, table  # noqa: E402

TITLES = {"whole": "waits for the members", "partial": "members come behind it", "killed": "the same, killed half-way"}
COLUMNS = {"join": "/join answers", "sent": "a message is sent", "in_sync": "the room is in /sync",
           "heard_there": "the message is there", "complete": "all members are here"}  # fmt: skip


def rows(lines):
    for line in lines:
        # One or two beside the question for all members tell nothing of the time before.
        sends = line.get("sends", {}) if line["kind"] != "whole" else {}
        over = line["peak_mib"] - line["idle_mib"]
        yield [
            TITLES[line["kind"]], *(show(line[column]) for column in COLUMNS), show(line["heard_here_ms"], 0),
            f"{show(sends.get('p50'), 0)} / {show(sends.get('max'), 0)}", show(line["cpu_usable"]), show(line["cpu"], 1),
            show(line["cpu_there"], 1), show(over, 0), line["load_before"].split()[0],
        ]  # fmt: skip


def render(results):
    machine, *lines = results
    first = lines[0]
    yield (f"Measured on {first['date']} with {first['version']} on {machine['cores']} cores by `bench/federation/partial.sh`, a "
           f"room of {first['size']:,} members.")
    header = ["a join that …", *(f"s until {title}" for title in COLUMNS.values()), "ms until a message from there is here"]
    header += ["sends while members come, p50 / max ms", "CPU s until usable", "CPU s in all", "CPU s of the other server"]
    yield table([*header, "peak over idle MiB", "load"], rows(lines))
    for line in lines:
        if line["kind"] == "killed":
            yield (f"- Killed {line['killed_after']:.1f} s after the join was asked for"
                   f"{', when all members were here already' if line['was_whole'] else ', while members were on their way'}: the "
                   f"server was up again {line['up_again']:.1f} s after that, a message was sent after "
                   f"{line['sent_again']:.1f} s and was on the other server after {line['heard_there_again']:.1f} s. Its row tells "
                   "when all members were here after the new start, and what that took.")


def main():
    results, document = sys.argv[1:]
    replace_section(pathlib.Path(document), "partial", "\n\n".join(render(read_lines(pathlib.Path(results)))))


if __name__ == "__main__":
    main()
