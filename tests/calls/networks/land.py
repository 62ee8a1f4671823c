"""Machines that are network namespaces of their own, joined by virtual cables, with the kernel's own address translation.

Needs root, iproute2 and iptables. Nothing of it touches the network of this machine: a namespace has what is laid to it.
"""

import contextlib
import ctypes
import ipaddress
import os
import subprocess

CLONE_NEWNET = 0x40000000
# How long a command that lays something may take.
LIMIT = 20


class Land:
    """Makes namespaces, and removes them at the end; usable as a context. Their names begin with `prefix`."""

    def __init__(self, prefix="conduit-land-"):
        self.prefix, self.machines, self.ends = prefix, set(), 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for name in self.machines:
            run("ip", "netns", "delete", self.prefix + name, check=False)

    def within(self, name):
        """What stands before a command that is to run there."""
        return ["ip", "netns", "exec", self.prefix + name]

    def command(self, name, *command):
        return run(*self.within(name), *command)

    def machine(self, name):
        """A machine with loopback only."""
        # One of an earlier run that was killed.
        run("ip", "netns", "delete", self.prefix + name, check=False)
        run("ip", "netns", "add", self.prefix + name)
        self.machines.add(name)
        self.command(name, "ip", "link", "set", "dev", "lo", "up")

    def hub(self, name, address=None):
        """A switch in a machine, `lan`, into which cables are plugged."""
        self.command(name, "ip", "link", "add", "lan", "type", "bridge")
        if address:
            self.address(name, "lan", address)
        self.command(name, "ip", "link", "set", "dev", "lan", "up")

    def cable(self, name, device, hub, address, gateway=None):
        """From a device of a machine to the switch of another one."""
        self.ends += 1
        end = f"port{self.ends}"
        other = ["type", "veth", "peer", "name", end, "netns", self.prefix + hub]
        self.command(name, "ip", "link", "add", device, *other)
        self.command(hub, "ip", "link", "set", "dev", end, "master", "lan", "up")
        self.address(name, device, address)
        self.command(name, "ip", "link", "set", "dev", device, "up")
        if gateway:
            self.command(name, "ip", "route", "add", "default", "via", gateway)

    def address(self, name, device, address):
        # An address of IPv6 is not looked for twice before it is used.
        options = ["nodad"] if ipaddress.ip_interface(address).version == 6 else []
        self.command(name, "ip", "address", "add", address, "dev", device, *options)

    def router(self, name, public, own, hub):
        """A machine that passes on between its switch, where it has the address `own`, and the switch of another one."""
        self.machine(name)
        self.hub(name, own)
        self.cable(name, "wan", hub, public)
        self.command(name, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")
        # Else what is translated back into the switch it came from is not routed, and lost.
        switch = "/proc/sys/net/bridge/bridge-nf-call-iptables"
        self.command(name, "sh", "-c", f"! test -e {switch} || echo 0 >{switch}")

    def translate(self, name, *rule):
        """A rule of the kernel for the translation of addresses."""
        self.command(name, "iptables", "-w", "-t", "nat", "-A", *rule)

    def block_udp(self, name, table="iptables"):
        """Nothing goes over UDP any more, neither from there nor through there."""
        for chain in ["OUTPUT", "FORWARD"]:
            self.command(name, table, "-w", "-A", chain, "-p", "udp", "-j", "DROP")

    @contextlib.contextmanager
    def inside(self, name):
        """What this thread does meanwhile, it does there, and so do the programs that it starts."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/run/netns/{self.prefix}{name}", os.O_RDONLY)
        try:
            move(there)
            try:
                yield
            finally:
                move(before)
        finally:
            os.close(before)
            os.close(there)


def move(namespace):
    if ctypes.CDLL(None, use_errno=True).setns(namespace, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def run(*command, check=True):
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=LIMIT)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
