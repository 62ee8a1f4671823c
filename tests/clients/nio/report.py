"""Counts steps, prints one line for each, and bounds each in time."""

import asyncio
import sys
import time
import traceback

STEP_LIMIT = 60.0
WAIT_LIMIT = 30.0


class Abort(Exception):
    """A step failed without which the rest of the scenario has no meaning."""


def ensure(condition, message):
    """Fails the step when the condition does not hold."""
    if not condition:
        raise AssertionError(message)


async def until(what, check):
    """Asks `check` (a plain or an async function) until it gives something truthy; `what` names it in the error."""
    deadline = time.monotonic() + WAIT_LIMIT
    while True:
        value = check()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {WAIT_LIMIT:.0f} s in vain for {what}")
        await asyncio.sleep(0.1)


class Report:
    """The tally of steps so far."""

    def __init__(self):
        self.passed = 0
        self.failed = 0

    async def step(self, name, work):
        """Awaits one step; prints `ok NAME` or `FAIL NAME: cause`. Gives its value, or True, or None on failure."""
        started = time.monotonic()
        try:
            value = await asyncio.wait_for(work, STEP_LIMIT)
        except TimeoutError:
            self.fail(name, f"no result after {STEP_LIMIT:.0f} s")
        except Exception as error:  # a step may fail in any way; the cause is printed and the scenario goes on
            frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "scenario.py" in frame.filename]
            where = f" at scenario.py:{frames[-1].lineno}" if frames else ""
            self.fail(name, f"{type(error).__name__}: {error}{where}")
        else:
            self.passed += 1
            print(f"ok {name} ({(time.monotonic() - started) * 1000:.0f} ms)", flush=True)
            return True if value is None else value
        return None

    async def must(self, name, work):
        """Like `step`, for a step without which the scenario cannot go on."""
        value = await self.step(name, work)
        if value is None:
            raise Abort(name)
        return value

    def fail(self, name, cause):
        """Counts and prints a failure."""
        self.failed += 1
        print(f"FAIL {name}: {cause}", flush=True)

    def finish(self):
        """Prints the closing line and ends the process."""
        print(f"{self.passed} passed, {self.failed} failed", flush=True)
        sys.exit(0 if self.failed == 0 else 1)
