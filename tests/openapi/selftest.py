"""Whether the tests can fail: what they must find, without a server. run.sh runs it first."""

import json
import tempfile
import unittest
from pathlib import Path

import bundle
import deviations
from checks import Checker, Finding, refused_without_token, unrecognized
from client import Answer

TABLE = """
| API | Method | Path | State | Test |
|---|---|---|---|---|
| client-server | GET | `/base/thing/{id}` | built | `some::test` |
| client-server | POST | `/base/thing` | built | |
| client-server | PUT | `/base/other` | not yet | |
"""
FIRST = """
paths:
  "/thing/{id}":
    get:
      operationId: getThing
      security: [{token: []}]
      responses:
        "200":
          content:
            application/json:
              schema: {$ref: parts/thing.yaml}
              examples: {response: {value: {$ref: missing.yaml}}}
        "401":
          content: {application/json: {schema: {type: object, required: [flows]}}}
  /thing:
    post: &post
      operationId: postThing
      requestBody: {content: {application/json: {schema: {properties: {a: {type: string, example: "one"}}}}}}
      responses: {"200": {description: done}}
  /other:
    put: {operationId: putOther, responses: {"200": {$ref: missing.yaml}}}
servers: [{variables: {basePath: {default: /base}}}]
"""
SECOND = """
paths:
  "/thing ":
    post:
      operationId: postThing
      requestBody: {content: {application/json: {schema: {properties: {b: {type: string}}}}}}
      responses: {"403": {description: no}}
servers: [{variables: {basePath: {default: /base}}}]
"""
THING = """
type: object
required: [room_id]
properties:
  room_id: {type: string, format: mx-room-id, example: "!a:b"}
  list: {type: array, items: {type: integer}}
  example: {type: string}
"""


def read():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "client-server" / "parts").mkdir(parents=True)
        (folder / "client-server" / "first.yaml").write_text(FIRST)
        (folder / "client-server" / "second.yaml").write_text(SECOND)
        (folder / "client-server" / "parts" / "thing.yaml").write_text(THING)
        (folder / "table.md").write_text(TABLE)
        return {operation.id: operation for operation in bundle.read_operations(folder, folder / "table.md")}


def answer(status, content, kind="application/json"):
    return Answer(status, kind, content if isinstance(content, bytes) else json.dumps(content).encode())


class Bundling(unittest.TestCase):
    def test_everything_is_written_out(self):
        thing = read()["getThing"].definition["responses"]["200"]["content"]["application/json"]
        self.assertEqual(thing["schema"]["properties"]["room_id"], {"type": "string", "format": "mx-room-id"})
        self.assertIn("example", thing["schema"]["properties"])
        self.assertNotIn("examples", thing)

    def test_descriptions_of_one_operation_are_joined(self):
        post = read()["postThing"]
        self.assertEqual(set(post.definition["responses"]), {"200", "403"})
        bodies = post.definition["requestBody"]["content"]["application/json"]["schema"]["anyOf"]
        self.assertEqual([set(body["properties"]) for body in bodies], [{"a"}, {"b"}])
        self.assertIn({"a": "one"}, post.examples)

    def test_what_is_not_built_is_no_part_of_the_document(self):
        operations = read()
        self.assertEqual(operations["putOther"].state, bundle.NOT_YET)
        self.assertEqual(set(bundle.document(operations.values())["paths"]), {"/base/thing/{id}", "/base/thing"})
        self.assertTrue(operations["getThing"].needs_token)
        self.assertFalse(operations["postThing"].needs_token)

    def test_a_missing_folder_is_named(self):
        with self.assertRaisesRegex(bundle.BadDefinitions, "/nowhere"):
            bundle.read_operations("/nowhere", Path("table.md"))


class Checking(unittest.TestCase):
    def rules(self, *of):
        return [(finding.rule, finding.place) for finding, _ in Checker(read()["getThing"]).check(answer(*of))]

    def test_good_answers(self):
        self.assertEqual(self.rules(200, {"room_id": "!a", "more": 1}), [])
        self.assertEqual(self.rules(403, {"errcode": "M_FORBIDDEN", "error": "no"}), [])
        self.assertEqual(self.rules(401, {"flows": [], "session": "x"}), [])
        self.assertEqual(self.rules(401, {"errcode": "M_MISSING_TOKEN", "error": "no"}), [])

    def test_bad_bodies(self):
        self.assertEqual(self.rules(200, {}), [("schema", "/: required room_id")])
        self.assertEqual(self.rules(200, {"room_id": 1}), [("schema", "/room_id: type")])
        self.assertEqual(self.rules(200, {"room_id": "@a:b"}), [("schema", "/room_id: format")])
        self.assertEqual(self.rules(200, {"room_id": "!a", "list": [1, "2"]}), [("schema", "/list/*: type")])
        self.assertEqual(self.rules(200, b"{"), [("schema", "/: not JSON")])

    def test_bad_errors(self):
        self.assertEqual(self.rules(400, {"errcode": "M_X"}), [("error-body", "/error")])
        self.assertEqual(self.rules(404, {"error": "none"}), [("error-body", "/errcode")])
        self.assertEqual(self.rules(404, b"none"), [("error-body", "/: not an object")])
        self.assertEqual(self.rules(404, b"none", "text/plain"), [("content-type", "text/plain")])

    def test_bad_statuses(self):
        good = {"errcode": "M_UNKNOWN", "error": "why"}
        self.assertEqual(self.rules(500, good), [("server-error", "")])
        self.assertEqual(self.rules(409, good), [("undeclared-status", "")])
        self.assertEqual(self.rules(201, {"room_id": "!a"}), [("undeclared-status", "")])

    def test_refusals(self):
        self.assertTrue(refused_without_token(answer(401, {"errcode": "M_UNKNOWN_TOKEN"})))
        self.assertFalse(refused_without_token(answer(200, {})))
        self.assertFalse(refused_without_token(answer(403, {"errcode": "M_UNKNOWN_TOKEN"})))
        self.assertTrue(unrecognized(answer(405, {"errcode": "M_UNRECOGNIZED"}), 404, 405))
        self.assertFalse(unrecognized(answer(404, {"errcode": "M_NOT_FOUND"}), 404, 405))


class Deviating(unittest.TestCase):
    def test_only_what_is_meant_is_covered(self):
        entry = deviations.Deviation("get*", "schema", "/a/*: type", "because", 200)
        self.assertTrue(entry.covers(Finding("getThing", "schema", 200, "/a/*: type")))
        for other in (
            Finding("putThing", "schema", 200, "/a/*: type"),
            Finding("getThing", "schema", 201, "/a/*: type"),
            Finding("getThing", "error-body", 200, "/a/*: type"),
            Finding("getThing", "schema", 200, "/b/*: type"),
        ):
            self.assertFalse(entry.covers(other))


if __name__ == "__main__":
    unittest.main()
