"""Requests: those of the definitions' examples with real ids, and those that schemathesis draws."""

import itertools
import json
import random
import zlib
from dataclasses import replace

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from calls import CALLS, OF_SERVICES
from client import Request
from neighbours import AS_TOKEN
from values import OFTEN, USUALLY, Values, fill

# What is no JSON, or no JSON that Matrix allows, or more than anybody sends.
MALFORMED = (
    b"",
    b"{",
    b"[]",
    b"null",
    b'"text"',
    b"\xff\xfe",
    b'{"a":"\\ud800"}',
    b'{"a":1e400}',
    b'{"a":1,"a":2}',
    b'{"a":NaN}',
    b"[" * 5000 + b"]" * 5000,
    b'{"a":' * 5000 + b"1" + b"}" * 5000,
)


# The same for one segment of a path or one value of a query, as it is on the wire.
MALFORMED_TEXTS = (
    "%FF",
    "%C3%28",
    "%ED%A0%80",
    "%zz",
    "%",
    "%00",
    "%0A",
    "..",
    "%2F",
    "%252F",
    "%F0%9F%92%A9",
    "x" * 60000,
)
CONTENT_TYPES = (None, "", "text/plain", "application/json; charset=utf-16", "multipart/form-data", "\xff/\xff")
# Over every limit of a request but that of media.
HUGE = b'{"a":"' + b"x" * 4_000_000 + b'"}'


def load(document):
    """The operations as schemathesis knows them, by their operation ids."""
    config = schemathesis.Config()
    config.projects.default.generation.with_security_parameters = False
    schema = schemathesis.openapi.from_dict(document, config=config)
    found = {}
    for result in schema.get_all_operations():
        operation = result.ok()
        found[operation.definition.raw["operationId"]] = operation
    return found


def flatten(query):
    """The query as pairs of strings, a list as its name several times."""
    pairs = []
    for name, value in query.items():
        for item in value if isinstance(value, list) else [value]:
            text = "" if item is None else item if isinstance(item, str) else json.dumps(item)
            pairs.append((name, text))
    return pairs


def body_of(operation):
    """The content type that is sent, and its schema; None without a body."""
    content = operation.definition.get("requestBody", {}).get("content", {})
    kind = "application/json" if operation.takes_json else next(iter(content), None)
    return kind, content.get(kind, {}).get("schema", {}) if kind else {}


def request(operation, world, path_parameters, query, body, token):
    """`body`: bytes, or anything that becomes JSON, or None."""
    kind, _ = body_of(operation)
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
    path = fill(operation.path, path_parameters)
    return Request(operation.method.upper(), path, flatten(query), body, kind if body is not None else None, token)


def token_of(operation, world, values):
    if operation.id in OF_SERVICES and values.chance(USUALLY):
        return AS_TOKEN
    if "/admin/" in operation.path and values.chance(USUALLY):
        return world.administrator.token
    return world.caller.token if operation.needs_token or values.chance(OFTEN) else None


def fixed(operation, world):
    """Makers of requests that ought to succeed: the one written by hand, else the definitions' examples."""
    values = Values(world, random.Random(1))
    values.room = world.joined
    required = {
        item["name"]: values.query_value(operation, item["name"]) or first_of(item["schema"])
        for item in operation.definition["parameters"]
        if item["in"] == "query" and item.get("required")
    }
    kind, _ = body_of(operation)
    bodies = [values.localised(example) for example in operation.examples] or [{} if operation.takes_json else b"bytes"]
    made = []
    for body in bodies if kind else [None]:
        if isinstance(body, dict):
            body.pop("auth", None)
        call = {"path": values.path_parameters(operation), "query": required, "body": body}
        if operation.id in CALLS:
            changes = CALLS[operation.id](world)
            call = {**call, **changes, "path": {**call["path"], **changes.get("path", {})}}
        token = world.administrator.token if "/admin/" in operation.path else world.caller.token
        token = AS_TOKEN if operation.id in OF_SERVICES else token
        token = call.get("token", token)
        made.append(request(operation, world, call["path"], call["query"], call["body"], token))
        if operation.id in CALLS:
            break
    return made


