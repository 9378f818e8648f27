"""The moto server as pytest fixtures, for the tests that name this module as a plugin."""

from collections.abc import Iterator

import pytest

from tests.support.moto import MotoServer


@pytest.fixture(scope="session")
def moto_server_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MotoServer]:
    """The worker's moto server. Tests make buckets of their own."""
    with MotoServer(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture
def moto_server(moto_server_once: MotoServer) -> MotoServer:
    """A running moto server."""
    moto_server_once.start()
    return moto_server_once
