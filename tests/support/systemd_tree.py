"""A Debian with systemd, D-Bus and polkit, as a tar of files."""

from pathlib import Path

from tests.support.debian_tree import debian_tree

INCLUDE = ("systemd", "systemd-sysv", "dbus", "libpam-systemd", "polkitd")
VERSION = 1
"""Counted up when what is done to the tree below changes."""


def systemd_tree() -> Path:
    """Return the tar, from the cache if it is there."""
    return debian_tree("systemd", INCLUDE, version=VERSION, change=_forget_machine)


def _forget_machine(tree: Path) -> None:
    """Take away who this machine is: each container makes that up for itself."""
    (tree / "etc/machine-id").write_text("")
    (tree / "var/lib/dbus/machine-id").unlink(missing_ok=True)
