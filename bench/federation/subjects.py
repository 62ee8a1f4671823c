"""The servers that are measured: as in tests/interop, but quiet, and Synapse on PostgreSQL."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "interop"))

import servers  # noqa: E402

CLUSTER = Path("/var/lib/postgresql/15/bench")
PORT = 5544
SETTLE_SECONDS = 300
TICKS = os.sysconf("SC_CLK_TCK")


def fields_of(pid):
    """What /proc says of a process after its name: the state first."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None


def ticks_of(pid, with_reaped=False):
    fields = fields_of(pid)
    return sum(map(int, fields[11 : 15 if with_reaped else 13])) if fields else 0


def children_of(parent):
    numbers = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
    return [pid for pid in numbers if (fields := fields_of(pid)) and int(fields[1]) == parent]


def status_mib(pid, name):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"no {name} of process {pid}")


class Measured:
    """What both have."""

    def cpu_seconds(self):
        """CPU time that the server has used since it started, and that of its database."""
        return ticks_of(self.process.pid) / TICKS, self.database_cpu_seconds()

    def database_cpu_seconds(self):
        return 0.0

    def resident_mib(self):
        return status_mib(self.process.pid, "VmRSS")

    def peak_mib(self):
        """The highest resident size since `forget_peak`, of the server without its database."""
        return status_mib(self.process.pid, "VmHWM")

    def forget_peak(self):
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")


class Conduit(Measured, servers.Conduit):
    def version(self):
        return subprocess.run([self.binary, "--version"], capture_output=True, text=True, check=True).stdout.strip()


class Synapse(Measured, servers.Synapse):
    def configure(self):
        super().configure()
        path = self.folder / "homeserver.yaml"
        config = json.loads(path.read_text())
        database = f"federation_{self.folder.parent.name}_{self.folder.name}".replace("-", "_")
        self.psql("postgres", f"DROP DATABASE IF EXISTS {database}")
        self.psql(
            "postgres", f"CREATE DATABASE {database} ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        )
        self.database = database
        arguments = {"user": "postgres", "dbname": database, "host": "127.0.0.1", "port": PORT}
        config["database"] = {"name": "psycopg2", "args": arguments | {"cp_min": 5, "cp_max": 10}}
        config["federation"] |= {"client_timeout": "600s"}
        path.write_text(json.dumps(config, indent=1))

    @staticmethod
    def psql(database, statement):
        command = ["psql", "-qtAh", "127.0.0.1", "-p", str(PORT), "-U", "postgres", "-d", database, "-c", statement]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def command(self):
        preload = "LD_PRELOAD=/usr/lib/x86_64-linux-gnu/libjemalloc.so.2"
        return ["env", preload, *super().command()]

    def database_cpu_seconds(self):
        # Of processes that have ended, the first one keeps the count.
        first = int((CLUSTER / "postmaster.pid").read_text().split()[0])
        return (ticks_of(first, with_reaped=True) + sum(map(ticks_of, children_of(first)))) / TICKS

    def start(self):
        super().start()
        # What a new database does once is no part of what is measured.
        deadline = time.monotonic() + SETTLE_SECONDS
        while self.psql(self.database, "SELECT count(*) FROM background_updates") != "0":
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self} is still updating its database after {SETTLE_SECONDS} s")
            time.sleep(1)

    def stop(self, *arguments):
        went = super().stop(*arguments)
        self.psql("postgres", f"DROP DATABASE IF EXISTS {self.database} WITH (FORCE)")
        return went

    def version(self):
        script = 'from importlib.metadata import version; print("Synapse", version("matrix-synapse"))'
        found = subprocess.run([self.python, "-c", script], capture_output=True, text=True, check=True).stdout.strip()
        return f"{found} on PostgreSQL {self.psql('postgres', 'SHOW server_version').split()[0]}"
