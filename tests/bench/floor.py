"""The floor: validate the payload with pydantic, insert its raw body, share one synchronous=FULL commit.

    python -m tests.bench.floor PORT DATABASE

It does what nobody could leave out and still answer 200 durably: no matching, no dedupe, no journal.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from queue import SimpleQueue
from threading import Thread

import uvloop
from aiohttp import web

from remediator.pipeline.payload import parse

Waiting = tuple[bytes, "asyncio.Future[None]"]


class Writer(Thread):
    """One thread that takes all bodies that wait and commits them together."""

    def __init__(self, path: str, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(daemon=True)
        self.queue: SimpleQueue[Waiting] = SimpleQueue()
        self._path, self._loop = path, loop

    def run(self) -> None:
        """Commit group after group."""
        database = sqlite3.connect(self._path, isolation_level=None)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.execute("CREATE TABLE IF NOT EXISTS deliveries (id INTEGER PRIMARY KEY, body BLOB)")
        while True:
            group = [self.queue.get()]
            while not self.queue.empty():
                group.append(self.queue.get())
            database.execute("BEGIN IMMEDIATE")
            database.executemany("INSERT INTO deliveries (body) VALUES (?)", [(body,) for body, _ in group])
            database.execute("COMMIT")
            self._loop.call_soon_threadsafe(_answer, [future for _, future in group])


def _answer(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


async def main(port: int, path: str) -> None:
    """Serve until killed."""
    loop = asyncio.get_running_loop()
    writer = Writer(path, loop)
    writer.start()

    async def receive(request: web.Request) -> web.Response:
        body = await request.read()
        parse(body)
        future: asyncio.Future[None] = loop.create_future()
        writer.queue.put((body, future))
        await future
        return web.Response()

    async def ready(request: web.Request) -> web.Response:
        return web.Response()

    app = web.Application(client_max_size=8 * 1024 * 1024)
    app.router.add_post("/api/v1/alertmanager", receive)
    app.router.add_get("/-/ready", ready)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2]))
