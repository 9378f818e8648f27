"""One thread that writes, and lets everything that waits share one commit."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    NotSupportedError,
    ProgrammingError,
)

from remediator.adapters.ledger.transaction import Head, Transaction, read_head
from remediator.errors import LedgerError, LedgerUnavailable

A = TypeVar("A")
T = TypeVar("T")

WAITING = 10_000
"""Units that may wait. More would be answered later than their sender waits for them."""

PATIENCE = 8.0
"""Seconds that the oldest unit may wait: Alertmanager's deadline is 10 s at the least."""

TOGETHER = 1_024
"""Weight of one commit (units, or alerts where they come in crowds), so that the first does not wait for all."""

_OWN_FAULT = (IntegrityError, DataError, ProgrammingError, InterfaceError, NotSupportedError)
"""What a statement can do wrong by itself. Every other error of the driver concerns the whole database."""


@dataclass(slots=True)
class Unit:
    """Something to write, and who waits for it. A `batch` work takes the arguments of many units at once."""

    work: Callable[..., Any]
    argument: Any
    batch: bool
    future: asyncio.Future[Any]
    since: float
    weight: int


@dataclass(frozen=True, slots=True)
class Stats:
    """How the writer is doing: figures for metrics. `oldest` is in seconds."""

    commits: int
    units: int
    waiting: int
    oldest: float


Answer = tuple[Unit, Any, BaseException | None]


class Writer:
    """Group commit: while one commit is on its way to the disk, the units that come wait and share the next.

    Each unit runs in a savepoint, so that one that raises takes nothing of the others with it. A commit that
    fails, fails all of them.
    """

    def __init__(
        self, engine: Engine, *, waiting: int = WAITING, patience: float = PATIENCE, reopen: bool = True
    ) -> None:
        """`reopen` connects anew after a failure; a database in memory would be lost by it."""
        self._engine = engine
        self._connection: Connection | None = None
        self._head: Head | None = None
        self._snapshots: set[str] = set()
        self._queue: SimpleQueue[Unit | None] = SimpleQueue()
        self._limit, self._patience, self._reopen = waiting, patience, reopen
        self._oldest: float | None = None
        self._commits = self._units = 0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[Transaction], T]) -> asyncio.Future[T]:
        """Run `work` in a transaction; what it returns is the answer once that is committed.

        Raises:
            LedgerUnavailable: at once, when too many wait or the oldest has waited too long.
        """
        return self._enqueue(work, None, batch=False, weight=1)

    def submit_batch(
        self, work: Callable[[Transaction, Sequence[A]], Sequence[T]], argument: A, weight: int = 1
    ) -> asyncio.Future[T]:
        """The same for a work that takes the arguments of all units that wait, and answers each in order."""
        return self._enqueue(work, argument, batch=True, weight=weight)

    @property
    def stats(self) -> Stats:
        """The figures now."""
        oldest = self._oldest
        waited = 0.0 if oldest is None else monotonic() - oldest
        return Stats(self._commits, self._units, self._queue.qsize(), waited)

    def close(self) -> None:
        """Finish what waits, and stop. Blocks until the last commit is done."""
        self._closed = True
        self._queue.put(None)
        self._thread.join()

    def _enqueue(
        self, work: Callable[..., Any], argument: Any, *, batch: bool, weight: int
    ) -> asyncio.Future[Any]:
        now = monotonic()
        if self._closed:
            raise LedgerUnavailable("the ledger is closed")
        if self._queue.qsize() >= self._limit:
            raise LedgerUnavailable(f"{self._limit} writes are waiting already")
        oldest = self._oldest
        if oldest is not None and now - oldest > self._patience:
            raise LedgerUnavailable(f"the ledger has not finished a write for {now - oldest:.1f} s")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._queue.put(Unit(work, argument, batch, future, now, weight))
        return future

    def _run(self) -> None:
        open_ = True
        while open_:
            first = self._queue.get()
            if first is None:
                break
            group, weight = [first], first.weight
            try:
                while weight < TOGETHER:
                    following = self._queue.get_nowait()
                    if following is None:
                        open_ = False
                        break
                    group.append(following)
                    weight += following.weight
            except Empty:
                pass
            self._oldest = first.since
            _answer(self._commit(group))
            self._oldest = None
        self._disconnect()

    def _commit(self, group: list[Unit]) -> list[Answer]:
        try:
            return self._transact(_jobs(group))
        except _ApartError:
            apart = [[unit] for unit in group]
        # The thread must outlive whatever goes wrong, and nobody may be left waiting: every error is an answer.
        except BaseException as error:  # noqa: BLE001
            return [(unit, None, self._failed(error)) for unit in group]
        try:
            return self._transact(apart, savepoints=True)
        except BaseException as error:  # noqa: BLE001
            return [(unit, None, self._failed(error)) for unit in group]

    def _transact(self, jobs: list[list[Unit]], *, savepoints: bool | None = None) -> list[Answer]:
        connection = self._connect()
        if self._head is None:
            with connection.begin():
                self._head = read_head(connection)
        answers: list[Answer] = []
        with connection.begin():
            transaction = Transaction(connection, self._head, self._snapshots)
            for job in jobs:
                if savepoints or (savepoints is None and len(jobs) > 1):
                    answers += _in_savepoint(transaction, job)
                else:
                    answers += _alone(transaction, job)
            transaction.flush()
        self._head = transaction.head
        self._commits += 1
        self._units += len(answers)
        transaction.done()
        return answers

    def _connect(self) -> Connection:
        if self._connection is None:
            self._connection = self._engine.connect()
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _failed(self, error: BaseException) -> BaseException:
        """What is told of a failure of a whole group; what is known of the database is read afresh after it."""
        if isinstance(error, _AloneError):
            return error.cause
        self._head = None
        self._snapshots.clear()
        if self._reopen and self._connection is not None:
            self._connection.invalidate()
            self._disconnect()
        if isinstance(error, DBAPIError):
            return LedgerUnavailable(f"the ledger cannot be written: {error.orig}")
        return error


