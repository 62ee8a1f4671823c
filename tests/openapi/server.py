"""A server on loopback with an empty data folder, which talks to nobody but its neighbours."""

import hashlib
import hmac
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from neighbours import Neighbours

START_SECONDS, STOP_SECONDS = 30, 30
SHARED_SECRET = "what only the run of the tests knows"
# `interval`: nothing here is about power failures, and every case writes.
CONFIG = """\
server_name = "{name}"
data_dir = "{folder}/data"
listeners = ["127.0.0.1:{port}"]
registration = "open"
registration_shared_secret = "{secret}"
durability = "interval"
allow_private_addresses = true

[admin]
room = false

[media]
unauthenticated_downloads = true
url_previews = true
# What is drawn leads nowhere else.
url_preview_allowed = ["127.0.0.1"]
url_preview_hourly_pages = 1000000

[appservices]
folder = "{folder}/services"

[client]
public_baseurl = "http://{name}"
support_page = "https://example.org/help"

[federation]
enabled = false

[rate_limits]
enabled = false
"""


class ServerTrouble(Exception):
    """The server did not do what any server must."""


class Server:
    """A running server. `folder` keeps its data, configuration and log."""

    def __init__(self, binary):
        if not os.access(binary, os.X_OK):
            raise ServerTrouble(f"no executable at {binary}")
        self.folder = Path(tempfile.mkdtemp(prefix="conduit-openapi-"))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.name = f"localhost:{self.port}"
        self.neighbours = Neighbours(self.name)
        services = self.folder / "services"
        services.mkdir()
        (services / "bridge.yaml").write_text(self.neighbours.registration())
        config = self.folder / "conduit.toml"
        config.write_text(CONFIG.format(name=self.name, folder=self.folder, port=self.port, secret=SHARED_SECRET))
        with open(self.folder / "log", "wb") as log:
            environment = {**os.environ, "CONDUIT_LOG__LEVEL": os.environ.get("CONDUIT_LOG", "warn")}
            command = [str(Path(binary).resolve()), "run", "--config", str(config)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)
        self.wait()

    def wait(self):
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise ServerTrouble(f"the server ended by itself ({self.process.returncode}): {self.log()[-2000:]}")
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.05)
        self.stop()
        raise ServerTrouble(f"the server did not come up in {START_SECONDS} s: {self.log()[-2000:]}")

    def log(self):
        return (self.folder / "log").read_text(errors="replace")

    def errors(self):
        """Lines that the server logged as errors or panics."""
        return [line for line in self.log().splitlines() if "ERROR" in line or "panicked" in line]

    def stop(self):
        """Returns whether it was still running and ended when asked to."""
        try:
            return self.stop_process()
        finally:
            self.neighbours.stop()

    def stop_process(self):
        if self.process.poll() is not None:
            return False
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return False
        return True

    def remove(self):
        shutil.rmtree(self.folder, ignore_errors=True)


def shared_secret_mac(nonce, name, password):
    """What an administrator's script proves its knowledge of the secret with, for an administrator's account."""
    text = f"{nonce}\0{name}\0{password}\0admin"
    return hmac.new(SHARED_SECRET.encode(), text.encode(), hashlib.sha1).hexdigest()
