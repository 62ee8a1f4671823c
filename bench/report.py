#!/usr/bin/env python3
"""Writes the tables of docs/benchmarks.md from recorded results.

    report.py speed RESULTS_FOLDER DOCUMENT     beside Synapse (bench/run.sh)
    report.py growth RESULTS_FILE DOCUMENT      how cost grows (bench/growth.sh)

Only what stands between `<!-- NAME:begin -->` and `<!-- NAME:end -->` is replaced.
"""

import json
import pathlib
import sys

# How many times less CPU than Synapse is aimed for; p99 is at most a tenth everywhere.
CPU_TARGETS = {
    "send": 60,
    "send-many-rooms": 60,
    "fanout": 60,
    "create-room": 60,
    "join": 60,
    "initial-sync": 100,
    "incremental-sync": 60,
    "sync-after-send": 60,
    "sliding-initial": 100,
    "sliding-incremental": 60,
    "messages": 60,
    "mixed": 60,
}
# Here ten times the operations also make the room ten times as large; the ratio takes the equal one.
LARGER_WHEN_LONGER = {"join", "bigstate-members", "bigstate-state"}
P99_TARGET = 10
IDLE_LIMIT_MIB = 50
END_LIMIT_MIB = 100


def read_lines(path):
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.startswith("{")]


class Results:
    """What one server took: its phases by name, and what is known of the run."""

    def __init__(self, path):
        lines = read_lines(path)
        self.phases = {line["scenario"]: line for line in lines if "scenario" in line}
        self.run = next((line["run"] for line in lines if "run" in line), {})
        self.end = next((line["end"] for line in lines if "end" in line), {})

    def value(self, phase, *path):
        """A figure of a phase; none where no operation succeeded, for it would mean nothing."""
        found = self.phases.get(phase, {})
        if path != ("errors",) and not found.get("count"):
            return None
        for key in path:
            found = found.get(key) if isinstance(found, dict) else None
        return found


def show(value, digits=2):
    if value is None:
        return "–"
    return f"{value:,.{digits}f}" if value < 100 else f"{value:,.0f}"


def ratio_cell(ours, theirs, target):
    """The ratio and whether it reaches the target."""
    if not ours or not theirs:
        return "–", ""
    ratio = theirs / ours
    digits = 0 if ratio >= 10 else 1
    return f"{ratio:,.{digits}f}×", verdict(ratio, target) if target else ""


def verdict(ratio, target):
    if ratio >= target:
        return "reached"
    return f"**short: {target / ratio:.1f} times too much**"


