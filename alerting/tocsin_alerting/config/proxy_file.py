"""The file of `tocsin proxy --config.file`, and the file of its clients' keys."""

import re
import ssl
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from tocsin_alerting.settings import (
    Bytes,
    Duration,
    FilePath,
    Interval,
    Section,
    Words,
    http_url,
    regular_expression,
    several,
)
from tocsin_alerting.yaml_document import Document, InvalidDocument, file_text, parse, unreadable
from tocsin_alerting.yaml_model import validate
from tocsin_exporter.files import MOST_SECRET_BYTES, file_bytes
from tocsin_exporter.live_file import LiveFile
from tocsin_exporter.proxy.application import ProxyLimits
from tocsin_exporter.proxy.golden import GoldenExpectation, GoldenPrompt, GoldenSet
from tocsin_exporter.proxy.json_schema import schema_check
from tocsin_exporter.proxy.keys import ClientKeys, client_keys, is_hashed
from tocsin_exporter.proxy.server import AccessLogOptions, ProxyOptions
from tocsin_exporter.proxy.slots import SlotLimits
from tocsin_exporter.proxy.upstream import UpstreamAddress
from tocsin_exporter.threads import Threads
from tocsin_exporter.web_config import LiveWebConfig

_MOST_NAME, _MOST_KEYS, _MOST_BCRYPT = 64, 1000, 8
_SHORTEST_KEY = 16
_OTHERS_READ = 0o077
_PORTS = {"http": 80, "https": 443}
T = TypeVar("T")

Count = Annotated[int, Field(ge=0)]


def engine_url(text: str) -> str:
    """An engine's URL, without what a proxy cannot pass on."""
    parts = urlsplit(http_url(text, "http://127.0.0.1:8080"))
    if parts.username or parts.query or parts.fragment:
        raise ValueError(
            "write the URL without user, query and #; a key goes into upstream_key_file"
        )
    return text


class LimitsSection(Section):
    """0 sets no limit."""

    running: Count = 0
    waiting: Count = 1000
    of_client: Count = 0
    connections: Annotated[int, Field(ge=1)] = 2048
    body: Bytes = 64 << 20
    request: Duration = 600_000
    connect: Interval = 5_000
    drain: Duration = 30_000


class AccessLogSection(Section):
    """One file of `size`, and `keep` older ones."""

    file: FilePath
    size: Bytes = 64 << 20
    keep: Count = 5


