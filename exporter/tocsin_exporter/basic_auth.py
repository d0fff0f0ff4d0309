"""Names and passwords of HTTP's basic authentication, hashed with bcrypt as exporter-toolkit's are.

A comparison takes 70 ms and more of a core. It is made on a thread, one at a time, those of each
address by turns; what was found out is remembered under a key that no password can be read from.
"""

import asyncio
import base64
import binascii
import hmac
import logging
import re
import secrets
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from enum import Enum
from functools import partial

from tocsin_exporter.threads import in_thread

log = logging.getLogger(__name__)

HASH = re.compile(r"\$2[abxy]\$(0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{53}")
MOST_COST = 18  # 20 s of a core
_FAKE = "$2b${}$3euPcmQFCiblsZeEu5s7p.9OVHgeHWFDk9nhMqZ0m/3pd/lhwZgES"  # nobody's
_BURST, _REFILL_SECONDS = 20, 1.0  # wrong credentials of an address, and when it may try one more
_MOST_ADDRESSES = 10_000
_MOST_REMEMBERED = 1000
_MOST_WAITING, _MOST_OF_ADDRESS = 64, 4  # comparisons
_BCRYPT_BYTES = 72  # of a password; the rest never counted


class Verdict(Enum):
    RIGHT = "right"
    WRONG = "wrong"
    TOO_MANY = "too many"  # nobody looked


class FailureLimit:
    """How often an address may be wrong: `_BURST` times, and once more each `_REFILL_SECONDS`.

    The addresses that were wrong last are remembered."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._full_at: OrderedDict[str, float] = OrderedDict()  # when all of it is there again

    def spent(self, address: str) -> bool:
        """Whether one more that is wrong would be one too many."""
        now = self._monotonic()
        return self._full_at.get(address, now) - now > (_BURST - 1) * _REFILL_SECONDS

    def exceeded(self, address: str) -> bool:
        """Counts one that was wrong, and says whether those were too many."""
        exceeded, now = self.spent(address), self._monotonic()
        full_at = max(self._full_at.pop(address, now), now)
        self._full_at[address] = full_at if exceeded else full_at + _REFILL_SECONDS
        if len(self._full_at) > _MOST_ADDRESSES:
            self._full_at.popitem(last=False)
        return exceeded


class PasswordCheck:
    """Whether a password is that of a user. `users` are hashes by name, as they are now."""

    def __init__(
        self,
        users: Callable[[], Mapping[str, str]],
        monotonic: Callable[[], float],
        thread: Executor,
    ) -> None:
        self.users = users
        self._failures = FailureLimit(monotonic)
        self._comparisons = _Comparisons(thread)
        self._key = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, None] = OrderedDict()
        self._wrong: OrderedDict[bytes, None] = OrderedDict()

    async def verify(self, user: str, password: bytes, address: str) -> Verdict:
        """Whoever was right once is let in without a look; who was wrong is told so again. Others
        wait for their turn, if their address has not been wrong too often."""
        users = self.users()
        known = users.get(user)
        hashed = known or _fake(users)
        key = self._remembered_as(user, hashed, password)
        if _recall(self._right, key):
            return Verdict.RIGHT
        if _recall(self._wrong, key):
            return Verdict.WRONG
        if self._failures.spent(address):
            return Verdict.TOO_MANY
        matches = await self._comparisons.compare(key, address, password, hashed)
        if matches is None:
            return Verdict.TOO_MANY
        if matches and known is not None:
            _remember(self._right, key)
            return Verdict.RIGHT
        _remember(self._wrong, key)
        if not self._failures.exceeded(address):
            log.warning("wrong password refused", extra={"client": address})
        return Verdict.WRONG

    def _remembered_as(self, user: str, hashed: str, password: bytes) -> bytes:
        parts = (user.encode("utf-8", "surrogateescape"), hashed.encode("ascii"), password)
        text = b"".join(len(part).to_bytes(4) + part for part in parts)
        return hmac.digest(self._key, text, "sha256")


class _Comparisons:
    """At most `_MOST_WAITING` at a time, and `_MOST_OF_ADDRESS` of one address."""

    def __init__(self, thread: Executor) -> None:
        self._thread = thread
        self._running: dict[bytes, asyncio.Future[bool]] = {}
        self._lines: dict[str, deque[tuple[bytes, bytes, str]]] = {}
        self._serving: asyncio.Task[None] | None = None

    async def compare(self, key: bytes, address: str, password: bytes, hashed: str) -> bool | None:
        """None where too many wait already. Who asks the same waits for the same answer."""
        answer = self._running.get(key)
        if answer is None:
            line = self._lines.get(address, ())
            if len(line) >= _MOST_OF_ADDRESS or len(self._running) >= _MOST_WAITING:
                return None
            answer = self._running[key] = asyncio.get_running_loop().create_future()
            self._lines.setdefault(address, deque()).append((key, password, hashed))
            if self._serving is None:
                self._serving = asyncio.get_running_loop().create_task(self._serve())
        return await asyncio.shield(answer)

    async def _serve(self) -> None:
        while self._lines:
            address = next(iter(self._lines))
            line = self._lines.pop(address)
            key, password, hashed = line.popleft()
            if line:
                self._lines[address] = line  # behind the others
            matches = await in_thread(partial(_matches, password, hashed), self._thread)
            self._running.pop(key).set_result(matches)
        self._serving = None


def _matches(password: bytes, hashed: str) -> bool:
    try:
        import bcrypt  # where there are users

        return bcrypt.checkpw(password[:_BCRYPT_BYTES], hashed.encode("ascii"))
    except ValueError:
        return False


def _fake(users: Mapping[str, str]) -> str:
    """Takes as long as one of theirs, so that no time says which names there are."""
    first = next(iter(users.values()), "")
    return _FAKE.format(cost(first) if first else "10")


def cost(hashed: str) -> str:
    """The two digits of a hash that say how long a comparison takes."""
    return hashed[4:6]


def _recall(memory: OrderedDict[bytes, None], key: bytes) -> bool:
    if key not in memory:
        return False
    memory.move_to_end(key)
    return True


def _remember(memory: OrderedDict[bytes, None], key: bytes) -> None:
    memory[key] = None
    if len(memory) > _MOST_REMEMBERED:
        memory.popitem(last=False)


def basic_credentials(authorization: str) -> tuple[str, bytes] | None:
    """User and password of an Authorization header; None where it holds none."""
    scheme, _, given = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        decoded = base64.b64decode(given, validate=True)
    except (binascii.Error, ValueError):
        return None
    user, colon, password = decoded.partition(b":")
    return (user.decode("utf-8", "surrogateescape"), password) if colon else None
