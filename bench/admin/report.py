#!/usr/bin/env python3
"""Writes the tables of administration in docs/benchmarks.md from recorded results.

    report.py RESULTS_FILE DOCUMENT

Only what stands between `<!-- admin:begin -->` and `<!-- admin:end -->` is replaced.
"""

import json
import pathlib
import statistics
import sys

TARGET_MS = 50
TARGET_RATIO = 2
MIB = 1048576


def read(path):
    """The listings, what failed, and every other line by its name."""
    listings, failures, facts = [], [], {}
    for line in pathlib.Path(path).read_text().splitlines():
        for name, value in json.loads(line).items():
            if name == "listing":
                listings.append(value)
            elif name == "failure":
                failures.append(value)
            else:
                facts[name] = value
    return listings, failures, facts


def verdict(reached, short):
    return "reached" if reached else f"**short: {short}**"


def listing_rows(listings):
    """One row a family: the worst of its orders and filters."""
    families = {}
    for listing in listings:
        families.setdefault(listing["name"], []).append(listing)
    for name, members in families.items():
        worst = max(members, key=lambda listing: listing["p99"])
        entries = max(listing["entries"] for listing in members)
        first = max(listing["first"] for listing in members)
        highest = max(listing["max"] for listing in members)
        cpu = max(listing["cpu_ms"] for listing in members)
        middle = max(listing["p50"] for listing in members)
        over = sum(listing["p99"] > TARGET_MS for listing in members)
        judged = "" if name == "nothing" else verdict(not over, f"{over} of {len(members)}")
        name = "a request that does nothing" if name == "nothing" else name
        yield (f"| {name} | {len(members)} | {entries:,} | {cpu:.2f} | {middle:.2f} | {worst['p99']:.2f} | {highest:.2f} | "
               f"{first:.2f} | {judged} |")


def mib(size):
    return f"{size / MIB:.1f}"


def purge_lines(facts):
    purge = facts["purge"]
    rooms = {"busy": "the purged room", "elsewhere": "another room"}
    yield "| sends of five who chat in | | count | p50 ms | p99 ms | max ms | p99 while purging / without, each window | median |"
    yield "| --- | --- | --: | --: | --: | --: | --- | --- |"
    for name, room in rooms.items():
        ratios = purge["ratios"][name]
        middle = statistics.median(ratios)
        judged = f"{middle:.2f}: {verdict(middle <= TARGET_RATIO, 'more than twice')}"
        listed = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        quiet, during = purge["pooled"][name]["quiet"], purge["pooled"][name]["purge"]
        yield f"| {room} | without a purge | {quiet['count']:,} | {quiet['p50']:.2f} | {quiet['p99']:.2f} | {quiet['max']:.2f} | | |"
        yield (f"| {room} | while it is purged | {during['count']:,} | {during['p50']:.2f} | {during['p99']:.2f} | "
               f"{during['max']:.2f} | {listed} | {judged} |")
    windows, purges = purge["windows"], purge["purges"]
    quiet = [window["busy"]["p99"] for window in windows if window["kind"] == "quiet"]
    deleted = sum(part["result"].get("deleted", 0) for part in purges)
    kept = sum(part["result"].get("kept", 0) for part in purges)
    lengths = ", ".join(f"{part['secs']:.0f}" for part in purges)
    loads = [window["load"] for window in windows]
    errors = sum(window[name]["errors"] for window in windows for name in rooms)
    pooled = purge["pooled"]["busy"]["purge"]["p99"] / purge["pooled"]["busy"]["quiet"]["p99"]
    yield ""
    yield (f"- The history of 370 days went in {len(purges)} purges of {lengths} s, which ended as "
           f"{', '.join(sorted({part['state'] for part in purges}))}: {deleted:,} events are gone, {kept:,} were kept. Sends that "
           f"failed: {errors}. The server took {purge['cpu_secs']:.0f} s of CPU while purging, the chat included. Load of the "
           f"machine in the windows: {min(loads):.0f} to {max(loads):.0f}.")
    yield (f"- p99 of all sends while purging by that of all others, in the purged room: {pooled:.2f} (target {TARGET_RATIO}): "
           f"{verdict(pooled <= TARGET_RATIO, 'see the windows')}. p99 of the windows without a purge, one after the other: "
           f"{', '.join(f'{value:.1f}' for value in quiet)} ms.")
    before, later = purge["disk_before"], facts["afterwards"]["disk"]
    yield (f"- Tables took {mib(before['tables'])} MiB before these purges and {mib(later['tables'])} MiB after them and a restart, though "
           f"the chat wrote {sum(window[name]['count'] for window in windows for name in rooms):,} messages meanwhile.")
    again, unseen, space = facts["again"], facts["unseen"], facts["space"]
    made, back = unseen["tables_before"] - again["tables_before"], unseen["tables_before"] - space["tables"]
    yield (f"- Space, by a purge beside which nothing was written: another {again['events']:,} events took {mib(made)} MiB of tables. A "
           f"purge of {unseen['purge']['secs']:.0f} s deleted {unseen['purge']['result'].get('deleted', 0):,} of them: tables took "
           f"{mib(unseen['tables_before'])} MiB before it, {mib(unseen['tables_after'])} MiB after it and {mib(space['tables'])} MiB after a "
           f"restart: {mib(back)} MiB came back.")


def render(listings, failures, facts):
    run, imported, furnished = facts["run"], facts["imported"], facts["furnished"]
    machine = run["machine"]
    yield (f"Measured on {run['date']} with {run['version']} on {machine['cores']} cores by `bench/admin/run.sh`; load before "
           f"{run['load']}, after {facts['end']['load']}.")
    yield ""
    yield (f"- `conduit admin user import` made {imported['users']:,} accounts in {imported['secs']:.0f} s "
           f"({imported['cpu_secs'] * 1000 / imported['users']:.1f} ms of CPU each, nearly all of it the password's hash), "
           f"{imported['failed']} failed. Resident before {imported['rss_before_mib']:.0f} MiB, after "
           f"{imported['rss_after_mib']:.0f} MiB.")
    yield (f"- {furnished['rooms']:,} rooms of 10 members with 10 messages were made in {furnished['rooms_secs']:.0f} s. Resident after "
           f"that {furnished['rss_mib']:.0f} MiB, after a restart and all listings {facts['listed']['rss_mib']:.0f} MiB.")
    yield ""
    yield ("| listing, pages of 100 | orders and filters | entries | CPU ms/page | p50 ms | p99 ms | max ms | first page ms | "
           "p99 under 50 ms |")
    yield "| --- | --: | --: | --: | --: | --: | --: | --: | --- |"
    yield from listing_rows(listings)
    yield ""
    yield from purge_lines(facts)
    yield from (f"- Failed: {failure}" for failure in failures)


def main():
    results, document = sys.argv[1:]
    text = "\n".join(render(*read(results)))
    path = pathlib.Path(document)
    begin, end = "<!-- admin:begin -->", "<!-- admin:end -->"
    old = path.read_text()
    head, rest = old.split(begin, 1)
    path.write_text(f"{head}{begin}\n\n{text}\n\n{end}{rest.split(end, 1)[1]}")


if __name__ == "__main__":
    main()
