"""Heads of the journal, written down outside of the ledger: what makes a cut or rewritten tail show.

Whoever can write the database can write a whole new chain. So every now and then the head is added to a file
that is best kept where the service can only append (another host, a log shipper, an append-only mount).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from remediator.errors import LedgerError

_LONGEST = 4096
"""Bytes of a line, and more."""

_LINE = re.compile(r"([1-9][0-9]*) ([0-9a-f]{64}) (\S+)")


class AnchorFile:
    """One anchor a line: number of the entry, its hash, and when it was written down."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, seq: int, hash_: str, at: datetime) -> None:
        """Add an anchor; it is on the disk when this returns. A line that a crash cut off is dropped first.

        Raises:
            OSError: when the file cannot be written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = not self.path.exists()
        with self.path.open("a+b") as file:
            _drop_torn_line(file)
            file.write(f"{seq} {hash_} {at.astimezone(UTC).isoformat()}\n".encode())
            file.flush()
            os.fsync(file.fileno())
        if new:
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def read(self) -> Mapping[int, str]:
        """The anchors by number; none where there is no file yet. A line without an end was never finished.

        Raises:
            LedgerError: when a line is no anchor, or two of one number differ: somebody was at it.
        """
        try:
            text = self.path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return {}
        anchors: dict[int, str] = {}
        for number, line in enumerate(text.split("\n")[:-1], start=1):
            found = _LINE.fullmatch(line)
            if found is None:
                raise LedgerError(f"{self.path}:{number}: this is no anchor: {line[:100]!r}")
            seq, hash_ = int(found[1]), found[2]
            if anchors.setdefault(seq, hash_) != hash_:
                raise LedgerError(f"{self.path}:{number}: entry {seq} has another hash here than above")
        return anchors


def _drop_torn_line(file: BinaryIO) -> None:
    """Cut the file back to the end of its last whole line. Only its end is read: the file only grows."""
    size = file.seek(0, os.SEEK_END)
    start = max(0, size - _LONGEST)
    file.seek(start)
    end = file.read()
    kept = end.rfind(b"\n") + 1
    if kept != len(end):
        file.truncate(start + kept)
