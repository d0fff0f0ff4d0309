"""The file of `--web.config.file`, in exporter-toolkit's format: TLS, users, headers, rates."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from tocsin_alerting.settings import Duration, Section, several
from tocsin_alerting.yaml_document import (
    Document,
    InvalidDocument,
    did_you_mean,
    file_text,
    parse,
    unreadable,
)
from tocsin_alerting.yaml_model import validate
from tocsin_exporter.basic_auth import HASH, MOST_COST, cost
from tocsin_exporter.files import file_bytes
from tocsin_exporter.tls import (
    CIPHERS,
    CLIENT_AUTH,
    CURVES,
    VERSIONS,
    InvalidTls,
    ServerTls,
    TlsSettings,
    server_tls,
)
from tocsin_exporter.web_config import WebConfig

if TYPE_CHECKING:  # `tocsin exporter` has none
    from tocsin_alerting.config.config import Config

_MOST_PEM = 1 << 20
_HEADERS = {  # those that may be set, and what they may say where that is fixed
    "Content-Security-Policy": (),
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
}
_HOW_TO_HASH = "htpasswd -nBC 10 \"\" | tr -d ':\\n'"


def _one_of(what: str, known: tuple[str, ...]) -> AfterValidator:
    def check(word: str) -> str:
        if word not in known:
            near = did_you_mean(word, known) or f"; use {', '.join(filter(None, known))}"
            raise ValueError(f'unknown {what} "{word[:80]}"{near}')
        return word

    return AfterValidator(check)


def _hash(text: str) -> str:
    if HASH.fullmatch(text) is None:
        raise ValueError(f"not a password's hash by bcrypt; make one with {_HOW_TO_HASH}")
    if int(cost(text)) > MOST_COST:
        raise ValueError(
            f"a hash of cost {cost(text)} keeps a core busy for more than a minute; at most"
            f" {MOST_COST}, and 10 is usual"
        )
    return text


def _user(name: str) -> str:
    if ":" in name or not name.isprintable():
        raise ValueError(f"{name!r} cannot be sent as a user's name: no colon, printable")
    return name


def _header_values(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if name not in _HEADERS:
            near = did_you_mean(name, _HEADERS) or f"; use {', '.join(_HEADERS)}"
            raise ValueError(f'HTTP header "{name[:80]}" cannot be configured{near}')
        fixed = _HEADERS[name]
        if fixed and value not in fixed:
            raise ValueError(f"{name} must be {' or '.join(fixed)}, not {value[:80]!r}")
        if not value.isascii() or not value.isprintable():
            raise ValueError(f"{name} must be one line of ASCII")
    return headers


def _interval(value: object) -> object:
    return "0s" if value in (0, "0") else value


Version = Annotated[str, _one_of("TLS version", tuple(VERSIONS))]
Cipher = Annotated[str, _one_of("cipher", tuple(CIPHERS))]
Curve = Annotated[str, _one_of("curve", tuple(CURVES))]


class TlsServerSection(Section):
    """As exporter-toolkit's `tls_server_config`. Inline texts are PEM."""

    cert: str = ""
    key: str = Field(default="", repr=False)
    client_ca: str = ""
    cert_file: str = ""
    key_file: str = ""
    client_auth_type: Annotated[str, _one_of("client_auth_type", CLIENT_AUTH)] = ""
    client_ca_file: str = ""
    client_allowed_sans: Annotated[tuple[str, ...], BeforeValidator(several)] | None = None
    min_version: Version = "TLS12"
    max_version: Version = "TLS13"
    cipher_suites: Annotated[tuple[Cipher, ...], BeforeValidator(several)] = ()
    curve_preferences: Annotated[tuple[Curve, ...], BeforeValidator(several)] = ()
    prefer_server_cipher_suites: bool = True

    def texts(self) -> dict[str, tuple[str, str]]:
        """By what it is the file that is named, and what stands here."""
        return {
            "cert": (self.cert_file, self.cert),
            "key": (self.key_file, self.key),
            "client_ca": (self.client_ca_file, self.client_ca),
        }

    @property
    def is_set(self) -> bool:
        """Whether there is to be TLS, as the toolkit has it."""
        return bool(self.client_auth_type) or any(map(any, self.texts().values()))


class HttpServerSection(Section):
    """`http2` is read and does nothing: HTTP/1.1 alone is served, which every client of HTTP/2
    speaks as well."""

    http2: bool = True
    headers: Annotated[dict[str, str], AfterValidator(_header_values)] | None = None


