"""What is printed at the end of a run."""

import bundle
from passes import DRAWN


def print_findings(run, known):
    """Prints what no deviation covers. Returns how many."""
    bad = []
    for finding, count in sorted(run.found.items(), key=lambda item: (item[0].operation, item[0].rule, item[0].status)):
        covering = [deviation for deviation in known if deviation.covers(finding)]
        for deviation in covering:
            deviation.used += count
        if not covering:
            bad.append(finding)
            what, curl = run.seen[finding]
            print(f"FAIL {finding.operation} {finding.rule} {finding.status} {finding.place} ({count} times)")
            print(f"     {what}\n     {curl}")
    return len(bad)


def print_coverage(run, tried):
    """How far the operations were reached, and which of them never had a 2xx."""
    built = [operation for operation in tried if operation.state == bundle.BUILT]
    reached = [operation for operation in built if run.reached[operation.id]]
    drawn = [operation for operation in built if DRAWN in run.reached[operation.id]]
    print(f"\n{len(reached)} of {len(built)} operations answered with a 2xx, {len(drawn)} of them to drawn requests")
    for operation in built:
        if not run.reached[operation.id]:
            print(f"  never a 2xx: {operation.id} ({operation.label}) {dict(run.statuses[operation.id])}")
        elif operation not in drawn:
            print(f"  only by hand: {operation.id} ({operation.label}) {dict(run.statuses[operation.id])}")
