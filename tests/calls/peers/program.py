"""The participant on the `webrtc` crate (webrtc-rs/), as a program that says line by line what happens to it."""

import contextlib
import subprocess
import threading
import time

PATIENCE = 60


class Program:
    """Runs from its making on; usable as a context. `prefix` is a command that runs another one, such as in a network namespace."""

    def __init__(self, path, url, token, *options, log, prefix=()):
        self.lines = []
        with open(log, "ab") as errors:
            self.process = subprocess.Popen(
                [*prefix, path, url, token, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
            )
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def read(self):
        for line in self.process.stdout:
            self.lines.append(line.strip())

    def says(self, start):
        """The last line that begins so, if there is one."""
        return next((line for line in reversed(self.lines) if line.startswith(start)), None)

    def counted(self, kind):
        """How many packets of this kind have come."""
        line = self.says(f"received {kind} ")
        return int(line.split()[2]) if line else 0

    def wait_for(self, start, limit=PATIENCE):
        """The line that begins so."""
        end = time.monotonic() + limit
        while (line := self.says(start)) is None:
            if self.process.poll() is not None:
                raise RuntimeError(f"the program ended with {self.process.returncode}; it said {self.lines}")
            if time.monotonic() > end:
                raise TimeoutError(f"no {start!r} within {limit} s; it said {self.lines}")
            time.sleep(0.05)
        return line

    def write(self, text):
        self.process.stdin.write(f"{text}\n")
        self.process.stdin.flush()

    def leave(self):
        """Hangs up, and gives the exit code."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        return self.process.wait(PATIENCE)

    def end(self):
        """Whatever it does, it is gone afterwards."""
        self.process.kill()
        self.process.wait(PATIENCE)
        self.reader.join(PATIENCE)
        self.process.stdout.close()