def table(header, rows):
    align = ["---"] + ["--:"] * (len(header) - 1)
    lines = [header, align, *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def cpu_table(conduit, longer, synapse):
    rows = []
    for phase in synapse.phases or conduit.phases:
        ours = conduit.value(phase, "cpu_ms_per_op")
        exact = longer.value(phase, "cpu_ms_per_op")
        theirs = synapse.value(phase, "cpu_ms_per_op")
        target = CPU_TARGETS.get(phase)
        chosen = ours if phase in LARGER_WHEN_LONGER else exact or ours
        ratio, reached = ratio_cell(chosen, theirs, target)
        wanted = f"{target}×" if target else ""
        rows.append([phase, show(theirs, 3), show(ours, 3), show(exact, 3), ratio, wanted, reached])
    header = ["CPU ms per operation", "Synapse", "Conduit", "Conduit, 10 times the operations", "ratio", "target", ""]
    return table(header, rows)


def latency_table(conduit, synapse):
    rows = []
    for phase in synapse.phases or conduit.phases:
        cells = [phase]
        for results in (synapse, conduit):
            cells += [show(results.value(phase, "ms", "p50")), show(results.value(phase, "ms", "p99"))]
        ratio, reached = ratio_cell(conduit.value(phase, "ms", "p99"), synapse.value(phase, "ms", "p99"), P99_TARGET)
        errors = conduit.value(phase, "errors")
        rows.append([*cells, ratio, reached, "–" if errors is None else errors])
    header = ["latency in ms", "Synapse p50", "p99", "Conduit p50", "p99", "ratio of p99", "target 10×", "errors of Conduit"]
    return table(header, rows)


def memory_table(conduit, longer, synapse):
    def row(title, limit, pick):
        ours = pick(conduit)
        reached = "" if not limit or ours is None else ("reached" if ours <= limit else f"**{ours - limit:.0f} MiB over**")
        return [title, show(pick(synapse), 1), show(ours, 1), show(pick(longer), 1), f"{limit} MiB" if limit else "", reached]

    def peak(results):
        peaks = [phase["rss_peak_mib"] for phase in results.phases.values() if "rss_peak_mib" in phase]
        return max(peaks, default=None)

    rows = [
        row("resident, idle after start", IDLE_LIMIT_MIB, lambda results: results.run.get("idle_rss_mib")),
        row("resident at the end", END_LIMIT_MIB, lambda results: results.end.get("rss_mib")),
        row("proportional (PSS) at the end", None, lambda results: results.value("mixed", "pss_end_mib")),
        row("resident, highest of all phases", None, peak),
    ]
    return table(["memory in MiB", "Synapse with PostgreSQL", "Conduit", "Conduit, 10 times the operations", "target", ""], rows)


def describe_run(conduit, longer, synapse):
    machine = conduit.run.get("machine") or synapse.run.get("machine") or {}
    lines = [f"Measured on {conduit.run.get('date') or synapse.run.get('date')} on a machine with {machine.get('cores')} cores"
             f" ({machine.get('cpu')}), {machine.get('memory_gib')} GiB of memory and Linux {machine.get('kernel')}."]
    for results in (conduit, longer, synapse):
        if results.run:
            lines.append(f"- {results.run['version']}: `{results.run['command']}`; load before {results.run['load']},"
                         f" after {results.end.get('load', '–')}")
    if synapse.run and conduit.run and synapse.run["date"] != conduit.run["date"]:
        lines.append(f"- Synapse was measured earlier, on {synapse.run['date']}.")
    return lines[0] + "\n\n" + "\n".join(lines[1:])


def failures(*all_results):
    lines = []
    for results in all_results:
        for phase, line in results.phases.items():
            if "failed" in line:
                lines.append(f"- {line['label']}, {phase}: {line['failed'][:200]}")
            elif line.get("errors"):
                lines.append(f"- {line['label']}, {phase}: {line['errors']} errors, first: {line.get('first_error', '')[:200]}")
    return "Errors:\n\n" + "\n".join(lines) if lines else "No operation failed."


def write_speed(folder, document):
    conduit, longer, synapse = (Results(folder / f"{label}.jsonl") for label in ("conduit", "conduit-longer", "synapse"))
    raw = (folder / "table.md").read_text().strip()
    parts = [
        describe_run(conduit, longer, synapse),
        cpu_table(conduit, longer, synapse),
        latency_table(conduit, synapse),
        memory_table(conduit, longer, synapse),
        failures(conduit, longer, synapse),
        f"<details><summary>All figures as hsload prints them</summary>\n\n{raw}\n\n</details>",
    ]
    replace_section(document, "speed", "\n\n".join(parts))


def write_growth(path, document):
    lines = read_lines(path)
    run = next((line["run"] for line in lines if "run" in line), {})
    rows = {}
    for line in lines:
        if "dimension" in line:
            rows.setdefault((line["dimension"], line["op"]), []).append(line)
    cells = []
    for (dimension, op), found in rows.items():
        small, large = found[0], found[-1]
        growth = large["cpu_ms_per_op"] / small["cpu_ms_per_op"] if small["cpu_ms_per_op"] else None
        cells.append([
            f"{dimension}: {op}",
            f"{small['size']:,} → {large['size']:,}",
            *(show(line["cpu_ms_per_op"], 3) for line in (small, large)),
            f"{growth:.2f}×" if growth else "–",
            *(show(line["p50"]) for line in (small, large)),
            *(show(line["p99"]) for line in (small, large)),
            small["errors"] + large["errors"],
        ])
    header = ["what grows: operation", "from → to", "CPU ms/op", "CPU ms/op", "growth", "p50 ms", "p50 ms", "p99 ms", "p99 ms", "errors"]
    notes = [f"- {line['note']}" for line in lines if "note" in line]
    machine = run.get("machine", {})
    title = (f"Measured on {run.get('date')} with {run.get('version')} on {machine.get('cores')} cores by `bench/growth.sh`;"
             f" load before {run.get('load')}.")
    replace_section(document, "growth", "\n\n".join([title, table(header, cells), "\n".join(notes)]).strip())


def replace_section(document, name, text):
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, rest = document.read_text().split(begin, 1)
    after = rest.split(end, 1)[1]
    document.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}")
    print(f"wrote {name} in {document.name}")


def main():
    what, source, document = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    {"speed": write_speed, "growth": write_growth}[what](source, document)


if __name__ == "__main__":
    main()
