"""A database of one's own and the uses of actions on it, as pytest fixtures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.postgres import PostgresServer
from tests.support.postgres_cases import MAKERS, Case, Make
from tests.support.postgres_home import Home, revive


@pytest.fixture
def postgres_home(postgres_server: PostgresServer, tmp_path: Path) -> Iterator[Home]:
    """A database of its own."""
    with postgres_server.database() as name:
        made = Home.make(postgres_server, name, tmp_path)
        try:
            yield made
        finally:
            revive(postgres_server)
    made.clean()


@pytest.fixture
def make_case(postgres_home: Home) -> Iterator[Make]:
    """Prepare the database for a use of an action, with exactly the rights that it prints."""
    made: list[Case] = []

    def one(kind: str) -> Case:
        case = MAKERS[kind](postgres_home)
        made.append(case)
        postgres_home.grant(case.rights())
        return case

    yield one
    for case in made:
        case.keep.close()
