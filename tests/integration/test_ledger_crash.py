"""What happens when the process, the disk or another service gets in the way. Real processes, a real disk."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from remediator.adapters.ledger import SqlLedger
from remediator.domain.events import Event
from remediator.errors import LedgerUnavailable
from tests.integration.ledger_kit import NOW, StillClock, alert, post, sighting

ROOT = Path(__file__).parents[2]


def python(script: str, *arguments: object) -> subprocess.Popen[str]:
    """Run a script in a process of its own, with the project importable."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


ACCEPTS = """
    import asyncio, sys
    from remediator.adapters.ledger import SqlLedger
    from tests.integration.ledger_kit import StillClock, alert, post, sighting

    async def main(url, start):
        ledger = SqlLedger.open(url, StillClock())

        async def send(n):
            while True:
                accepted = await ledger.accept(*post(sighting(alert(str(n)), "cache")))
                # Written through to the pipe before the next one: what is printed was answered.
                print(accepted.started[0], flush=True)
                n += 8

        await asyncio.gather(*(send(int(start) + n) for n in range(8)))

    asyncio.run(main(*sys.argv[1:]))
"""


async def test_nothing_that_was_answered_is_lost_by_a_kill(tmp_path: Path) -> None:
    """Kill -9 in the midst of accepting, three times over: all that was answered is there, and the chain holds."""
    url = f"sqlite:///{tmp_path}/ledger.db"
    answered: list[str] = []
    for round_, lines in enumerate((1, 40, 150)):
        with python(ACCEPTS, url, round_ * 1_000_000) as process:
            assert process.stdout is not None
            answered += [process.stdout.readline().strip() for _ in range(lines)]
            os.kill(process.pid, signal.SIGKILL)
            # What was still in the pipe had been answered as well.
            answered += process.stdout.read().split("\n")[:-1]

    ledger = SqlLedger.open(url, StillClock())
    found = {remediation.id for remediation in await ledger.list(limit=100_000)}
    bodies = b"".join(delivery.body for delivery in await ledger.deliveries(limit=100_000))
    assert 191 <= len(answered) == len(set(answered))
    assert set() == set(answered) - found
    for id_ in answered:
        assert alert(id_.split("-")[1]).fingerprint.encode() in bodies
    # Recovery keeps order: the journal is whole, and tells of exactly what is there.
    entries = await ledger.journal(limit=100_000)
    assert found == {entry.remediation for entry in entries if entry.event.kind == "matched"}
    assert list(range(1, len(entries) + 1)) == [entry.seq for entry in entries]
    assert await ledger.verify() is None
    assert () == (await ledger.accept(*post(sighting(alert(answered[0].split("-")[1]), "cache")))).started
    await ledger.close()


FILLS = """
    import asyncio, json, os, resource, sys
    from pathlib import Path
    from remediator.adapters.ledger import SqlLedger
    from remediator.errors import LedgerUnavailable
    from remediator.pipeline.ports import Delivery
    from tests.integration.ledger_kit import NOW, StillClock, alert, delivery, post, sighting

    async def main(path):
        ledger = SqlLedger.open(f"sqlite:///{path}", StillClock())
        whole = resource.getrlimit(resource.RLIMIT_FSIZE)
        await ledger.accept(*post(sighting(alert("before"), "cache")))
        # The kernel refuses to let any file grow beyond this, as a full disk or a quota would.
        resource.setrlimit(resource.RLIMIT_FSIZE, (Path(f"{path}-wal").stat().st_size + 300_000, whole[1]))
        answered, refused, n = ["cache-before-120000"], [], 0
        while len(refused) < 3:
            n += 1
            big = Delivery(os.urandom(20_000), NOW, "big")
            answers = await asyncio.gather(
                ledger.accept(big, (sighting(alert(f"{n}a"), "cache"),)),
                ledger.accept(big, (sighting(alert(f"{n}b"), "cache"),)),
                return_exceptions=True,
            )
            for answer in answers:
                if isinstance(answer, LedgerUnavailable):
                    refused.append(str(answer))
                else:
                    answered += answer.started
        readable = len(await ledger.list(limit=1000))
        resource.setrlimit(resource.RLIMIT_FSIZE, whole)
        retried = await ledger.accept(*post(sighting(alert(f"{n}a"), "cache")))
        found = [remediation.id for remediation in await ledger.list(limit=1000)]
        bad = await ledger.verify()
        await ledger.close()
        print(json.dumps([answered, refused, readable, retried.started, found, bad]))

    asyncio.run(main(sys.argv[1]))
"""


async def test_a_full_disk_is_told_and_overcome(tmp_path: Path) -> None:
    """While there is no room every accept is refused and nothing of it is kept; with room again it goes on."""
    with python(FILLS, tmp_path / "ledger.db") as process:
        assert process.stdout is not None
        told = process.stdout.read()
    assert 0 == process.returncode

    answered, refused, readable, retried, found, bad = json.loads(told)
    assert len(refused) >= 3
    assert all(message.startswith("the ledger cannot be written:") for message in refused)
    assert len(answered) == readable
    assert 1 == len(retried)
    assert sorted(answered + retried) == sorted(found)
    assert bad is None


async def test_two_services_never_share_a_ledger(tmp_path: Path) -> None:
    """A second one is told who has it, the first is not disturbed, and a reader is let in."""
    path = tmp_path / "ledger.db"
    with python(ACCEPTS, f"sqlite:///{path}", 0) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(
            LedgerUnavailable, match=rf"in use by another remediator \(process {process.pid}\)"
        ):
            SqlLedger.open(f"sqlite:///{path}", StillClock())
        reader = SqlLedger.open(f"sqlite:///{path}", StillClock(), read_only=True)
        assert (await reader.list())[0].id.startswith("cache-")
        assert await reader.verify() is None
        await reader.close()
        process.kill()
        process.stdout.read()

    # A killed service leaves its lock file, and no lock.
    ledger = SqlLedger.open(f"sqlite:///{path}", StillClock())
    with pytest.raises(LedgerUnavailable, match=rf"process {os.getpid()}\)"):
        SqlLedger.open(f"sqlite:///{path}", StillClock())
    await ledger.close()
    await SqlLedger.open(f"sqlite:///{path}", StillClock()).close()


async def test_a_reader_writes_nothing(tmp_path: Path) -> None:
    """Opened to be read only, every write is refused, whether or not a service is running."""
    url = f"sqlite:///{tmp_path}/ledger.db"
    ledger = SqlLedger.open(url, StillClock())
    await ledger.accept(*post(sighting(alert(), "cache")))
    await ledger.close()

    reader = SqlLedger.open(url, StillClock(), read_only=True)
    assert 1 == len(await reader.list())
    with pytest.raises(LedgerUnavailable, match="read only"):
        await reader.note(Event("no"), NOW)
    with pytest.raises(LedgerUnavailable, match="read only"):
        await reader.accept(*post(sighting(alert("b"), "cache")))
    await reader.close()