def malformed(operation):
    """Ways to make a good request of an operation wrong: functions of the request and its world."""
    ways = []
    if operation.takes_json:
        ways += [lambda good, _, body=body: replace(good, body=body) for body in (*MALFORMED, HUGE)]
        ways += [lambda good, _, kind=kind: replace(good, content_type=kind) for kind in CONTENT_TYPES]
    kinds = [item["name"] for item in operation.definition["parameters"] if item["in"] == "query"]
    for text in MALFORMED_TEXTS:
        ways += [lambda good, _, pair=(name, text): with_raw_query(good, *pair) for name in kinds]
        if "{" in operation.path:
            ways.append(lambda good, world, text=text: replace(good, path=with_raw_end(operation, world, text)))
    return ways


def with_raw_query(good, name, text):
    rest = [pair for pair in good.query if pair[0] != name]
    return replace(good, query=rest, raw_query=f"{name}={text}")


def with_raw_end(operation, world, text):
    """The path with `text` for its last parameter. What the others are is looked at by the same code."""
    before, _, after = operation.path.rpartition("{")
    values = Values(world, random.Random(1)).path_parameters(operation)
    return fill(before, values) + text + after.partition("}")[2]


def first_of(schema):
    """Any value of a simple schema."""
    return schema.get("enum", [schema.get("default", "1" if schema.get("type") == "string" else 1)])[0]


def steered(operation, world, case, choices, mode):
    """A drawn case as a request, in which the world's values stand for many of the drawn ones."""
    values = Values(world, choices, operation.id)
    path = {name: "nothing" if value in ("", None) else value for name, value in (case.path_parameters or {}).items()}
    for name, value in values.path_parameters(operation).items():
        if values.chance(USUALLY) or name == "txnId":
            path[name] = value
    query = dict(case.query or {})
    for item in operation.definition["parameters"]:
        name = item["name"]
        waits = name in ("timeout", "timeout_ms")
        if item["in"] == "query" and (name in query or waits) and (values.chance(OFTEN) or waits):
            value = values.query_value(operation, name)
            query[name] = query.get(name) if value is None else value
    kind, schema = body_of(operation)
    body = drawn_body(case) if kind else None
    if operation.takes_json and mode == GenerationMode.POSITIVE and not isinstance(body, bytes):
        body = values.steer_body(operation, body, schema)
        if operation.examples and values.chance(OFTEN):
            body = values.mix(values.localised(choices.choice(operation.examples)), body)
            body = values.steer_body(operation, body, schema)
    made = request(operation, world, path, query, body, token_of(operation, world, values))
    header = (case.headers or {}).get("Content-Type")
    if not operation.takes_json and isinstance(header, str) and header.isascii() and header.isprintable():
        made.content_type = header
    return made


def drawn_body(case):
    """The body of a case of schemathesis: bytes, JSON, or None where it has none."""
    body = case.body
    if type(body).__name__ == "NotSet":
        return None
    data = getattr(body, "data", body)
    return bytes(data) if isinstance(data, bytes | bytearray) else data


def draw(operation, known, mode, number, start, handle):
    """Lets `handle(case, random)` try so many drawn cases. Returns whether there was anything to draw."""
    strategy = known[operation.id].as_strategy(generation_mode=mode)
    number_of, name = itertools.count(), f"{start} {operation.id} {mode.value}"

    # Not for finding small cases: what is sent depends on the ids that the server gave, which a second run has not.
    @seed(zlib.crc32(name.encode()))
    @settings(
        max_examples=number,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy)
    def run(case):
        handle(case, random.Random(f"{name} {next(number_of)}"))

    try:
        run()
    except Unsatisfiable:
        return False
    return True