class RateLimitSection(Section):
    interval: Annotated[Duration, BeforeValidator(_interval)] = 0
    burst: Annotated[int, Field(ge=0, le=1_000_000)] = 0


UserName = Annotated[str, AfterValidator(_user)]
PasswordHash = Annotated[str, AfterValidator(_hash)]


class WebFile(Section):
    """The whole file; each part may be left empty."""

    tls_server_config: TlsServerSection | None = None
    http_server_config: HttpServerSection | None = None
    basic_auth_users: dict[UserName, PasswordHash] | None = Field(default=None, repr=False)
    rate_limit: RateLimitSection | None = None


def web_config(config: "Config") -> WebConfig:
    """That of an agent. Raises InvalidDocument."""
    path = config.web.config_file
    return WebConfig() if path is None else load_web_config(path)


def serves_tls(config: "Config") -> bool:
    """Whether its addresses begin with https; a file that is wrong is said elsewhere."""
    try:
        return web_config(config).tls is not None
    except InvalidDocument:
        return False


def load_web_config(path: Path) -> WebConfig:
    """What holds by the file, its certificates read. Raises InvalidDocument, with every place."""
    try:
        document = parse(file_text(path), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(str(path), error) from None
    file = validate(WebFile, document)
    section = file.tls_server_config or TlsServerSection()
    tls = _tls(document, section, path.parent) if section.is_set else None
    http, rate = file.http_server_config or HttpServerSection(), file.rate_limit
    if rate is not None and rate.interval and not rate.burst:
        problem = "rate_limit.burst: must be at least 1, or no request is ever answered"
        raise InvalidDocument([document.problem(("rate_limit",), problem)])
    return WebConfig(
        tls=tls,
        users=file.basic_auth_users or {},
        headers=tuple(
            (name.lower().encode("ascii"), value.encode("ascii"))
            for name, value in (http.headers or {}).items()
            if value
        ),
        rate=(rate.interval / 1000, rate.burst) if rate is not None and rate.interval else None,
        files=(path, *_files(section, path.parent)),
        notes=tuple(_notes(section, http)),
    )


def _notes(section: TlsServerSection, http: HttpServerSection) -> Iterator[str]:
    if http.http2 and "http2" in http.model_fields_set:
        yield "http2: HTTP/1.1 is served, which every client of HTTP/2 speaks as well"
    if len(section.curve_preferences) > 1:
        yield "curve_preferences: only a list of one is enforced; all curves of OpenSSL are offered"
    if section.client_auth_type == "RequestClientCert":
        yield "client_auth_type: RequestClientCert keeps nobody out; no certificate is asked for"


def _files(section: TlsServerSection, directory: Path) -> Iterator[Path]:
    for file, _ in section.texts().values():
        if file:
            yield directory / file


def _tls(document: Document, section: TlsServerSection, directory: Path) -> ServerTls:
    certificate = _pem(document, section, "cert", directory)
    key = _pem(document, section, "key", directory)
    for name, content in (("cert", certificate), ("key", key)):
        if not content:
            missing = f"tls_server_config: {name} or {name}_file is missing; add it"
            raise InvalidDocument([document.problem(("tls_server_config",), missing)])
    settings = TlsSettings(
        certificate=certificate,
        key=key,
        client_authorities=_pem(document, section, "client_ca", directory),
        client_auth=section.client_auth_type,
        client_allowed_sans=section.client_allowed_sans,
        min_version=section.min_version,
        max_version=section.max_version,
        cipher_suites=section.cipher_suites,
        curve_preferences=section.curve_preferences,
        prefer_server_cipher_suites=section.prefer_server_cipher_suites,
    )
    try:
        return server_tls(settings)
    except InvalidTls as error:
        raise _at(document, error.key, str(error)) from None


def _pem(document: Document, section: TlsServerSection, name: str, directory: Path) -> bytes:
    """Of the file, if one is named, else what stands here."""
    named, inline = section.texts()[name]
    if not named:
        return inline.encode("ascii", "replace")
    try:
        return file_bytes(directory / named, _MOST_PEM)
    except OSError as error:
        why = f"cannot read {directory / named}: {error.strerror or error}"
        raise _at(document, f"{name}_file", why) from None


def _at(document: Document, key: str, words: str) -> InvalidDocument:
    """At the key, or the one that stands for it, or the section."""
    for name in (key, key.removesuffix("_file")):
        path = ("tls_server_config", name)
        if document.text(path) is not None:
            return InvalidDocument([document.problem(path, f"{'.'.join(path)}: {words}")])
    place = ("tls_server_config",)
    return InvalidDocument([document.problem(place, f"tls_server_config.{key}: {words}")])
