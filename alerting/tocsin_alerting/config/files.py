"""The files that a configuration names: where they lie, and whether they can be read."""

import glob
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel

from tocsin_alerting.bundled import names_a_pack, rule_packs
from tocsin_alerting.config.references import Findings, parts_at
from tocsin_alerting.notify.secret import Vault
from tocsin_alerting.promql.parser.signatures import Semantics
from tocsin_alerting.promql.parser.types import refuse_unsupported
from tocsin_alerting.rules.rule_file import load as load_rules
from tocsin_alerting.yaml_document import InvalidDocument, Problem, did_you_mean

T = TypeVar("T")
_SERVERS = (
    ("datasource",),
    ("group_datasources", "*"),
    ("alertmanagers", "*"),
    ("remote_write", "*"),
)
_JOBS = ("scrape_configs", "*")


def anchored(value: T, directory: Path) -> T:
    """`value` with every path in it absolute: one that is relative starts at the file's directory,
    and `~` is the home directory."""
    changed: Any = value
    if isinstance(value, Path):
        changed = directory / value.expanduser()
    elif isinstance(value, BaseModel):
        fields = {
            name: anchored(getattr(value, name), directory) for name in value.model_fields_set
        }
        changed = value.model_copy(update=fields)
    elif isinstance(value, dict):
        changed = {name: anchored(item, directory) for name, item in value.items()}
    elif isinstance(value, tuple):
        changed = tuple(anchored(item, directory) for item in value)
    return cast(T, changed)


def file_problems(data: Any, directory: Path, vault: Vault) -> Findings:
    """Rule files that are not there, and secrets that cannot be had."""
    for path, text in parts_at(data, "rule_files", "*"):
        if isinstance(text, str) and (wrong := _no_rules(text, directory)):
            yield path, wrong
    for path, text in parts_at(data, "schedules", "*", "ical_file"):
        if isinstance(text, str) and not (directory / Path(text).expanduser()).is_file():
            yield path, f"there is no file {text}; correct the path"
    for path, value in _secrets(data):
        if isinstance(value, str) and value:
            problem = _unreadable(str(path[-1]), value, directory, vault)
            if problem:
                yield path, problem


def with_fallbacks(data: Any, name: str) -> tuple[str, ...]:
    """The receiver, its fallback, that one's fallback and so on, each once."""
    after = {path[1]: other for path, other in parts_at(data, "receivers", "*", "fallback")}
    chain = [name]
    while isinstance(following := after.get(chain[-1]), str) and following not in chain:
        chain.append(following)
    return tuple(chain)


def secrets_of(
    names: Collection[str], data: Any, found: Iterable[tuple[tuple[str | int, ...], str]]
) -> list[tuple[tuple[str | int, ...], str]]:
    """`found` without what is wrong with the secrets of all but these receivers. What
    `smtp` lacks is told when a receiver is made of it."""
    secret = {path for path, _ in _secrets(data)}
    return [
        (at, message)
        for at, message in found
        if at not in secret or (at[0] == "receivers" and at[1] in names)
    ]


def _no_rules(text: str, directory: Path) -> str:
    """What is wrong with an entry of `rule_files`, if anything is."""
    if text in (packs := rule_packs()):
        return ""
    if names_a_pack(text):
        return f"there is no pack {text}; there are {', '.join(packs)}{did_you_mean(text, packs)}"
    path = directory / Path(text).expanduser()
    if glob.has_magic(text) or path.is_file():
        return ""
    if path.exists():
        return f"{text} is a directory, a pipe or a device; a rule file is needed"
    return f"there is no file {text}; correct the path"


def rule_problems(data: Any, directory: Path) -> list[Problem]:
    """What is wrong in the rule files that are there, however broken the configuration itself is.

    `data` is the plain content of the configuration, `directory` where it lies.
    """
    own = [pattern for _, pattern in parts_at(data, "rule_files", "*") if isinstance(pattern, str)]
    paths = [
        str(directory / Path(pattern).expanduser()) for pattern in own if not names_a_pack(pattern)
    ]
    there = [path for path in paths if glob.has_magic(path) or Path(path).is_file()]
    old = (("promql", "semantics"), 2) in parts_at(data, "promql", "*")
    semantics: Semantics = 2 if old else 3
    try:
        load_rules(there, refuse_unsupported, semantics)
    except InvalidDocument as error:
        return error.problems
    return []


def _secrets(data: Any) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    sections = (
        ("receivers", "*"),
        ("smtp",),
        ("web",),
        ("engines", "*"),
        ("engines", "*", "basic_auth"),
        *_SERVERS,
        *((*server, "basic_auth") for server in _SERVERS),
        _JOBS,
        (*_JOBS, "basic_auth"),
        (*_JOBS, "authorization"),
        ("heartbeats", "out", "*"),
        ("heartbeats", "expected", "*"),
    )
    for path, value in (entry for section in sections for entry in parts_at(data, *section, "*")):
        no_secret = path == ("web", "config_file") or path[-1] == "log_file"
        if str(path[-1]).endswith(("_file", "_env")) and not no_secret:
            yield path, value
    yield from parts_at(data, "receivers", "*", "header_files", "*")
    yield from parts_at(data, "schedules", "*", "ical_url_file")
    for section in (("engines", "*"), *_SERVERS):
        yield from parts_at(data, *section, "tls", "*")
    yield from parts_at(data, *_JOBS, "tls_config", "*")


def _unreadable(key: str, value: str, directory: Path, vault: Vault) -> str | None:
    path = directory / Path(value).expanduser()
    try:
        if key in ("ca_file", "cert_file", "key_file"):
            vault.read_file(path)
        elif key == "server_name":
            pass
        elif key.endswith("_env"):
            vault.secret(None, value)
        else:
            vault.secret(path, None)
    except OSError as error:
        return f"cannot read {path}: {error.strerror or type(error).__name__}"
    except ValueError as error:
        return str(error)
    return None
