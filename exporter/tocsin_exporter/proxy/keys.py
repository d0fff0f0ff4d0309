"""Who may use the proxy: keys of clients by name, of which none is kept as it is written."""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tocsin_exporter.basic_auth import HASH, PasswordCheck, Verdict
from tocsin_exporter.proxy.exchange import Refusal

ANYBODY = "-"  # the client's name where no keys are set
_SHA256 = re.compile(r"sha256:([0-9a-f]{64})")
_WHAT = "give a key: Authorization: Bearer KEY"


@dataclass(frozen=True, slots=True)
class ClientKeys:
    """`digests` are names by SHA-256, `hashed` bcrypt hashes by name."""

    digests: Mapping[str, str] = field(default_factory=dict, repr=False)
    hashed: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __bool__(self) -> bool:
        return bool(self.digests or self.hashed)


def client_keys(keys: Mapping[str, str]) -> ClientKeys:
    """`keys` by name: `sha256:` and 64 hex digits, a bcrypt hash, or the key itself."""
    digests: dict[str, str] = {}
    hashed: dict[str, str] = {}
    for name, key in keys.items():
        if found := _SHA256.fullmatch(key):
            digests[found[1]] = name
        elif HASH.fullmatch(key):
            hashed[name] = key
        else:
            digests[_digest(key.encode())] = name
    return ClientKeys(digests, hashed)


def is_hashed(key: str) -> bool:
    """Whether who reads the file has no key by it."""
    return bool(_SHA256.fullmatch(key) or HASH.fullmatch(key))


class KeyCheck:
    """Whose key a request has. A comparison with bcrypt is made on a thread, once for each key."""

    def __init__(self, keys: Callable[[], ClientKeys], passwords: PasswordCheck) -> None:
        self.keys, self._passwords = keys, passwords

    async def client(self, authorization: str, address: str) -> str:
        """The name of the key's owner. Raises Refusal."""
        keys = self.keys()
        if not keys:
            return ANYBODY
        scheme, _, key = authorization.partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise _refused(_WHAT)
        given = key.strip().encode("latin-1")
        if name := keys.digests.get(_digest(given)):
            return name
        for name in keys.hashed:
            verdict = await self._passwords.verify(name, given, address)
            if verdict is Verdict.RIGHT:
                return name
            if verdict is Verdict.TOO_MANY:
                raise Refusal(429, "rate_limit_exceeded", "too many wrong keys, try again later")
        raise _refused("no client has this key")


def _refused(words: str) -> Refusal:
    return Refusal(401, "invalid_api_key", words, ((b"WWW-Authenticate", b"Bearer"),))


def _digest(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()
