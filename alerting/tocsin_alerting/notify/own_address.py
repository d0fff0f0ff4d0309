"""Where a message must not go: to the agent itself, which would open incidents of its own
messages for ever, and to link-local addresses, where clouds keep the keys of a machine
(169.254.169.254).
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

from tocsin_alerting.http import Lookup
from tocsin_exporter.lookup import Address, Resolve, resolve

OWN_ADDRESS = "this is the agent's own address: it would open incidents of its own messages"
LINK_LOCAL = (
    "a link-local address, where clouds keep the keys of a machine; allow_link_local: true if"
    " the receiver is there"
)
_DEFAULT_PORTS = {"http": 80, "https": 443}


class ForbiddenAddress(OSError):
    """The text says why, without the name that led there."""


@dataclass(frozen=True, slots=True)
class OwnAddresses:
    """`interfaces` gives the addresses that this machine has now, `hostname` its name. The agent
    listens on `host` ("" for all of them) and `port`; 0: nowhere."""

    host: str = ""
    port: int = 0
    hostname: str = ""
    external_url: str = ""
    interfaces: Callable[[], Collection[str]] = frozenset

    def has_name(self, url: str) -> bool:
        """Whether `url` names the agent, as far as that is known without a lookup."""
        parts, own = urlsplit(url), urlsplit(self.external_url)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
        if own.hostname and parts.hostname == own.hostname:
            own_port = own.port or _DEFAULT_PORTS.get(own.scheme)
            if port == own_port and f"{parts.path}/".startswith(f"{own.path.rstrip('/')}/"):
                return True
        if not self.port or port != self.port:
            return False
        names = {"localhost", self.hostname.lower(), self.host.lower()} - {""}
        return parts.hostname in names or self.has(parts.hostname or "")

    def has(self, address: str) -> bool:
        """Whether the agent is reached at this address of an interface, at its port."""
        there, host = _plain(address), _plain(self.host)
        if there is None:
            return False
        if host is not None and not host.is_unspecified:
            return there == host or there.is_unspecified and host.is_loopback
        own = {_plain(one) for one in self.interfaces()}
        return there.is_loopback or there.is_unspecified or there in own


class GuardedLookup(Lookup):
    """Gives no address that a message must not go to, whatever name has it."""

    def __init__(
        self,
        owner: str,
        own: OwnAddresses,
        port: int,
        *,
        allow_link_local: bool = False,
        resolve: Resolve = resolve,
    ) -> None:
        super().__init__(owner, resolve)
        self._own, self._port, self._allow_link_local = own, port, allow_link_local

    async def addresses(self, host: str) -> Sequence[Address]:
        """Raises ForbiddenAddress besides what the others raise."""
        found = await super().addresses(host)
        for _, address in found:
            self._check(str(address[0]))
        return found

    def _check(self, address: str) -> None:
        there = _plain(address)
        if there is not None and there.is_link_local and not self._allow_link_local:
            raise ForbiddenAddress(LINK_LOCAL)
        if self._own.port and self._port == self._own.port and self._own.has(address):
            raise ForbiddenAddress(OWN_ADDRESS)


def guarded_lookup(
    owner: str, url: str, own: OwnAddresses, *, allow_link_local: bool = False
) -> GuardedLookup:
    """For a receiver at `url`. Raises ValueError where that can be seen to be forbidden."""
    parts = urlsplit(url)
    there = _plain(parts.hostname or "")
    if there is not None and there.is_link_local and not allow_link_local:
        raise ValueError(f"the URL has {LINK_LOCAL}")
    if own.has_name(url):
        raise ValueError(f"the URL: {OWN_ADDRESS}")
    port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
    return GuardedLookup(owner, own, port, allow_link_local=allow_link_local)


def forbidden(error: BaseException | None) -> str:
    """Why a connection was not made that must not be; "" where it failed otherwise."""
    while error is not None and not isinstance(error, ForbiddenAddress):
        error = error.__cause__ or error.__context__
    return "" if error is None else str(error)


def _plain(address: str) -> IPv4Address | IPv6Address | None:
    try:
        there = ip_address(address.partition("%")[0])
    except ValueError:
        return None
    mapped = there.ipv4_mapped if isinstance(there, IPv6Address) else None
    return mapped or there
