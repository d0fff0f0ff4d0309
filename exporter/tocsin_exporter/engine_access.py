"""How an inference engine is reached: its address, its keys, and requests that stay on its host."""

import base64
import socket
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import NoReturn, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from tocsin_exporter.engine_targets import EngineTargets
from tocsin_exporter.files import MOST_SECRET_BYTES, check_file, file_bytes
from tocsin_exporter.http import (
    BadAnswer,
    BrokenOff,
    TooLarge,
    httpx,
    looking_up,
    own_shortage,
    read_text,
)
from tocsin_exporter.lookup import engine_lookup
from tocsin_exporter.socket_owner import owners
from tocsin_exporter.threads import Threads, in_thread

MOST_BYTES = 8 << 20  # of a metrics page
MOST_OTHER_BYTES = 1 << 20  # of any other answer
MOST_REDIRECTS = 5
_BEGINNING_BYTES = 64 << 10  # of a page that is too large: an engine's own lines come early
_MOVED = (301, 302, 303, 307, 308)
_KEY_REFUSED = (401, 403)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_LOOPBACK_NAMES = ("localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_LONGEST_REASON = 200  # some quote the answer
_BROKEN = (httpx.ReadError, httpx.WriteError, httpx.CloseError, httpx.RemoteProtocolError)
_LOOKING = Threads(1, "port owners")  # the loop's own threads may be busy for seconds

Params = tuple[tuple[str, str], ...]


def place(target: str) -> str:
    """Where `target` is, however its host is written: of two targets of one place one is enough.

    `localhost:8000`, `127.1:8000`, `[::1]:8000` and `0.0.0.0:8000` are `127.0.0.1:8000`.
    """
    address, slash, path = target.partition("/")
    host, _, port = address.rpartition(":")
    return f"{canonical_host(host)}:{port}{slash}{unquote(path)}"


def canonical_host(written: str) -> str:
    """A host in its one way to be written: in lower case, without brackets, loopback 127.0.0.1."""
    name = _with_plain_zone(written.strip("[]").rstrip(".").lower())
    try:
        address = ip_address(_dotted(name))
    except ValueError:
        return "127.0.0.1" if name in _LOOPBACK_NAMES else name
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    # Who connects to the unspecified address reaches this machine.
    return "127.0.0.1" if address.is_loopback or address.is_unspecified else str(address)


def _with_plain_zone(host: str) -> str:
    """`fe80::1%eth0` for `fe80::1%25eth0`, as a URL has it by RFC 6874; any other host as it is."""
    address, _, zone = host.partition("%")
    coded = ":" in address and zone.startswith("25") and zone != "25"
    return f"{address}%{zone.removeprefix('25')}" if coded else host


def _dotted(name: str) -> str:
    """IPv4 in its short forms (`127.1`, `0x7f000001`, `2130706433`) as the resolver reads it."""
    try:
        return socket.inet_ntoa(socket.inet_aton(name))
    except (OSError, ValueError):
        return name


class NotTheirs(OSError):
    """The port of an engine that was found by itself is held by a user who may not have it."""


@dataclass(frozen=True, slots=True)
class Tls:
    """As Prometheus's `tls_config`; `insecure_skip_verify` trusts anybody."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    server_name: str = ""
    insecure_skip_verify: bool = False

    def context(self) -> ssl.SSLContext:
        """Raises OSError (ssl.SSLError is one) for a file that cannot be read or used."""
        for file in (self.ca_file, self.cert_file, self.key_file):
            check_file(file)
        context = ssl.create_default_context(cafile=self.ca_file)
        if self.cert_file is not None:
            context.load_cert_chain(self.cert_file, self.key_file)
        if self.insecure_skip_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


@dataclass(frozen=True, slots=True)
class BasicAuth:
    """A user whose password is in a file, or was in the URL."""

    username: str
    password_file: Path | None = None
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, repr=False)
class EngineAccess:
    """One engine. `url` holds no user and no query; make one with `of`, which takes them out.

    `target` is what its series are labelled with: host:port, and the path if there is one.
    `metrics_path` None means the usual paths, "" that the engine has no metrics page. `params` go
    with requests for the metrics page, `query` (of the URL that was given) with every request.
    `expected`: an engine that we knew is to be there, so that a stranger's metrics are none of it.
    `owners` are the ids of the users one of whom must hold its port here; None: it may be anybody.
    Its own page is kept as well unless `keep_original` is false, under `job` or else its type.
    `targets` None: those of all engines. `log_file` is what the engine writes its log to. `proxy`
    is the metrics page of a `tocsin proxy` before it.
    """

    url: str
    target: str
    metrics_path: str | None = None
    params: Params = ()
    query: Params = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    bearer_token_file: Path | None = None
    basic_auth: BasicAuth | None = None
    tls: Tls = Tls()
    keep_original: bool = True
    job: str = ""
    expected: bool = False
    owners: frozenset[int] | None = None
    targets: EngineTargets | None = None
    log_file: Path | None = None
    proxy: "EngineAccess | None" = None
    redirects: bool = True

    def __repr__(self) -> str:
        return f"EngineAccess({self.target})"

    @classmethod
    def of(cls, url: str) -> Self:
        """The engine at `url`, which may hold a user, a query, or the path of the metrics page.

        Raises ValueError for what is no URL.
        """
        parts = urlsplit(url)
        named = _with_plain_zone(parts.hostname or "")
        host = f"[{named}]" if ":" in named else named
        usual = _DEFAULT_PORTS.get(parts.scheme, 80)
        path = parts.path.rstrip("/")
        metrics = "/metrics" if path.endswith("/metrics") else None
        path = path.removesuffix("/metrics")
        port = "" if parts.port in (None, usual) else f":{parts.port}"
        access = cls(
            url=f"{parts.scheme}://{host}{port}{path}",
            target=f"{host}:{parts.port or usual}{path}",
            metrics_path=metrics,
            query=tuple(parse_qsl(parts.query, keep_blank_values=True)),
        )
        if parts.username is None:
            return access
        user = unquote(parts.username), None, unquote(parts.password or "")
        return replace(access, basic_auth=BasicAuth(*user))

    async def strangers(self) -> frozenset[int]:
        """The ids of the users who hold its port and may not.

        Where no socket of this machine listens, only root can have sent a connection elsewhere.
        """
        return frozenset() if self.owners is None else await in_thread(self._strangers, _LOOKING)

    def _strangers(self) -> frozenset[int]:
        """It may take some milliseconds."""
        parts = urlsplit(self.url)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 80)
        held_by = owners(parts.hostname or "", port) or frozenset()
        return held_by - (self.owners or frozenset())

    def authorization(self) -> Iterable[tuple[str, str]]:
        """The headers that let us in; without those whose file cannot be read."""
        yield from self.headers.items()
        user = self.basic_auth
        try:
            if self.bearer_token_file is not None:
                yield "Authorization", f"Bearer {_secret(self.bearer_token_file)}"
            elif user is not None:
                password = _secret(user.password_file) if user.password_file else user.password
                yield "Authorization", _basic(user.username, password)
        except ValueError:
            return

    def check(self) -> None:
        """Raises ValueError that names the file which cannot be used, and shows no secret."""
        password = self.basic_auth.password_file if self.basic_auth else None
        for file in filter(None, (self.bearer_token_file, password)):
            _secret(file)
        try:
            self.tls.context()
        except OSError as error:
            files = (self.tls.ca_file, self.tls.cert_file, self.tls.key_file)
            named = ", ".join(str(file) for file in files if file)
            why = error.strerror or "not a certificate or key in PEM"
            raise ValueError(f"cannot use {named}: {why}") from None


@dataclass(frozen=True, slots=True)
class Reply:
    """What an engine answered: the HTTP status, the body as text and its Content-Type. `framed`:
    it said how long it is; else it ends with the connection, whatever ended that."""

    status: int
    text: str = ""
    media: str = ""
    framed: bool = True

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300


class EngineClient:
    """Asks one engine. Redirects are followed while they stay on its host: an engine behind a
    path prefix answers `/metrics` with one to `/metrics/`."""

    def __init__(
        self, access: EngineAccess, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._access = access
        self._headers = dict(access.authorization())
        # A kept connection that the engine closes just as we ask again would look like an outage.
        once = httpx.Limits(max_keepalive_connections=0)
        verify = access.tls.context() if access.url.startswith("https:") else False
        client = httpx.AsyncClient(
            transport=transport,
            headers={"Accept-Encoding": "gzip"},
            limits=once,
            trust_env=False,
            timeout=None,
            verify=verify,
        )
        self._client = looking_up(client, engine_lookup(access.url))

    async def metrics(self, path: str) -> Reply:
        """A metrics page; raises as `get`."""
        return await self.get(path, self._access.params, MOST_BYTES)

    async def status(self, path: str) -> int:
        """The HTTP status of an answer whose body nobody reads."""
        return (await self.get(path, most_bytes=0)).status

    async def get(
        self, path: str, params: Params = (), most_bytes: int = MOST_OTHER_BYTES, cut: bool = False
    ) -> Reply:
        """Raises httpx's errors and OSError without an answer, BrokenOff for one that is not whole,
        also where nothing came on a connection, and BadAnswer for one of 2xx without end or that
        cannot be unpacked; with `cut` the beginning of it is enough."""
        await self._check_owner()
        url = httpx.URL(self._access.url + path)
        query = (*self._access.query, *params)
        if query:
            url = url.copy_merge_params(httpx.QueryParams(list(query)))
        reply, location = await self._once(url, most_bytes, cut)
        for _ in range(MOST_REDIRECTS if self._access.redirects else 0):
            onward = _onward(url, location)
            if onward is None:
                break
            url = onward
            reply, location = await self._once(url, most_bytes, cut)
        if reply.status in _KEY_REFUSED:
            self._headers = dict(self._access.authorization())  # a key may have been changed
        return reply

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _check_owner(self) -> None:
        if strangers := await self._access.strangers():
            raise NotTheirs(
                f"its port belongs to user id {min(strangers)}, who is not allowed: add the user "
                "to discovery: {allow_users: [...]}"
            )

    async def _once(self, url: httpx.URL, most_bytes: int, cut: bool) -> tuple[Reply, str]:
        """The answer, and where it sends us, if anywhere."""
        host, sni = _without_zone(url)
        sni = self._access.tls.server_name or sni
        stream = self._client.stream(
            "GET",
            url,
            headers={**host, **self._headers},
            extensions={"sni_hostname": sni} if sni else None,
        )
        try:
            async with stream as response:
                if response.status_code in _MOVED:
                    return Reply(response.status_code), response.headers.get("location", "")
                text = await _text(response, most_bytes, cut) if most_bytes else ""
        except _BROKEN as error:
            _raise_broken_off(error)
        media = response.headers.get("content-type", "")
        framed = bool({"content-length", "transfer-encoding"} & response.headers.keys())
        return Reply(response.status_code, text, media, framed), ""


def _without_zone(url: httpx.URL) -> tuple[dict[str, str], str]:
    """The header and the name for TLS where the host has a zone: an interface of ours says nothing
    to the other side, and some refuse it."""
    address, zone, _ = url.host.partition("%")
    if not zone:
        return {}, ""
    port = f":{url.port}" if url.port else ""
    return {"Host": f"[{address}]{port}"}, address


async def _text(response: httpx.Response, most_bytes: int, cut: bool) -> str:
    """Raises BadAnswer with what has come; a refusal says enough by its status."""
    texts: list[str] = []
    try:
        return await _whole_text(response, most_bytes, cut, texts)
    except BadAnswer as error:
        if not response.is_success:
            return ""
        if isinstance(error, TooLarge) and not response.is_stream_consumed:  # so it was announced
            texts.append(await read_text(response, _BEGINNING_BYTES, True))
        error.beginning = "".join(texts)
        raise


async def _whole_text(
    response: httpx.Response, most_bytes: int, cut: bool, texts: list[str]
) -> str:
    try:
        return await read_text(response, most_bytes, cut, texts)
    except _BROKEN as error:
        _raise_broken_off(error)


def _raise_broken_off(error: httpx.TransportError) -> NoReturn:
    """As it is where it is we who lacked something: that tells nothing of the answer."""
    if own_shortage(error):
        raise error
    reason = str(error)[:_LONGEST_REASON] or type(error).__name__
    raise BrokenOff(f"its answer breaks off: {reason}") from error


def _basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def _secret(file: Path) -> str:
    try:
        text = file_bytes(file, MOST_SECRET_BYTES).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not text in UTF-8"
        raise ValueError(f"cannot read {file}: {why}") from None
    if not text or not text.isascii() or not text.isprintable():
        raise ValueError(f"{file} must hold the secret in one line of plain ASCII")
    return text


def _onward(url: httpx.URL, location: str) -> httpx.URL | None:
    """Where a redirect leads; None when there is none, or it leaves the host or its port.

    From http to https the port may change, and never back: the keys come along.
    """
    if not location:
        return None
    try:
        there = url.join(location)
    except (httpx.InvalidURL, ValueError):
        return None
    origin = (url.scheme, url.port or _DEFAULT_PORTS.get(url.scheme))
    port = there.port or _DEFAULT_PORTS.get(there.scheme)
    safer = (url.scheme, there.scheme) == ("http", "https")
    if not _same_host(url.host, there.host) or ((there.scheme, port) != origin and not safer):
        return None
    there = there.copy_with(host=url.host, fragment=None)
    return there if there.query or not url.query else there.copy_with(query=url.query)


def _same_host(left: str, right: str) -> bool:
    """A zone is ours alone: it was not sent, and where we are sent has none."""
    left, right = left.partition("%")[0], right.partition("%")[0]
    return left == right or (left in _LOOPBACK and right in _LOOPBACK)
