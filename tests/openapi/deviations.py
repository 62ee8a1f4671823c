"""Faults of the definitions, by which findings are not the server's."""

import tomllib
from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass
class Deviation:
    operation: str
    rule: str
    place: str
    reason: str
    status: int | None = None
    used: int = 0

    def covers(self, finding):
        return (
            fnmatchcase(finding.operation, self.operation)
            and finding.rule == self.rule
            and self.status in (None, finding.status)
            and matches(finding.place, self.place)
        )


def matches(place, pattern):
    """`?` and `[` mean themselves in a place; a `*` there matches a `*`, or anything, of the pattern."""
    return fnmatchcase(place, pattern.replace("[", "[[]").replace("?", "[?]"))


def read(path):
    entries = tomllib.loads(path.read_text()).get("deviation", [])
    return [Deviation(**entry) for entry in entries]
