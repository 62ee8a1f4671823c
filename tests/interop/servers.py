"""Homeservers as processes: their folders, configuration, start and end."""

import base64
import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

from client import Client, request_once
from link import Link

START_SECONDS = 180
STOP_SECONDS = 40


def free_port(host):
    """A TCP port nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


class Server:
    """A homeserver. Others reach it at its name, through a link that can be cut; clients reach it directly."""

    kind = ""
    retry_seconds = 1

    def __init__(self, number, folder, authority):
        self.host = f"127.0.0.{number}"
        self.folder = Path(folder) / f"{number}-{self.kind}"
        self.folder.mkdir(parents=True)
        self.port = free_port(self.host)
        self.plain_port = free_port(self.host)
        self.authority = authority
        self.certificate, self.key = authority.issue(self.host, self.folder)
        self.link = Link(self.host, self.port)
        self.name = f"{self.host}:{self.link.port}"
        self.log = self.folder / "log"
        self.process = None
        self.users = 0

    def __str__(self):
        return f"{self.kind} {self.name}"

    @property
    def plain_url(self):
        """For clients that do not know the authority."""
        return f"http://{self.host}:{self.plain_port}"

    def configure(self):
        raise NotImplementedError

    def command(self):
        raise NotImplementedError

    def start(self):
        """Starts the process and waits until it answers."""
        with open(self.folder / "output", "ab") as output:
            self.process = subprocess.Popen(
                self.command(), cwd=self.folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                if request_once(self, "GET", "/_matrix/client/versions")[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.1)
        raise RuntimeError(f"{self} did not come up; see {self.folder}")

    def stop(self, how=signal.SIGTERM):
        """Ends the process, with violence when it does not go by itself. Returns whether it went by itself."""
        process, self.process = self.process, None
        if process is None:
            return True
        if process.poll() is None:
            process.send_signal(how)
        try:
            process.wait(STOP_SECONDS)
            return True
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return False

    def died(self):
        """Whether the process ended although nobody asked for it."""
        return self.process is not None and self.process.poll() is not None

    def register(self, name):
        """A new account, named after `name`, with its first device."""
        self.users += 1
        body = {
            "username": f"{name}-{self.users}",
            "password": "correct horse battery",
            "auth": {"type": "m.login.dummy"},
            "initial_device_display_name": name,
        }
        status, answer = request_once(self, "POST", "/_matrix/client/v3/register", body)
        if status != 200:
            raise RuntimeError(f"{self} does not register {name}: {status} {answer}")
        return Client(self, answer["user_id"], answer["access_token"], answer["device_id"])

    def complaints(self):
        """Lines of the log that must not be there."""
        return []


class Conduit(Server):
    kind = "conduit"

    def __init__(self, number, folder, authority, binary):
        super().__init__(number, folder, authority)
        self.binary = binary
        self.configure()

    def configure(self):
        (self.folder / "conduit.toml").write_text(
            f"""server_name = "{self.name}"
data_dir = "{self.folder}/data"
listeners = ["tls://{self.host}:{self.port}", "{self.host}:{self.plain_port}"]
registration = "open"
trusted_ca_file = "{self.authority.certificate}"
allow_private_addresses = true

[tls]
certificate = "{self.certificate}"
key = "{self.key}"

[admin]
room = false

[federation]
trusted_key_servers = []
backoff = "{self.retry_seconds}s"
max_backoff = "5s"

[rate_limits]
enabled = false

[log]
level = "{os.environ.get("CONDUIT_LOG", "info,federation=debug,rooms=debug")}"
"""
        )

    def command(self):
        return [self.binary, "run", "--config", str(self.folder / "conduit.toml")]

    def complaints(self):
        found = []
        for line in (self.folder / "output").read_text(errors="replace").splitlines():
            if " ERROR " in line or "panicked at" in line:
                found.append(line)
        return found


class Synapse(Server):
    kind = "synapse"

    def __init__(self, number, folder, authority, python):
        super().__init__(number, folder, authority)
        self.python = python
        self.configure()

    def configure(self):
        free = {"per_second": 1000000, "burst_count": 1000000}
        seed = base64.b64encode(os.urandom(32)).decode().rstrip("=")
        (self.folder / "signing.key").write_text(f"ed25519 a_1 {seed}\n")
        config = {
            "server_name": self.name,
            "pid_file": f"{self.folder}/homeserver.pid",
            "listeners": [
                {
                    "port": self.port,
                    "bind_addresses": [self.host],
                    "type": "http",
                    "tls": True,
                    "x_forwarded": False,
                    "resources": [{"names": ["client", "federation"], "compress": False}],
                },
                {
                    "port": self.plain_port,
                    "bind_addresses": [self.host],
                    "type": "http",
                    "tls": False,
                    "x_forwarded": False,
                    "resources": [{"names": ["client"], "compress": False}],
                },
            ],
            "tls_certificate_path": str(self.certificate),
            "tls_private_key_path": str(self.key),
            "federation_custom_ca_list": [str(self.authority.certificate)],
            "database": {"name": "sqlite3", "args": {"database": f"{self.folder}/homeserver.db"}},
            "log_config": f"{self.folder}/log.json",
            "media_store_path": f"{self.folder}/media",
            "signing_key_path": f"{self.folder}/signing.key",
            "trusted_key_servers": [],
            "report_stats": False,
            "enable_registration": True,
            "enable_registration_without_verification": True,
            "bcrypt_rounds": 4,
            "macaroon_secret_key": "interop",
            "form_secret": "interop",
            "presence": {"enabled": True},
            "ip_range_blacklist": [],
            "federation_ip_range_blacklist": [],
            "allow_public_rooms_over_federation": True,
            "room_list_publication_rules": [{"action": "allow"}],
            "federation": {
                "client_timeout": "30s",
                "max_short_retry_delay": "1s",
                "max_short_retries": 1,
                "max_long_retry_delay": "5s",
                "max_long_retries": 3,
                "destination_min_retry_interval": f"{self.retry_seconds}s",
                "destination_retry_multiplier": 2,
                "destination_max_retry_interval": "5s",
            },
            "rc_message": free,
            "rc_registration": free,
            "rc_login": {"address": free, "account": free, "failed_attempts": free},
            "rc_admin_redaction": free,
            "rc_joins": {"local": free, "remote": free},
            "rc_joins_per_room": free,
            "rc_invites": {"per_room": free, "per_user": free, "per_issuer": free},
            "rc_presence": {"per_user": free},
            "rc_room_creation": free,
            "rc_media_create": free,
            "remote_media_download_per_second": "100M",
            "remote_media_download_burst_count": "1000M",
            "rc_federation": {
                "window_size": 1000,
                "sleep_limit": 1000000,
                "sleep_delay": 1,
                "reject_limit": 1000000,
                "concurrent": 1000,
            },
        }
        # JSON is YAML.
        (self.folder / "homeserver.yaml").write_text(json.dumps(config, indent=1))
        (self.folder / "log.json").write_text(
            json.dumps(
                {
                    "version": 1,
                    "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(name)s %(request)s %(message)s"}},
                    "handlers": {
                        "file": {"class": "logging.FileHandler", "formatter": "plain", "filename": str(self.log)}
                    },
                    "root": {"level": os.environ.get("SYNAPSE_LOG", "INFO"), "handlers": ["file"]},
                    "disable_existing_loggers": False,
                }
            )
        )

    def command(self):
        return [self.python, "-m", "synapse.app.homeserver", "-c", str(self.folder / "homeserver.yaml")]
