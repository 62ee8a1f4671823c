#!/usr/bin/env python3
"""Writes the tables of administration in docs/benchmarks.md from recorded results.

    report.py RESULTS_FILE DOCUMENT

Only what stands between `<!-- admin:begin -->` and `<!-- admin:end -->` is replaced.
"""

import json
import pathlib
import sys

TARGET_MS = 50
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
    quiet = max(purge["quiet"]["p99"], purge["after"]["p99"])
    during = purge["during"]
    yield "| sends of five who chat | count | errors | p50 ms | p99 ms | max ms |"
    yield "| --- | --: | --: | --: | --: | --: |"
    for name, key in (("before the purge", "quiet"), ("while it runs", "during"), ("after it", "after")):
        row = purge[key]
        yield f"| {name} | {row['count']:,} | {row['errors']} | {row['p50']:.2f} | {row['p99']:.2f} | {row['max']:.2f} |"
    ratio = during["p99"] / quiet
    result = json.loads(purge["result"]) if purge["result"] else {}
    yield ""
    yield (f"- The purge took {purge['secs']:.0f} s and ended as {purge['state']}: {result.get('deleted', 0):,} events are gone, "
           f"{result.get('kept', 0):,} were kept. p99 while it ran is {ratio:.1f} times the one without (target 2): "
           f"{verdict(ratio <= 2, 'see above')}.")
    before, after, later = purge["disk_before"], purge["disk_after"], facts["afterwards"]["disk"]
    made = purge["disk_before"]["tables"] - facts["history"]["tables_before"]
    back = before["tables"] - later["tables"]
    yield (f"- The {facts['history']['events']:,} events took {mib(made)} MiB of tables. Tables take {mib(before['tables'])} MiB before "
           f"the purge, {mib(after['tables'])} MiB after it and {mib(later['tables'])} MiB after a restart; the whole folder "
           f"{mib(before['all'])}, {mib(after['all'])} and {mib(later['all'])} MiB: {mib(back)} MiB came back.")


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