class _ApartError(Exception):
    """A batch failed as a whole: its units have to be tried one by one."""


class _AloneError(Exception):
    """The only unit of a transaction raised `cause`."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__()
        self.cause = cause


def _jobs(group: list[Unit]) -> list[list[Unit]]:
    """The units of each batch work together, the others apart, in the order of their arrival."""
    jobs: dict[Any, list[Unit]] = {}
    for unit in group:
        if unit.batch:
            jobs.setdefault(unit.work, []).append(unit)
        else:
            jobs[id(unit)] = [unit]
    return list(jobs.values())


def _perform(transaction: Transaction, job: list[Unit]) -> list[Answer]:
    first = job[0]
    if not first.batch:
        return [(first, first.work(transaction), None)]
    results = first.work(transaction, [unit.argument for unit in job])
    return [(unit, result, None) for unit, result in zip(job, results, strict=True)]


def _alone(transaction: Transaction, job: list[Unit]) -> list[Answer]:
    try:
        return _perform(transaction, job)
    except Exception as error:
        if _concerns_all(error):
            raise
        if len(job) > 1:
            raise _ApartError from error
        raise _AloneError(_own(error)) from error


def _in_savepoint(transaction: Transaction, job: list[Unit]) -> list[Answer]:
    mark = transaction.mark()
    savepoint = transaction.connection.begin_nested()
    try:
        answers = _perform(transaction, job)
        savepoint.commit()
        return answers
    # Whatever a unit raises is its own caller's to see; the others go on.
    except Exception as error:
        if _concerns_all(error):
            raise
        savepoint.rollback()
        transaction.back_to(mark)
        if len(job) == 1:
            return [(job[0], None, _own(error))]
        return [answer for unit in job for answer in _in_savepoint(transaction, [unit])]


def _concerns_all(error: Exception) -> bool:
    return isinstance(error, DBAPIError) and not isinstance(error, _OWN_FAULT)


def _own(error: Exception) -> Exception:
    if isinstance(error, DBAPIError):
        return LedgerError(f"the ledger refused a write: {error.orig}")
    return error


def _answer(answers: list[Answer]) -> None:
    """Wake all who wait with one call into each event loop: there is one, but for tests."""
    for loop, theirs in groupby(answers, key=_loop_of):
        try:
            loop.call_soon_threadsafe(_resolve, list(theirs))
        except RuntimeError:
            # The loop is closed: nobody is left to be told. What was committed stays.
            continue


def _loop_of(answer: Answer) -> asyncio.AbstractEventLoop:
    return answer[0].future.get_loop()


def _resolve(answers: list[Answer]) -> None:
    for unit, result, error in answers:
        if unit.future.done():
            continue
        if error is None:
            unit.future.set_result(result)
        else:
            unit.future.set_exception(error)
