"""The sections that say what is watched, how often, and where it is kept and served."""

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from tocsin_alerting.settings import Bytes, Duration, FilePath, Interval, Section


def _http_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not text.isprintable() or " " in text:
        raise ValueError("not a URL like http://127.0.0.1:8000")
    return text


def _optional_http_url(text: str) -> str:
    return _http_url(text) if text else text


def _listen_address(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise ValueError("not a listen address like 127.0.0.1:4911")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise ValueError("an IPv6 address goes into brackets, like [::1]:4911")
    return text


def label_value(text: str) -> str:
    if not text.isprintable() or text != text.strip() or len(text) > LONGEST_INSTANCE:
        raise ValueError(f"not a name of at most {LONGEST_INSTANCE} printable characters")
    return text


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return text


LONGEST_INSTANCE = 253  # as a host's name

HttpUrl = Annotated[str, AfterValidator(_http_url)]
OptionalHttpUrl = Annotated[str, AfterValidator(_optional_http_url)]


class Collect(Section):
    """How often each source is read; 0s turns one off."""

    host: Duration = 5_000
    gpu: Duration = 1_000
    engines: Duration = 5_000
    processes: Duration = 15_000


class Engine(Section):
    """An inference engine to watch, by the URL below which it serves /metrics."""

    url: HttpUrl


class Restart(Section):
    """After `max` restarts in a row the worker is given up; `backoff` doubles from one to next."""

    max: int = Field(default=5, ge=0)
    backoff: Interval = 1_000


class Worker(Section):
    """Our own engine, started only where none is found."""

    enabled: bool = True
    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=8000, ge=1, le=65535)
    device: Literal["cpu", "cuda"] = "cpu"
    model_path: str | None = Field(default=None, min_length=1)
    restart: Restart = Restart()


class ProcessGroup(Section):
    """Processes counted under one name: found by the process's name (`comm`), its executable or
    script, with or without a path (`exe`), or a regular expression on name and command line
    (`cmdline`)."""

    name: str = Field(min_length=1)
    comm: str | None = Field(default=None, min_length=1)
    exe: str | None = Field(default=None, min_length=1)
    cmdline: Annotated[str, AfterValidator(_pattern)] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> "ProcessGroup":
        if sum(one is not None for one in (self.comm, self.exe, self.cmdline)) != 1:
            raise ValueError("give exactly one of comm, exe and cmdline")
        return self


class Storage(Section):
    """`path` is relative to the directory in which the agent is started. Samples are deleted when
    they are older than `retention`, and the oldest while they take more than `size`."""

    path: str = Field(default="data", min_length=1)
    retention: Interval = 15 * 86_400_000
    size: Bytes = 2 * 2**30


class Web(Section):
    """`token_file` holds the token that changes from other machines must carry."""

    listen_address: Annotated[str, AfterValidator(_listen_address)] = "127.0.0.1:4911"
    token_file: FilePath | None = None
