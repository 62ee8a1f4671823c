#!/usr/bin/env python3
"""Writes the tables on federation of docs/benchmarks.md: report.py RESULTS_FOLDER DOCUMENT

Only what stands between `<!-- federation:begin -->` and `<!-- federation:end -->` is replaced.
"""

import json
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from report import ratio_cell, read_lines, replace_section, show, table  # noqa: E402

INCOMING_TARGET = 20
JOIN_MIB = 200


def lines_of(path):
    return {line["scenario"]: line for line in read_lines(path)}


def incoming_table(conduit, synapse, floor):
    rows = []
    for rooms in (1, 10):
        theirs = synapse.get(f"incoming-{rooms}", {})
        ours, longer = (conduit.get(f"incoming-{rooms}{label}", {}) for label in ("", "-longer"))
        rate = "events_per_cpu_second"
        exact = longer.get(rate) or ours.get(rate)
        # Fewer events for each CPU second are the worse: the other way round than a cost.
        ratio, reached = ratio_cell(theirs.get(rate), exact, INCOMING_TARGET)
        spent = 1e6 / exact if exact else None
        share = f"{floor['verify_us'] / spent:.0%}" if spent and floor else "–"
        checked = f"{floor['check_us'] / spent:.0%}" if spent and floor else "–"
        title = "one room" if rooms == 1 else f"{rooms} rooms in turn"
        cells = [show(theirs.get(rate), 1), show(ours.get(rate), 0), show(exact, 0)]
        rows.append([title, *cells, ratio, f"{INCOMING_TARGET}×", reached, show(spent, 0), share, checked])
    header = ["events per CPU second", "Synapse", "Conduit", "Conduit, more events", "ratio", "target", ""]
    header += ["CPU µs an event", "of it signatures", "of it JSON, hashes and signatures"]
    return table(header, rows)


def join_table(conduit, synapse):
    rows = []
    names = sorted((name for name in {**conduit, **synapse} if name.startswith("join-")), key=lambda name: int(name[5:]))
    for name in names:
        for line in (synapse.get(name), conduit.get(name)):
            if not line:
                continue
            took, all_there = show(line.get("join_seconds"), 1), show(line.get("members_seconds"), 1)
            if "unfinished_seconds" in line:
                took = f"not within {line['unfinished_seconds']:,}"
            over = line["peak_mib"] - line["idle_mib"]
            reached = ""
            if line["server"] == "conduit":
                reached = "reached" if over <= JOIN_MIB else f"**{over - JOIN_MIB:.0f} MiB over**"
            rows.append([
                f"{line['members']:,} members", line["server"].capitalize(), took, all_there,
                show(line["cpu_seconds"], 1), show(line["idle_mib"], 0), show(line["peak_mib"], 0), show(over, 0),
                f"{JOIN_MIB} MiB" if reached else "", reached,
            ])  # fmt: skip
    header = ["join", "server", "s until /join answers", "s until all are in /joined_members", "CPU s", "idle MiB"]
    header += ["peak MiB", "peak over idle", "target", ""]
    return table(header, rows)


def forks_text(path):
    found = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        match = re.match(r"version (\d+): (\d+) members, (\d+) forks: ([\d.]+) ms", line)
        if match:
            found.setdefault(match.groups()[:3], []).append(float(match.group(4)))
    return [
        f"- State resolution of a room with {int(members):,} members and {forks} forks, room version {version}: "
        f"{min(times):,.1f} ms (the shortest of {len(times)} runs; the longest {max(times):,.1f})."
        for (version, members, forks), times in found.items()
    ]


def describe(conduit, synapse, machine):
    text = f"{machine['cores']} cores ({machine['cpu']}), {machine['memory_gib']} GiB of memory and Linux {machine['kernel']}"
    lines = []
    for results in (conduit, synapse):
        every = list(results.values())
        if every:
            loads = [float(line["load_before"].split()[0]) for line in every]
            counts = sorted({line["events"] for line in every if "events" in line})
            lines.append(
                f"- {every[0]['version']}, on {every[0]['date']}: {' and '.join(f'{count:,}' for count in counts)} events; "
                f"load before each measurement {min(loads):.1f} to {max(loads):.1f}"
            )
    return f"Measured by `bench/federation/run.sh` on {text}.\n\n" + "\n".join(lines)


def main():
    folder, document = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    conduit, synapse = (lines_of(folder / f"federation-{kind}.jsonl") for kind in ("conduit", "synapse"))
    path = folder / "federation-floor.json"
    floor = json.loads(path.read_text()) if path.exists() else None
    machine = json.loads((folder / "federation-machine.json").read_text())
    notes = forks_text(folder / "federation-forks.txt")
    if floor:
        notes.insert(
            0,
            f"- The floor, on one core without a server: {floor['verify_us']:.0f} µs for the Ed25519 signature of an event, "
            f"{floor['check_us']:.0f} µs from its JSON to an event with right hashes and signature.",
        )
    parts = [describe(conduit, synapse, machine), incoming_table(conduit, synapse, floor), join_table(conduit, synapse)]
    replace_section(document, "federation", "\n\n".join([*parts, "\n".join(notes)]))


if __name__ == "__main__":
    main()
