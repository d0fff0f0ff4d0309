"""Real engines take long to start, so a story takes the one that the last story left serving."""

import socket
from collections.abc import Callable, Iterator

import pytest

from support.real_engine import RealEngine
from tocsin_alerting.local.discovery import USUAL_PORTS

pytest.register_assert_rewrite("engines.watching")


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], RealEngine]]:
    """The serving engine of a kind, on a port on which an agent looks without being told."""
    engines: dict[str, RealEngine] = {}
    folder = tmp_path_factory.mktemp("engines")

    def serving(kind: str) -> RealEngine:
        engine = engines.get(kind)
        if engine is None or engine.status("/health") != 200:
            if engine is not None:
                engine.kill()
            engine = engines[kind] = RealEngine(kind, folder, port=usual_port())
            engine.__enter__()
        return engine

    yield serving
    for engine in engines.values():
        engine.kill()


def usual_port() -> int:
    """One on which nobody listens."""
    for port in USUAL_PORTS:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
    pytest.skip("every usual port of an engine is taken here")
