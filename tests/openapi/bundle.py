"""One OpenAPI document out of the specification's many, and which of its operations the server has.

The definitions are a file per family with `$ref`s between files; two families may describe one operation (inviting by
user id and by e-mail), then under a path that differs by a space at its end. Here everything is in one document without
references.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import yaml

METHODS = ("get", "put", "post", "delete", "patch", "head", "options")
# What says nothing of what is valid.
ANNOTATIONS = {"description", "title", "deprecated", "default"}
EXAMPLES = ("example", "examples")
BUILT, NOT_YET = "built", "not yet"


class BadDefinitions(Exception):
    """The folder is not that of the definitions, or not of the version that the table of endpoints is for."""


class Loader(yaml.SafeLoader):
    """YAML whose dates stay strings, as in JSON."""


Loader.yaml_implicit_resolvers = {
    first: [(tag, expression) for tag, expression in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@dataclass
class Operation:
    """An operation with everything written out."""

    id: str
    method: str
    path: str
    definition: dict
    state: str
    # Bodies that the definitions show as examples.
    examples: list = field(default_factory=list)

    @property
    def label(self):
        return f"{self.method.upper()} {self.path}"

    @property
    def needs_token(self):
        """Whether nobody may call it without an access token."""
        security = self.definition.get("security", [])
        return bool(security) and {} not in security

    @property
    def takes_json(self):
        return "application/json" in self.definition.get("requestBody", {}).get("content", {})


class Files:
    """The files, each read once."""

    def __init__(self):
        self.read = {}

    def load(self, path):
        path = path.resolve()
        if path not in self.read:
            try:
                self.read[path] = yaml.load(path.read_text(), Loader)
            except OSError as error:
                raise BadDefinitions(f"{path} cannot be read: {error.strerror}") from error
        return self.read[path]

    def find(self, reference, path):
        """What a `$ref` in the file `path` stands for, and the file that has it."""
        name, _, pointer = reference.strip().partition("#")
        target = (path.parent / name).resolve() if name else path
        node = self.load(target)
        for part in filter(None, pointer.split("/")):
            node = node[part.replace("~1", "/").replace("~0", "~")]
        return node, target

    def expand(self, node, path, trail=(), names=False):
        """`node` of the file `path` without references and examples. `names`: its keys are names, not keywords."""
        if isinstance(node, list):
            return [self.expand(item, path, trail) for item in node]
        if not isinstance(node, dict):
            return node
        if isinstance(node.get("$ref"), str) and not names:
            return self.expand_reference(node, path, trail)
        return {
            key: self.expand(value, path, trail, names=key in ("properties", "patternProperties") and not names)
            for key, value in node.items()
            if names or not (key in EXAMPLES or key == "$schema" or key.startswith("x-"))
        }

    def expand_reference(self, node, path, trail):
        target, file = self.find(node["$ref"], path)
        step = (file, node["$ref"].partition("#")[2])
        if step in trail:
            raise BadDefinitions(f"{path}: {node['$ref']} contains itself")
        found = self.expand(target, file, (*trail, step))
        beside = self.expand({key: value for key, value in node.items() if key != "$ref"}, path, trail)
        if set(beside) <= ANNOTATIONS:
            return {**found, **beside}
        return {**beside, "allOf": [found, *beside.get("allOf", [])]}

    def examples(self, definition, path):
        """The bodies shown with an operation: whole ones, else one put together from those of the fields."""
        if "$ref" in (body := definition.get("requestBody", {})):
            body, path = self.find(body["$ref"], path)
        media = body.get("content", {}).get("application/json", {})
        shown = [example["value"] for example in media.get("examples", {}).values() if "value" in example]
        shown += [media["example"]] if "example" in media else []
        if not shown and "schema" in media:
            found = self.example_of(media["schema"], path)
            shown = [] if found is None else [found]
        return [json.loads(json.dumps(value)) for value in shown]

    def example_of(self, schema, path):
        if "$ref" in schema:
            return self.example_of(*self.find(schema["$ref"], path))
        if "example" in schema:
            return schema["example"]
        if "properties" not in schema and "allOf" not in schema:
            return schema.get("default")
        whole = {}
        for part in schema.get("allOf", []):
            found = self.example_of(part, path)
            whole.update(found if isinstance(found, dict) else {})
        for name, part in schema.get("properties", {}).items():
            found = self.example_of(part, path)
            if found is not None:
                whole[name] = found
        return whole


def read_states(table):
    """What `docs/endpoints.md` says: (method, path) of the client-server API to `built` or `not yet`."""
    states = {}
    for line in table.read_text().splitlines():
        cells = [cell.strip().strip("`") for cell in line.split("|")[1:-1]]
        if len(cells) >= 4 and cells[0] == "client-server":
            states[cells[1].lower(), cells[2]] = cells[3]
    return states


def base_path(document):
    servers = document.get("servers", [{}])
    return servers[0].get("variables", {}).get("basePath", {}).get("default", "").rstrip("/")


def merge(first, second):
    """Two descriptions of one operation: whichever body, parameters and answers of both."""
    merged = {**first, "responses": {**second["responses"], **first["responses"]}}
    known = {(parameter["in"], parameter["name"]) for parameter in first.get("parameters", [])}
    extra = [item for item in second.get("parameters", []) if (item["in"], item["name"]) not in known]
    merged["parameters"] = [*first.get("parameters", []), *extra]
    bodies = [
        part["requestBody"]["content"]["application/json"]["schema"]
        for part in (first, second)
        if "requestBody" in part
    ]
    if len(bodies) == 2:
        merged["requestBody"] = {"required": True, "content": {"application/json": {"schema": {"anyOf": bodies}}}}
    return merged


def read_operations(api, table):
    """The operations below `api` (the folder of `client-server`) in the order of their paths."""
    folder = Path(api) / "client-server"
    if not folder.is_dir():
        raise BadDefinitions(f"the OpenAPI definitions of the specification are not at {api}: there is no {folder}")
    states, files, found = read_states(table), Files(), {}
    for file in sorted(folder.glob("*.yaml")):
        document = files.load(file)
        for path, item in document.get("paths", {}).items():
            for method in METHODS:
                if method in item:
                    add_operation(found, files, file, states, (method, base_path(document) + path.strip()), item)
    missing = set(states) - set(found)
    if missing:
        raise BadDefinitions(f"{table} names what the definitions lack: {sorted(missing)}")
    return sorted(found.values(), key=lambda operation: (operation.path, operation.method))


def add_operation(found, files, file, states, key, item):
    method, path = key
    if key not in states:
        raise BadDefinitions(f"the table of endpoints lacks {method.upper()} {path}: is it of another version?")
    raw = item[method]
    if states[key] == NOT_YET:
        # Its definition is not looked at: it may refer to files of other APIs.
        definition = {"operationId": raw["operationId"], "responses": {}, "parameters": []}
        found.setdefault(key, Operation(raw["operationId"], method, path, definition, NOT_YET))
        return
    definition = files.expand(raw, file)
    definition["parameters"] = [*definition.get("parameters", []), *files.expand(item.get("parameters", []), file)]
    examples = files.examples(raw, file)
    if key in found:
        found[key].definition = merge(found[key].definition, definition)
        found[key].examples += examples
        return
    found[key] = Operation(definition["operationId"], method, path, definition, BUILT, examples)


def document(operations):
    """The operations that are built as one OpenAPI document."""
    paths = {}
    for operation in operations:
        if operation.state == BUILT:
            paths.setdefault(operation.path, {})[operation.method] = {
                key: value for key, value in operation.definition.items() if key not in ("security", "tags")
            }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Matrix Client-Server API", "version": "1.19"},
        "servers": [{"url": "/"}],
        "paths": paths,
    }
