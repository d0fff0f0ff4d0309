"""What exporter-toolkit's web configuration says, while we serve: it is read again when its files
change, and one that is wrong then leaves what held before.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tocsin_exporter.allowed_hosts import HEALTH
from tocsin_exporter.basic_auth import PasswordCheck, Verdict, basic_credentials
from tocsin_exporter.connections import Connections, counted_address
from tocsin_exporter.http_server import HttpProtocol, by_unix_socket
from tocsin_exporter.live_file import LOOK_SECONDS, stamps
from tocsin_exporter.threads import Threads, in_thread
from tocsin_exporter.tls import ServerTls
from tocsin_exporter.tls_connection import Handshakes, TlsConnection

log = logging.getLogger(__name__)

CHALLENGE = {"www-authenticate": "Basic", "x-content-type-options": "nosniff"}
TOO_MANY = {"retry-after": "1"}
_NEEDS_RESTART = "to turn TLS on or off takes a restart; until then nothing of the file holds"


@dataclass(frozen=True, slots=True)
class WebConfig:
    """`users` are hashes by name. `rate` is the interval in seconds and the burst of requests.
    `files` are those that were read, and `notes` what is not as it is written."""

    tls: ServerTls | None = None
    users: Mapping[str, str] = field(default_factory=dict, repr=False)
    headers: tuple[tuple[bytes, bytes], ...] = ()
    rate: tuple[float, int] | None = None
    files: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def guarded(self) -> bool:
        """Whether somebody who connects has to prove who he is."""
        return bool(self.users) or self.tls is not None and self.tls.verifies


class LiveWebConfig:
    """`current` is what holds. `load` reads the files, and raises ValueError or OSError."""

    def __init__(
        self, load: Callable[[], WebConfig] = WebConfig, thread: Executor | None = None
    ) -> None:
        self.current = load()
        self._load, self._thread = load, thread
        self._stamps = stamps(self.current.files)
        self._trouble = ""

    @property
    def tls(self) -> ServerTls | None:
        return self.current.tls

    def server_tls(self) -> ServerTls:
        """That of a server that has it."""
        assert self.current.tls is not None
        return self.current.tls

    def users(self) -> Mapping[str, str]:
        return self.current.users

    async def follow(self) -> None:
        """Look each second, for ever."""
        while self.current.files:
            await asyncio.sleep(LOOK_SECONDS)
            await in_thread(self.look, self._thread)

    def look(self) -> None:
        """Read the files again if they have changed, or could not be read. May wait for the disk;
        raises nothing."""
        found = stamps(self.current.files)
        if found == self._stamps and not self._trouble:
            return
        self._stamps = found
        try:
            config = self._load()
            if (config.tls is None) != (self.current.tls is None):
                raise ValueError(_NEEDS_RESTART)
        except (OSError, ValueError) as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                log.error("failed to read the web configuration; the old one holds: %s", error)
            return
        self._stamps = stamps(config.files)
        self.current, self._trouble = config, ""
        log.info("web configuration read again", extra={"file": str(config.files[0])})


def live_web_config(load: Callable[[], WebConfig]) -> LiveWebConfig:
    """The web configuration while we serve. Raises what `load` raises."""
    live = LiveWebConfig(load, Threads(1, "web config"))
    for note in live.current.notes:
        log.warning("%s", note)
    return live


def front(live: LiveWebConfig, connections: Connections) -> Callable[..., Any] | None:
    """What begins each connection to a server with TLS, for its ServerConfig; None without."""
    if live.tls is None:
        return None
    handshakes = Handshakes(Threads(1, "tls").begin())

    def connection(**of_uvicorn: Any) -> TlsConnection:
        return TlsConnection(HttpProtocol(**of_uvicorn), live.server_tls, handshakes, connections)

    return connection


class WebConfigured:
    """An app with the headers and the rate limit of a web configuration, and for a server that
    knows no other credentials, with its users (`auth`). Health is for all."""

    def __init__(
        self,
        app: ASGIApp,
        live: LiveWebConfig,
        monotonic: Callable[[], float],
        auth: PasswordCheck | None = None,
    ) -> None:
        self._app, self._live, self._auth = app, live, auth
        self._bucket = _TokenBucket(monotonic)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        config, app = self._live.current, self._app
        if scope["type"] == "http" and scope["path"] not in HEALTH and not by_unix_socket(scope):
            if config.rate is not None and not self._bucket.takes(*config.rate):
                app = PlainTextResponse("Too Many Requests\n", 429, TOO_MANY)
            elif self._auth is not None and config.users:
                app = await _refused(self._auth, Request(scope)) or app
        await app(scope, receive, _with_headers(send, config.headers) if config.headers else send)


async def _refused(auth: PasswordCheck, request: Request) -> ASGIApp | None:
    given = basic_credentials(request.headers.get("authorization", ""))
    verdict = Verdict.WRONG
    if given is not None:
        verdict = await auth.verify(*given, counted_address(request.client))
    if verdict is Verdict.TOO_MANY:
        return PlainTextResponse("Too Many Requests\n", 429, TOO_MANY)
    return PlainTextResponse("Unauthorized\n", 401, CHALLENGE) if verdict is Verdict.WRONG else None


def _with_headers(send: Send, headers: tuple[tuple[bytes, bytes], ...]) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = {name.lower() for name, _ in headers}
            kept = [pair for pair in message.get("headers", ()) if pair[0].lower() not in own]
            message = {**message, "headers": [*kept, *headers]}
        await send(message)

    return sending


class _TokenBucket:
    """As golang.org/x/time/rate: one each interval, as many at once as the burst."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._left, self._at = math.inf, monotonic()

    def takes(self, interval: float, burst: int) -> bool:
        now = self._monotonic()
        self._left = min(float(burst), self._left + (now - self._at) / interval)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
