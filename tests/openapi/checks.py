"""What is wrong with an answer."""

import re
from dataclasses import dataclass

import jsonschema_rs

# Statuses that any operation may answer with, whether or not its definition lists them.
GENERIC = (400, 401, 403, 404, 405, 413, 429)
FORMATS = {
    "mx-room-id": r"!.{1,254}",
    "mx-user-id": r"@[^:]*:[^\s]+",
    "mx-event-id": r"\$.{1,254}",
    "mx-room-alias": r"#[^:]*:[^\s]+",
    "mx-mxc-uri": r"mxc://[^/\s]+/[A-Za-z0-9_-]+",
    "mx-server-name": r"[A-Za-z0-9.:\[\]-]{1,230}",
    "mx-unpadded-base64": r"[A-Za-z0-9+/]*",
    "mx-urlsafe-unpadded-base64": r"[A-Za-z0-9_-]*",
}
ERRCODE = re.compile(r"[A-Z][A-Z0-9_.]+")


@dataclass(frozen=True)
class Finding:
    """A fault; two are the same when these are. `place` is where in the body, its ids and indexes replaced by `*`."""

    operation: str
    rule: str
    status: int
    place: str


def format_check(expression):
    compiled = re.compile(expression, re.DOTALL)
    return lambda text: compiled.fullmatch(text) is not None


CHECKERS = {name: format_check(expression) for name, expression in FORMATS.items()}


def base_type(content_type):
    return content_type.split(";")[0].strip().lower()


def is_name(part):
    """Whether a step into a body is the name of a field of the specification, not an id, an index or a test's name."""
    return (
        isinstance(part, str)
        and re.fullmatch(r"[a-z][a-z0-9_.]*", part) is not None
        and not part.startswith("org.example")
    )


def place_of(error):
    steps = "/".join(part if is_name(part) else "*" for part in error.instance_path)
    keyword = str(error.schema_path[-1]) if error.schema_path else "schema"
    missing = re.match(r'"([^"]*)" is a required property', error.message)
    return f"/{steps}: {keyword}" + (f" {missing.group(1)}" if missing else "")


class Checker:
    """Holds the compiled schemas of an operation's answers."""

    def __init__(self, operation):
        self.operation, self.validators = operation, {}
        self.answers = operation.definition["responses"]

    def validator(self, status):
        """The schema of the JSON of a status, or None."""
        if status not in self.validators:
            schema = self.answers.get(str(status), {}).get("content", {}).get("application/json", {}).get("schema")
            self.validators[status] = schema and jsonschema_rs.Draft202012Validator(
                schema, validate_formats=True, formats=CHECKERS
            )
        return self.validators[status]

    def check(self, answer):
        """The findings about an answer, each with what was seen."""
        found = []

        def add(rule, place, seen):
            found.append((Finding(self.operation.id, rule, answer.status, place), seen))

        status, body = answer.status, answer.body[:300].decode(errors="replace")
        declared = str(status) in self.answers
        if status >= 500 and not declared:
            add("server-error", "", body)
        elif not declared and status not in GENERIC:
            add("undeclared-status", "", body)
        kinds = set(self.answers.get(str(status), {}).get("content", {}))
        kinds = kinds or ({"application/json"} if status >= 400 else set())
        if kinds and "*/*" not in kinds and base_type(answer.content_type) not in kinds:
            add("content-type", answer.content_type, f"{answer.content_type!r} instead of {sorted(kinds)}")
            return found
        self.check_body(answer, add)
        return found

    def check_body(self, answer, add):
        content = answer.json
        if answer.status >= 400:
            self.check_error(content, answer, add)
        validator = self.validator(answer.status)
        if validator is None or not self.is_due(content, answer.status):
            return
        if content is None and answer.body.strip() != b"null":
            add("schema", "/: not JSON", answer.body[:300].decode(errors="replace"))
            return
        for error in validator.iter_errors(content):
            add("schema", place_of(error), error.message[:300])

    def is_due(self, content, status):
        """The schema of a 401 is that of a challenge, where there is one; the other 401s are plain errors."""
        challenges = status == 401 and "flows" in str(self.answers["401"])
        return not challenges or (isinstance(content, dict) and "flows" in content)

    def check_error(self, content, answer, add):
        seen = answer.body[:300].decode(errors="replace")
        if not isinstance(content, dict):
            add("error-body", "/: not an object", seen)
            return
        if answer.status == 401 and isinstance(content.get("flows"), list):
            return
        errcode, error = content.get("errcode"), content.get("error")
        if not isinstance(errcode, str) or not ERRCODE.fullmatch(errcode):
            add("error-body", "/errcode", seen)
        if not isinstance(error, str) or not error:
            add("error-body", "/error", seen)


def refused_without_token(answer):
    """Whether an answer is that to a request without a valid token."""
    content = answer.json
    errcode = content.get("errcode") if isinstance(content, dict) else None
    return answer.status == 401 and errcode in ("M_MISSING_TOKEN", "M_UNKNOWN_TOKEN")


def unrecognized(answer, *statuses):
    """Whether an answer says that there is no such operation."""
    content = answer.json
    return answer.status in statuses and isinstance(content, dict) and content.get("errcode") == "M_UNRECOGNIZED"
