"""Who asks: by the Unix socket the user, over TCP the bearer of a token, else whoever is local.

Without credentials this machine may do everything over TCP, and no other may do more than scrape.
Where there are some, loopback needs them too: a proxy on it speaks for strangers, and it may have
other users. `web.token_file` alone guards changes there, and leaves reads to this machine.
Users and certificates of the web configuration are credentials beside tokens.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from tocsin_alerting.api.http.roles import Principal, Role
from tocsin_alerting.api.http.tokens import digest
from tocsin_alerting.api.http.web_login import WebLogin
from tocsin_exporter.allowed_hosts import HEALTH
from tocsin_exporter.basic_auth import FailureLimit
from tocsin_exporter.connections import counted_address
from tocsin_exporter.http_server import by_unix_socket
from tocsin_exporter.local_client import is_from_this_machine
from tocsin_exporter.threads import in_thread

log = logging.getLogger(__name__)

FRESH_SECONDS = 0.1  # for so long the files are taken to be as they were read
WAIT_SECONDS = 1.0  # for a disk; then what was read last holds
_MOST_USERS = 1000
_CLOSED = (
    "without credentials only /metrics and /-/healthy are for other machines; add a token"
    " (alertctl token add), or open reads on purpose with --web.open; changes need a token"
)
_MISSING = (
    "wrong or missing token; send Authorization: Bearer TOKEN"
    " (on the agent's machine alertctl needs none, without --url)"
)
_TOO_MANY = "too many wrong tokens from this address; try again later"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the files say: by the digest of a token its bearer. `strict` where loopback needs one
    for reads as well; `configured` without any bearer: nobody is let in by a token."""

    bearers: Mapping[str, Principal] = field(default_factory=dict, repr=False)
    configured: bool = False
    strict: bool = False


class Access:
    """Finds out who asks.

    `load` reads the credentials, in the thread `files`, and raises nothing. `open_reads`: other
    machines may read without any. `user_name` names the user of a process on this machine by its
    id, in the thread `names`, where it may wait; `own_uid` is the agent's user. `monotonic` gives
    seconds. `known_otherwise` gives the bearer of a token, by its digest, that no file has;
    `login` is that of the web configuration.
    """

    def __init__(
        self,
        load: Callable[[], Credentials],
        monotonic: Callable[[], float],
        user_name: Callable[[int], str],
        own_uid: int,
        open_reads: bool = False,
        files: Executor | None = None,
        names: Executor | None = None,
        known_otherwise: Callable[[str], Principal | None] = lambda _: None,
        login: WebLogin | None = None,
    ) -> None:
        self._load, self._monotonic, self._files, self._names = load, monotonic, files, names
        self._user_name, self._own_uid, self._open_reads = user_name, own_uid, open_reads
        self._known_otherwise = known_otherwise
        self._failures, self._login = FailureLimit(monotonic), login
        self._read_at = -math.inf
        self._reading: asyncio.Future[Credentials] | None = None
        self._last: Credentials | None = None
        self._users: dict[int, Principal] = {}

    async def identify(self, request: Request) -> Principal:
        """Who asks, with the role that this gives."""
        if by_unix_socket(request.scope):
            return await self._socket_user(request.scope.get("peer_uid"))
        credentials, login = await self._credentials(), self._login
        token = bearer_token(request)
        if token is not None:
            sha256 = digest(token)
            known = credentials.bearers.get(sha256) or self._known_otherwise(sha256)
            if known is not None:
                return known
        if login is not None and login.guarded:
            if (shown := await login.principal(request)) is not None:
                return shown
            credentials = replace(credentials, configured=True, strict=True)
        anonymous = self._anonymous(request, credentials)
        if token is None or not credentials.configured:
            return anonymous
        address = counted_address(request.client)
        if self._failures.exceeded(address):
            refusal = ("too_many_requests", _TOO_MANY)
            return Principal("", self._floor, refusal=refusal)
        log.warning("wrong token refused", extra={"client": address})
        return self._unproven(self._floor)

    @property
    def _floor(self) -> Role:
        """What is for everybody."""
        return Role.METRICS if self._login is None else self._login.floor

    def _unproven(self, role: Role) -> Principal:
        """Somebody who has to show what is right for more than `role`."""
        if self._login is not None and self._login.has_users:
            return replace(self._login.stranger(), role=role)
        return Principal("", role, refusal=("unauthorized", _MISSING))

    def _anonymous(self, request: Request, credentials: Credentials) -> Principal:
        local = is_from_this_machine(request)
        if local and not credentials.configured:
            return Principal("", Role.ADMIN)
        reads = self._open_reads or (local and not credentials.strict)
        role = Role.READ if reads else self._floor
        if credentials.configured:
            return self._unproven(role)
        return Principal("", role, refusal=("forbidden", _CLOSED))

    async def _socket_user(self, uid: int | None) -> Principal:
        """Root and the agent's user may do everything; who else may open the socket, respond."""
        if uid is None:
            return Principal("", Role.RESPOND)
        role = Role.ADMIN if uid in (0, self._own_uid) else Role.RESPOND
        if uid not in self._users:
            naming = asyncio.ensure_future(in_thread(lambda: self._user_name(uid), self._names))
            await asyncio.wait([naming], timeout=WAIT_SECONDS)
            if not naming.done():  # a directory of users that does not answer keeps nobody waiting
                return Principal(f"user {uid}", role, proven=True)
            if len(self._users) >= _MOST_USERS:
                self._users.clear()
            self._users[uid] = Principal(naming.result(), role, proven=True)
        return self._users[uid]

    async def _credentials(self) -> Credentials:
        """As the files are; as they were where the disk does not answer. Nobody is let in before
        they were read once."""
        now = self._monotonic()
        if self._reading is None and now - self._read_at >= FRESH_SECONDS:
            self._read_at = now
            self._reading = asyncio.ensure_future(in_thread(self._load, self._files))
            self._reading.add_done_callback(self._read)
        left = self._read_at + WAIT_SECONDS - now
        if self._reading is not None and left > 0:
            await asyncio.wait([self._reading], timeout=left)
        return self._last or Credentials(configured=True, strict=True)

    def _read(self, reading: asyncio.Future[Credentials]) -> None:
        self._reading = None
        if not reading.cancelled() and reading.exception() is None:
            self._last = reading.result()


class AccessCheck:
    """An app whose requests know who asks: `scope["user"]` is a Principal. Health is answered
    without asking."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in HEALTH:
            scope["user"] = await self._access.identify(Request(scope))
        await self._app(scope, receive, send)


def bearer_token(request: Request) -> str | None:
    """The token that the request carries; None without any."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    return given.strip() if scheme.lower() == "bearer" else None
