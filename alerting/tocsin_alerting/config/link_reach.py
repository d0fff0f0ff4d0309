"""Whether people can reach what the links in messages point to: the page by which they answer."""

import socket
from collections.abc import Callable, Sequence
from concurrent.futures import TimeoutError as NotInTime
from ipaddress import ip_address
from urllib.parse import urlsplit

from tocsin_alerting.config.config import Config
from tocsin_alerting.config.load import external_url
from tocsin_exporter import listen
from tocsin_exporter.lookup import LACKS, resolve
from tocsin_exporter.threads import Threads

RESOLVER_SECONDS = 3.0
Resolves = Callable[[str], bool]


def unreachable_links(
    config: Config, listen_addresses: Sequence[str] = (), resolves: Resolves | None = None
) -> str:
    """A sentence with what to do, or "". `listen_addresses` are those of the command line, which
    come before the configuration's; without `resolves` no name is looked up."""
    url = external_url(config)
    host = (urlsplit(url).hostname or "").rstrip(".")
    if not config.external_url:
        return _unset(config, url, listen_addresses or [config.web.listen_address])
    if _is_own(host):
        return (
            f"links in messages point to {url}, which leads each reader to his own machine; set"
            " external_url to the address by which people reach the agent"
        )
    if resolves is not None and not _is_address(host) and not resolves(host):
        return (
            f"links in messages point to {url}, and {host} has no address here: nobody can"
            " answer by them unless their own network knows the name; correct external_url"
        )
    return ""


def _unset(config: Config, url: str, addresses: Sequence[str]) -> str:
    if all(map(is_local, addresses)):
        return (
            f"links in messages point to {url}, and the agent listens on"
            f" {', '.join(addresses)}, which only this machine can reach; set external_url"
        )
    if config.contacts:
        return (
            f"links in messages point to {url}, the name that this machine has for itself, which"
            " phones may not know; set external_url"
        )
    return ""


def is_local(address: str) -> bool:
    """Whether only this machine can connect to a listen address."""
    host = listen.parse(address)[0]
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def resolves_in_time(host: str, seconds: float = RESOLVER_SECONDS) -> bool:
    """Whether the name has an address; True as well where the resolver does not say so in time."""
    asking = Threads(1, "own address").submit(_has_address, host)
    try:
        return asking.result(seconds)
    except NotInTime:
        return True


def _has_address(host: str) -> bool:
    try:
        resolve(host)
    except OSError as error:
        return error.errno in {*LACKS, socket.EAI_AGAIN}
    return True


def _is_own(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
