"""A network namespace with nftables of its own, and a second one beside it whose address can be blocked."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.ports import FIRST, free_port
from tests.support.processes import Server, program

GUARDED, SENDER, NEIGHBOUR = "203.0.113.1", "203.0.113.7", "203.0.113.8"
SENDER6 = "2001:db8::7"

RULES = """
table inet guard {
  set blocked { type ipv4_addr; flags timeout, interval; }
  set blocked6 { type ipv6_addr; flags timeout; }
  set forever { type ipv4_addr; }
  set unused { type ipv4_addr; flags timeout; }
  set ports { type inet_service; flags timeout; }
  chain last {
    ip saddr @blocked counter drop
    ip6 saddr @blocked6 reject
    ip saddr @forever drop
    tcp dport @ports drop
  }
  chain incoming {
    type filter hook prerouting priority raw; policy accept;
    tcp dport 22 ip saddr @unused drop
    jump last
  }
}
table inet other {
  set blocked { type ipv4_addr; flags timeout; }
}
"""

_CONNECT = """
import socket, sys
source, to, port = sys.argv[1:]
socket.create_connection((to, int(port)), timeout=1, source_address=(source, 0)).close()
"""


class Firewall:
    """A namespace with RULES. Needs root, as nftables does."""

    def __init__(self, folder: Path) -> None:
        # The port is not listened on: being ours alone, it makes names that are ours alone.
        number = free_port() - FIRST
        self.netns, self._beside = f"rmdfw{number}", f"rmdfw{number}b"
        self._link, self._folder = f"fw{number}", folder
        self._ip, self._nft = program("ip", package="iproute2"), program("nft", package="nftables")

    def __enter__(self) -> Self:
        self.make()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def make(self) -> None:
        """Make the namespace, empty but for its rules."""
        _run([self._ip, "netns", "add", self.netns])
        self.load(RULES)

    def remove(self) -> None:
        """Remove the namespaces, and what is in them."""
        for netns in (self.netns, self._beside):
            subprocess.run([self._ip, "netns", "delete", netns], capture_output=True, check=False)

    def inside(self, *argv: str) -> list[str]:
        """The argv of a program in the namespace."""
        return [self._ip, "netns", "exec", self.netns, *argv]

    def beside(self, *argv: str) -> list[str]:
        """The argv of a program in the other namespace, which `join` makes."""
        return [self._ip, "netns", "exec", self._beside, *argv]

    def load(self, rules: str) -> None:
        """Have nft carry out a file of rules, as an administrator does."""
        _run(self.inside(self._nft, "-f", "-"), rules)

    def look(self) -> list[Any]:
        """What an administrator sees: all of it, but for what moves by itself."""
        told = json.loads(_run(self.inside(self._nft, "-j", "list", "ruleset")))["nftables"]
        return [_still(one) for one in told]

    def elements(self, name: str = "blocked") -> list[Any]:
        """The addresses in a set of the guard."""
        told = json.loads(_run(self.inside(self._nft, "-j", "list", "set", "inet", "guard", name)))
        rows = next(one["set"] for one in told["nftables"] if "set" in one).get("elem", [])
        return [row["elem"]["val"] if isinstance(row, dict) and "elem" in row else row for row in rows]

    def join(self) -> None:
        """Make the other namespace, with two addresses from which the first can be reached."""
        ip = self._ip
        _run([ip, "netns", "add", self._beside])
        for argv in (
            [
                ip,
                "link",
                "add",
                self._link,
                "netns",
                self.netns,
                "type",
                "veth",
                "peer",
                "name",
                "eth0",
                "netns",
                self._beside,
            ],
            self.inside(ip, "addr", "add", f"{GUARDED}/24", "dev", self._link),
            self.inside(ip, "link", "set", self._link, "up"),
            self.beside(ip, "addr", "add", f"{SENDER}/24", "dev", "eth0"),
            self.beside(ip, "addr", "add", f"{NEIGHBOUR}/24", "dev", "eth0"),
            self.beside(ip, "link", "set", "eth0", "up"),
        ):
            _run(argv)

    def reaches(self, source: str, port: int) -> bool:
        """Whether the other namespace, from one of its addresses, reaches a port of the first."""
        argv = self.beside(sys.executable, "-c", _CONNECT, source, GUARDED, str(port))
        done = subprocess.run(argv, capture_output=True, check=False, timeout=20)
        return done.returncode == 0

    def serving(self, port: int) -> Server:
        """A web server in the namespace; a context manager."""
        busybox = program("busybox", package="busybox-static")
        return Server(
            self.inside(busybox, "httpd", "-f", "-p", str(port), "-h", str(self._folder)),
            name="httpd",
            folder=self._folder,
            ready=lambda: self.reaches(NEIGHBOUR, port),
        )


def _still(value: Any) -> Any:
    if isinstance(value, dict):
        moving = ("expires", "packets", "bytes")
        return {key: _still(inner) for key, inner in value.items() if key not in moving}
    return [_still(inner) for inner in value] if isinstance(value, list) else value


def _run(argv: Sequence[str], given: str = "") -> str:
    done = subprocess.run(argv, input=given, capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr}"
    return done.stdout
