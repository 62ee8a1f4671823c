"""Network namespaces whose only link is a TUN device, and a switch between them that loses, delays and narrows as told.

What `tc netem` does, without it: many kernels lack it, and here what is lost is the same in every run.
"""

import contextlib
import fcntl
import heapq
import ipaddress
import os
import random
import select
import struct
import subprocess
import threading
import time
from dataclasses import dataclass

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
PACKET = 65536


@dataclass(frozen=True)
class Damage:
    """What is wrong with one direction of a link."""

    # The share of packets that is lost.
    loss: float = 0.0
    # Seconds every packet takes.
    delay: float = 0.0
    # What goes through in a second; none: everything. What does not waits in a queue of so many seconds.
    bits_a_second: float | None = None
    queue: float = 0.5


class Direction:
    """One direction of a link."""

    def __init__(self, seed):
        self.damage = Damage()
        self.chance = random.Random(seed)
        self.free = 0.0

    def due(self, now, length):
        """When a packet comes out at the other end; none: never."""
        damage = self.damage
        if self.chance.random() < damage.loss:
            return None
        if damage.bits_a_second is None:
            return now + damage.delay
        begin = max(now, self.free)
        if begin - now > damage.queue:
            return None
        self.free = begin + length * 8 / damage.bits_a_second
        return self.free + damage.delay


def run(*command, check=True):
    return subprocess.run(command, check=check, capture_output=True, text=True)


class Network:
    """Namespaces by name, each with one address; usable as a context."""

    def __init__(self, addresses):
        self.addresses = addresses
        self.links = {}
        self.ways = {}
        self.running = True
        self.thread = threading.Thread(target=self.carry, daemon=True)

    def __enter__(self):
        self.remove()
        for number, (name, address) in enumerate(self.addresses.items()):
            run("ip", "netns", "add", name)
            self.links[ipaddress.ip_address(address).packed] = (name, attach(name, address))
            self.ways[name] = {"down": Direction(2 * number), "up": Direction(2 * number + 1)}
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.running = False
        self.thread.join()
        for _, link in self.links.values():
            os.close(link)
        self.remove()

    def remove(self):
        for name in self.addresses:
            run("ip", "netns", "delete", name, check=False)

    def damage(self, name, down=Damage(), up=Damage()):
        """From now on: what is wrong with what comes to a namespace, and with what it sends."""
        self.ways[name]["down"].damage, self.ways[name]["up"].damage = down, up

    def carry(self):
        """Takes packets from each link to the link of their address, through the damage of both."""
        waiting, number = [], 0
        names = {link: name for name, link in self.links.values()}
        while self.running:
            now = time.monotonic()
            while waiting and waiting[0][0] <= now:
                _, _, link, packet = heapq.heappop(waiting)
                # A full device loses packets, as a network does.
                with contextlib.suppress(OSError):
                    os.write(link, packet)
            wait = min(0.1, waiting[0][0] - now) if waiting else 0.1
            for link in select.select(list(names), [], [], wait)[0]:
                packet = os.read(link, PACKET)
                to = self.links.get(packet[16:20]) if packet[0] >> 4 == 4 else None
                if to is None:
                    continue
                name, target = to
                due = self.ways[names[link]]["up"].due(time.monotonic(), len(packet))
                if due is not None:
                    due = self.ways[name]["down"].due(due, len(packet))
                if due is not None:
                    number += 1
                    heapq.heappush(waiting, (due, number, target, packet))


def attach(name, address):
    """A TUN device `wire` in a namespace; what is read from the file is what the namespace sends."""
    link = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(link, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    run("ip", "link", "set", "dev", name, "name", "wire", "netns", name)
    inside = ("ip", "netns", "exec", name)
    run(*inside, "ip", "address", "add", f"{address}/24", "dev", "wire")
    run(*inside, "ip", "link", "set", "dev", "lo", "up")
    run(*inside, "ip", "link", "set", "dev", "wire", "up")
    return link
