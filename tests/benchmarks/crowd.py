"""
A crowd of readers in one process: many connections, as little work a byte as Python allows.

    python -m tests.benchmarks.crowd      speaks JSON lines on its standard streams

It is told {"port", "paths"}, connects one client a path, and says {"connected": seconds} once everybody has had the
first bytes. Then it reads until it is told "stop", and says what it saw: every event's delay in milliseconds, and how
many were lost or came twice. What is read is kept with its time, and looked at when all is over.
"""

from __future__ import annotations

import json
import re
import resource
import select
import socket
import sys
import time
from collections import Counter
from contextlib import suppress

AT_ONCE = 200  # connections that are being opened at a time
A_SOURCE = 5000  # connections from one address: a port is free for one only
PATIENCE = 60.0  # seconds for everybody to be connected

_EVENT = re.compile(rb'"progress": ?(-?\d+).*?"timestamp": ?([0-9.]+)')


class Crowd:
    """The connections, and what came on each with its time."""

    def __init__(self, port: int, paths: list[str]) -> None:
        self._port = port
        self._paths = paths
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._numbers: dict[int, int] = {}  # file -> client
        self._heard: set[int] = set()
        self.read: list[tuple[int, float, bytes]] = []

    def connect(self) -> float:
        """Seconds until everybody has heard something."""
        began = time.perf_counter()
        number = 0
        while len(self._heard) < len(self._paths):
            while number < len(self._paths) and number - len(self._heard) < AT_ONCE:
                self._open(number)
                number += 1
            self.receive(0.1)
            if time.perf_counter() - began > PATIENCE:
                break
        return time.perf_counter() - began

    def receive(self, seconds: float) -> None:
        """Read what has come."""
        clock, files, sockets, read = time.time, self._numbers, self._sockets, self.read
        for file, _ in self._poll.poll(seconds, 1024):
            if file not in sockets:
                continue
            try:
                data = sockets[file].recv(65536)
            except OSError:
                data = b""
            read.append((files[file], clock(), data))
            if data:
                self._heard.add(file)
            else:
                self._poll.unregister(file)
                sockets.pop(file).close()

    def forget(self) -> None:
        """A new round begins."""
        self.read.clear()

    def report(self, events: int) -> dict[str, object]:
        """
        What a round of so many events looked like; events are told apart by their progress.

        Delays are from the event's timestamp to the reading of its last byte, in milliseconds.
        """
        rest: dict[int, bytes] = {}
        seen: Counter[tuple[int, int]] = Counter()
        delays = []
        for client, at, data in self.read:
            text = rest.pop(client, b"") + data
            end = 0
            for match in _EVENT.finditer(text):
                end = match.end()
                seen[client, int(match[1])] += 1
                delays.append((at - float(match[2])) * 1000)
            if tail := text[end:][-4096:]:
                rest[client] = tail
        wanted = events * len(self._paths)
        return {
            "delays": [round(delay, 2) for delay in delays],
            "lost": wanted - len(seen),
            "twice": sum(seen.values()) - len(seen),
            "open": len(self._sockets),
        }

    def _open(self, number: int) -> None:
        sock = socket.socket()
        sock.bind((f"127.0.0.{2 + number // A_SOURCE}", 0))
        sock.connect(("127.0.0.1", self._port))
        sock.setblocking(False)
        sock.send(f"GET {self._paths[number]} HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\n\r\n".encode())
        self._sockets[sock.fileno()] = sock
        self._numbers[sock.fileno()] = number
        self._poll.register(sock.fileno(), select.EPOLLIN)


def main() -> None:
    """See the module."""
    allow_open_files()
    order = json.loads(sys.stdin.readline())
    crowd = Crowd(order["port"], order["paths"])
    _say({"connected": crowd.connect(), "heard": len(crowd._heard)})
    commands = select.poll()
    commands.register(sys.stdin.fileno(), select.POLLIN)
    with suppress(KeyboardInterrupt, BrokenPipeError):
        while True:
            crowd.receive(0.02)
            if not commands.poll(0):
                continue
            match sys.stdin.readline().split():
                case ["begin"]:
                    crowd.forget()
                    _say({})
                case ["report", events]:
                    _say(crowd.report(int(events)))
                case _:
                    return


def allow_open_files() -> None:
    """As many as the system lets us; children inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _say(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
