"""The passes over the operations: what is sent, and what is found."""

import json
import random
from collections import Counter
from dataclasses import replace

from schemathesis import GenerationMode

import bundle
import cases
from calls import PREPARED, SEEDED
from checks import Checker, Finding, refused_without_token, unrecognized
from client import Request, Wire
from server import ServerTrouble
from values import Values
from world import World, register_administrator

# After these the caller, a device or a password is gone: each is tried by a user who is thrown away.
DESTRUCTIVE = {
    "logout",
    "logout_all",
    "deactivateAccount",
    "changePassword",
    "deleteDevice",
    "deleteDevices",
    "refresh",
    "setAdminLockUser",
    "setAdminSuspendUser",
}
# How many cases share a world, by whether they change it.
SHARED_READING, SHARED_WRITING = 40, 8
# Where a request is from.
BY_HAND, MALFORMED, DRAWN = "by hand", "malformed", "drawn"
NO_TOKENS = (None, "not-a-token")


class Run:
    """What is tried, and what was found."""

    def __init__(self, server, operations, options):
        self.server, self.operations, self.options = server, operations, options
        self.wire = Wire(server)
        self.administrator = register_administrator(self.wire)
        self.found, self.seen = Counter(), {}
        # Operations of which nothing can be drawn, by the way of drawing.
        self.undrawn = {mode.value: [] for mode in GenerationMode}
        # Of each operation: how many answers there were of each status, and which way it got a 2xx.
        self.statuses = {operation.id: Counter() for operation in operations}
        self.reached = {operation.id: set() for operation in operations}

    def report(self, finding, what, request):
        self.found[finding] += 1
        self.seen.setdefault(finding, (what, request.curl()))

    def world(self):
        return World(self.wire, self.administrator, self.server)

    def send(self, operation, request):
        """The answer, or None when there was none, which is reported."""
        try:
            return self.wire.send(request)
        except OSError as error:
            self.report(Finding(operation.id, "no-answer", 0, ""), str(error), request)
            if self.server.process.poll() is not None:
                raise ServerTrouble(f"the server ended by itself after {request.curl()}") from error
        return None

    def try_one(self, operation, checker, request, world, way):
        """Sends a request, and once more with authentication when asked for it, and checks the answers."""
        answer = self.judge(operation, checker, request, way)
        challenge = answer.json if answer is not None and answer.status == 401 else None
        if isinstance(challenge, dict) and "session" in challenge and isinstance(challenge.get("flows"), list):
            request = authenticated(request, challenge, Values(world, random.Random(1)))
            if request is not None:
                answer = self.judge(operation, checker, request, way)
        if answer is None or operation.id in DESTRUCTIVE or not operation.needs_token or request.token is None:
            return
        if refused_without_token(answer):
            self.report(Finding(operation.id, "session-lost", answer.status, ""), str(answer.body), request)

    def judge(self, operation, checker, request, way):
        try:
            answer = self.send(operation, request)
        except ValueError:
            return None  # a header or a path that cannot be written in HTTP
        if answer is None:
            return None
        self.statuses[operation.id][answer.status] += 1
        if answer.status // 100 == 2 and way != MALFORMED:
            self.reached[operation.id].add(way)
        for finding, what in checker.check(answer):
            self.report(finding, what, request)
        return answer

    # The passes

    def check_unserved(self):
        """Operations that the server says it lacks are unrecognized, and so are other methods of those it has."""
        for operation in self.operations:
            if operation.state != bundle.NOT_YET:
                continue
            # Its path may be served under another method.
            self.check_unrecognized(operation, operation.method.upper(), "served", (404, 405))
        for operation in self.operations:
            if operation.state == bundle.BUILT:
                self.check_unrecognized(operation, "PATCH", "method", (405,))

    def check_unrecognized(self, operation, method, rule, statuses):
        path = operation.path.replace("{", "").replace("}", "")
        request = Request(method, path, [], b"{}", "application/json", self.administrator.token)
        answer = self.send(operation, request)
        if answer is not None and not unrecognized(answer, *statuses):
            self.report(Finding(operation.id, rule, answer.status, ""), str(answer.body[:200]), request)

    def check_unauthenticated(self):
        """Without a valid token nothing is answered but 401, and nothing changes. Returns how many were tried."""
        world, tried = self.world(), 0
        before = world.snapshot()
        for operation in self.operations:
            if operation.state != bundle.BUILT or not operation.needs_token:
                continue
            # What would succeed, which may leave the world otherwise than it was: each from a world of its own.
            good = (
                cases.fixed(operation, self.world())[0] if operation.id in SEEDED else cases.fixed(operation, world)[0]
            )
            for token in NO_TOKENS:
                request = replace(good, token=token)
                answer = self.send(operation, request)
                tried += 1
                if answer is not None and not refused_without_token(answer):
                    finding = Finding(operation.id, "unauthenticated", answer.status, "")
                    self.report(finding, str(answer.body[:200]), request)
        after = world.snapshot()
        for part in (part for part in before if before[part] != after[part]):
            seen = f"{before[part]} became {after[part]}"[:2000]
            self.report(Finding(part, "changed-without-token", 0, ""), seen, Request("GET", part, []))
        return tried

    def check_operation(self, operation, known):
        """All kinds of requests for an operation."""
        checker = Checker(operation)
        world = self.world()
        for made in cases.fixed(operation, world):
            self.try_one(operation, checker, made, world, BY_HAND)
        stage = Stage(self, operation)
        for way in cases.malformed(operation):
            world = stage.enter()
            made = way(cases.fixed(operation, world)[0], world)
            self.try_one(operation, checker, made, world, MALFORMED)
        examples = self.options.examples
        for mode, number in ((GenerationMode.POSITIVE, examples), (GenerationMode.NEGATIVE, max(1, examples // 3))):

            def handle(case, choices, mode=mode):
                made = cases.steered(operation, stage.enter(), case, choices, mode)
                self.try_one(operation, checker, made, stage.world, DRAWN)

            if not cases.draw(operation, known, mode, number, self.options.seed, handle):
                self.undrawn[mode.value].append(operation.id)


class Stage:
    """The world of the cases of an operation, renewed before the caller is lost or it is worn out."""

    def __init__(self, run, operation):
        self.run, self.operation, self.left, self.world = run, operation, 0, None
        self.shared = SHARED_READING if operation.method == "get" else SHARED_WRITING
        self.shared = 1 if operation.id in DESTRUCTIVE else self.shared

    def enter(self):
        if self.left == 0:
            self.world, self.left = self.run.world(), self.shared
            PREPARED.get(self.operation.id, lambda world: None)(self.world)
        self.left -= 1
        return self.world


def authenticated(request, challenge, values):
    """The request again with what the first flow of a challenge asks for; None if that cannot be given."""
    try:
        body = json.loads(request.body or b"{}")
    except ValueError:
        return None
    stages = challenge["flows"][0]["stages"] if challenge["flows"] else []
    if not isinstance(body, dict) or stages not in (["m.login.dummy"], ["m.login.password"]):
        return None
    session = challenge["session"]
    auth = {"type": "m.login.dummy", "session": session} if "dummy" in stages[0] else values.authentication(session)
    body = json.dumps({**body, "auth": auth}).encode()
    return Request(request.method, request.path, request.query, body, "application/json", request.token)