def _schema(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    schema_check(schema)
    return schema


class ExpectSection(Section):
    """What an answer must have; at least one of them."""

    contains: Words = ()
    regex: Annotated[str, AfterValidator(regular_expression)] | None = None
    json_keys: Words | None = None
    json_schema: Annotated[Mapping[str, Any], AfterValidator(_schema)] | None = None
    similar_to: str = ""
    least: Annotated[float, Field(gt=0, le=1)] = 0.6

    @model_validator(mode="after")
    def _something(self) -> "ExpectSection":
        json = self.json_keys is not None or self.json_schema is not None
        if not (self.contains or self.regex or json or self.similar_to):
            raise ValueError("give one of contains, regex, json_keys, json_schema, similar_to")
        return self


class PromptSection(Section):
    """A question with a known answer."""

    name: Annotated[str, Field(min_length=1, max_length=_MOST_NAME)]
    prompt: Annotated[str, Field(min_length=1)]
    system: str = ""
    max_tokens: Annotated[int, Field(ge=1)] = 64
    expect: ExpectSection


class GoldenSection(Section):
    """All `prompts` are put to `model`, `every` so long; one answer may take `timeout`."""

    model: Annotated[str, Field(min_length=1)]
    every: Interval = 300_000
    timeout: Interval = 60_000
    prompts: Annotated[tuple[PromptSection, ...], BeforeValidator(several), Field(min_length=1)]

    @model_validator(mode="after")
    def _names(self) -> "GoldenSection":
        names = [prompt.name for prompt in self.prompts]
        if len(set(names)) < len(names):
            raise ValueError("two prompts have one name; give each a name of its own")
        return self


class ProxyFile(Section):
    """`upstream` is the engine. `upstream_host` goes to it in place of the client's Host."""

    upstream: Annotated[str, AfterValidator(engine_url)] = ""
    upstream_key_file: FilePath | None = None
    upstream_ca_file: FilePath | None = None
    upstream_host: Annotated[str, Field(pattern=r"^[A-Za-z0-9._:\[\]-]*$")] = ""
    keys_file: FilePath | None = None
    limits: LimitsSection = LimitsSection()
    access_log: AccessLogSection | None = None
    output_anomalies: bool = False
    golden_prompts: GoldenSection | None = None


def load_proxy_file(path: Path | None) -> ProxyFile:
    """Raises InvalidDocument, with every place."""
    if path is None:
        return ProxyFile()
    return validate(ProxyFile, _document(path))


def proxy_options(file: ProxyFile, upstream: str, web: LiveWebConfig) -> ProxyOptions:
    """What the file wants of a proxy of the engine at `upstream`. Raises InvalidDocument for
    the file of keys, OSError for another one that cannot be read."""
    limits, named = file.limits, file.access_log
    thread = Threads(1, "proxy files")
    keys = _live(file.keys_file, load_keys, "the clients' keys", thread)
    upstream_key = _live(file.upstream_key_file, _key_in, "the engine's key", thread)
    return ProxyOptions(
        upstream_address(upstream, file.upstream_ca_file),
        ProxyLimits(
            limits.body,
            limits.request / 1000,
            SlotLimits(limits.running, limits.waiting, limits.of_client),
        ),
        limits.connections,
        limits.drain // 1000,
        limits.connect / 1000,
        keys=keys or ClientKeys,
        access_log=AccessLogOptions(named.file, named.size, named.keep) if named else None,
        upstream_key=upstream_key or str,
        upstream_host=file.upstream_host,
        judges_answers=file.output_anomalies,
        golden=_golden(file.golden_prompts) if file.golden_prompts else None,
        web=web,
        live=[live for live in (keys, upstream_key) if live is not None],
    )


def _golden(section: GoldenSection) -> GoldenSet:
    return GoldenSet(
        tuple(_prompt(prompt) for prompt in section.prompts),
        section.model,
        section.every / 1000,
        section.timeout / 1000,
    )


def _prompt(section: PromptSection) -> GoldenPrompt:
    expect = section.expect
    expected = GoldenExpectation(
        expect.contains,
        re.compile(expect.regex) if expect.regex else None,
        expect.json_keys,
        schema_check(expect.json_schema) if expect.json_schema is not None else None,
        expect.similar_to,
        expect.least,
    )
    return GoldenPrompt(section.name, section.prompt, expected, section.system, section.max_tokens)


def upstream_address(url: str, ca_file: Path | None = None) -> UpstreamAddress:
    """Where the engine at `url` is. Raises OSError for certificates that cannot be read."""
    parts = urlsplit(url)
    tls = ssl.create_default_context(cafile=ca_file) if parts.scheme == "https" else None
    port = parts.port or _PORTS[parts.scheme]
    return UpstreamAddress(parts.hostname or "", port, parts.path.rstrip("/"), tls)


def load_keys(path: Path) -> ClientKeys:
    """The keys of clients by name. Raises InvalidDocument, which shows none of them."""
    document = _document(path)
    keys = document.data if isinstance(document.data, dict) else {}
    problems = [document.problem((), "must be names with keys: `laptop: sha256:...`")]
    if keys:
        problems = [
            document.problem((name,), why)
            for name, key in keys.items()
            if (why := _wrong(name, key))
        ]
    plain = [name for name, key in keys.items() if isinstance(key, str) and not is_hashed(key)]
    if plain and path.stat().st_mode & _OTHERS_READ:
        words = f"others may read this file, and it holds keys: chmod 600 {path}, or write sha256:"
        problems.append(document.problem((plain[0],), words))
    bcrypt = [name for name, key in keys.items() if str(key).startswith("$2")]
    if len(bcrypt) > _MOST_BCRYPT:
        words = f"more than {_MOST_BCRYPT} keys by bcrypt, each of which is tried; use sha256:"
        problems.append(document.problem((bcrypt[_MOST_BCRYPT],), words))
    if problems:
        raise InvalidDocument(problems)
    return client_keys(keys)


def _wrong(name: object, key: object) -> str:
    """Why an entry cannot be used, without the key."""
    if not isinstance(name, str) or not 0 < len(name) <= _MOST_NAME or not name.isprintable():
        return f"a name of 1 to {_MOST_NAME} characters is needed"
    if name == "-":
        return "this name is the proxy's own; take another"
    if not isinstance(key, str) or not key.isascii() or not key.isprintable() or " " in key:
        return "a key is text of ASCII without spaces; quote it"
    if not is_hashed(key) and key.startswith(("sha256:", "$2")):
        return "neither sha256: with 64 hex digits in lower case, nor a bcrypt hash"
    if len(key) < _SHORTEST_KEY:
        return f"a key needs {_SHORTEST_KEY} characters at least: openssl rand -hex 24"
    return ""


def _live(
    path: Path | None, load: Callable[[Path], T], what: str, thread: Threads
) -> LiveFile[T] | None:
    return LiveFile(path, partial(load, path), what, thread) if path is not None else None


def _key_in(path: Path) -> str:
    return file_bytes(path, MOST_SECRET_BYTES).decode("ascii").strip()


def _document(path: Path) -> Document:
    try:
        return parse(file_text(path), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(str(path), error) from None
