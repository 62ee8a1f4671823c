#!/usr/bin/env python3
"""Prints the tables on calls, and writes them into a document that has a place for them: report.py RESULTS_FOLDER DOCUMENT

Only what stands between `<!-- calls:begin -->` and `<!-- calls:end -->` is replaced.
"""

import json
import pathlib
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from report import read_lines, replace_section, show, table  # noqa: E402

SCENARIOS = {
    "audio": "10 send audio, 60 hear all",
    "video": "4 send 720p alone, 20 see all",
    "meeting": "8 send audio and 180p, 360p, 720p, 8 hear and see all",
    "large": "2 send audio, 90 hear both",
    "half": "10 send 720p alone, 88 see all",
}
# Forwards for each CPU second: LiveKit's published figures for one core, and twice Janus.
LIVEKIT = {"audio": 75_000, "large": 75_000, "video": 40_000}
BESIDE_JANUS = 2
P99_MS = 5


class Runs:
    """The runs of one server in one scenario; figures are their medians."""

    def __init__(self, folder, server, scenario):
        self.lines = read_lines(folder / f"calls-{server}-{scenario}.jsonl")

    def __bool__(self):
        return bool(self.lines)

    def value(self, *path):
        values = []
        for line in self.lines:
            for key in path:
                line = line.get(key) if isinstance(line, dict) else None
            if line is not None:
                values.append(line)
        return statistics.median(values) if values else None

    def both(self, name):
        """The sum over sound and pictures."""
        values = [self.value(kind, name) for kind in ("audio", "video")]
        return sum(value for value in values if value is not None)

    def worst(self, name):
        values = [value for value in (self.value(kind, name) for kind in ("audio", "video")) if value is not None]
        return max(values, default=None)


def verdict(reached, text):
    return "reached" if reached else f"**{text}**"


def cost_row(scenario, title, ours, theirs):
    rate, other = (runs.value("forwards_per_cpu_second") for runs in (ours, theirs))
    ratio = rate / other if rate and other else None
    beside = verdict(ratio >= BESIDE_JANUS, f"short of {BESIDE_JANUS}×") if ratio else ""
    anchor = LIVEKIT.get(scenario)
    against = verdict(rate >= anchor, f"{rate / anchor:.0%}") if rate and anchor else ""
    cells = [show(theirs.both("out_packets"), 0), show(other, 0), show(ours.both("out_packets"), 0), show(rate, 0)]
    return [title, *cells, f"{ratio:.1f}×" if ratio else "–", beside, show(anchor, 0) if anchor else "", against]


def quality_rows(title, ours, theirs):
    for server, runs in (("Janus", theirs), ("Conduit", ours)):
        if not runs:
            continue
        p99 = runs.worst("p99_ms")
        reached = verdict(p99 <= P99_MS, f"over {P99_MS} ms") if p99 and server == "Conduit" else ""
        share = runs.value("server_cpu")
        yield [
            f"{title}: {server}", f"{share:.0%}" if share else "–", show(runs.both("in_packets"), 0), show(runs.both("out_mbit"), 1),
            show(runs.worst("p50_ms")), show(p99), reached, show(runs.value("lost_per_million"), 0),
            show(runs.value("frames_per_second"), 1), show(runs.value("longest_gap_ms"), 0),
            show(runs.value("kib_per_participant"), 0), show(runs.value("generator_cpu") * 100, 0) + "%",
        ]


def describe(machine, runs):
    loads = [line["load"] for each in runs for line in each.lines]
    count = max(len(each.lines) for each in runs)
    seconds = statistics.median(line["seconds"] for each in runs for line in each.lines)
    return (
        f"Measured on {time.strftime('%Y-%m-%d')} by `bench/calls/run.sh` on {machine['cores']} cores ({machine['cpu']}), "
        f"{machine['memory_gib']} GiB of memory and Linux {machine['kernel']}: medians of {count} runs of {seconds:.0f} s, the servers "
        f"in turn; load {min(loads):.1f} to {max(loads):.1f}."
    )


def main():
    folder, document = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    machine = json.loads((folder / "calls-machine.json").read_text())
    costs, qualities, every = [], [], []
    for scenario, title in SCENARIOS.items():
        ours, theirs = (Runs(folder, server, scenario) for server in ("conduit", "janus"))
        if ours or theirs:
            every += [runs for runs in (ours, theirs) if runs]
            costs.append(cost_row(scenario, title, ours, theirs))
            qualities += quality_rows(title, ours, theirs)
    if not every:
        sys.exit("no results")
    header = ["", "Janus packets/s out", "per CPU second", "Conduit packets/s out", "per CPU second", "ratio", "target 2×"]
    header += ["LiveKit, published, a core", ""]
    measured = ["", "server CPU", "packets/s in", "Mbit/s out", "p50 ms", "p99 ms", f"target {P99_MS} ms", "lost of a million"]
    measured += ["frames/s", "longest gap ms", "KiB a participant", "generator CPU"]
    text = "\n\n".join([describe(machine, every), table(header, costs), table(measured, qualities)])
    print(text)
    if "<!-- calls:begin -->" in document.read_text():
        replace_section(document, "calls", text)


if __name__ == "__main__":
    main()
