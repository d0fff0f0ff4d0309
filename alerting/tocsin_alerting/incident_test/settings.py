"""The configuration that an incident test names, read on a machine that may have none of its
secrets."""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tocsin_alerting.config.config import Config
from tocsin_alerting.config.load import load
from tocsin_alerting.config.references import parts_at
from tocsin_alerting.incident_test.script import IncidentTest, NameUsed
from tocsin_alerting.yaml_document import (
    InvalidDocument,
    Problem,
    did_you_mean,
    file_text,
    parse,
    read_text,
)

_SECRET = "https://secret.invalid/"  # as a password, a token or an address: nothing is sent; and
# the name's digest follows, for no two heartbeats may have the same token
_SIGNING_SECRET = "whsec_" + "AAAA" * 8
_APPRISE_URL = "json://secret.invalid/"
_SPECIAL = {
    ("webhook", "secret_file"): _SIGNING_SECRET,
    ("webhook", "secret_env"): _SIGNING_SECRET,
    ("apprise", "url_file"): _APPRISE_URL,
    ("apprise", "url_env"): _APPRISE_URL,
}


class _Secrets(Mapping[str, str]):
    """The environment; a variable that is not set, and a file that is not there, have a value in
    its place: by its name if it must be `special`."""

    def __init__(self, config_file: str, special: Mapping[str, str]) -> None:
        self._config_file, self._special = config_file, special

    def __getitem__(self, name: str) -> str:
        return os.environ.get(name) or self._instead_of(name)

    def __iter__(self) -> Iterator[str]:
        return iter(os.environ)

    def __len__(self) -> int:
        return len(os.environ)

    def read(self, file: Path) -> str:
        try:
            return file_text(file)
        except OSError:
            if str(file) == self._config_file:
                raise
            return self._instead_of(file.name)

    def _instead_of(self, name: str) -> str:
        digest = hashlib.sha256(name.encode(errors="replace")).hexdigest()
        return self._special.get(name) or _SECRET + digest[:16]


def load_policy_file(path: str) -> Config:
    """Raises InvalidDocument. Files and variables with secrets may be missing, and no mail server
    is asked."""
    data = parse(read_text(path), path).data if path else None
    special = {
        Path(name).name: value
        for _, receiver in parts_at(data, "receivers", "*")
        if isinstance(receiver, dict)
        for (kind, key), value in _SPECIAL.items()
        if receiver.get("type") == kind and isinstance(name := receiver.get(key), str)
    }
    secrets = _Secrets(path, special)
    return load(Path(path) if path else None, secrets, secrets.read, _takes_mail)


def _takes_mail(sender: str, recipients: Sequence[str]) -> str:
    return ""


def check_names(test: IncidentTest, config: Config) -> None:
    """A name that the configuration does not have would make `no_page` true of nobody: raises
    InvalidDocument."""
    ways = [way for contact in config.contacts.values() for way in contact.way_names()]
    known = {
        "receiver": tuple(config.receivers),
        "contact": tuple(config.contacts),
        "schedule": tuple(config.schedules),
        "policy": tuple(config.policies),
        "way": tuple(dict.fromkeys(ways)),
    }
    where = test.policy_file or "the built-in configuration"
    problems = [
        _problem(used, known[used.kind], where)
        for used in test.names
        if used.name not in known[used.kind]
    ]
    if problems:
        raise InvalidDocument(problems)


def _problem(used: NameUsed, known: Sequence[str], where: str) -> Problem:
    hint = did_you_mean(used.name, known)
    hint = hint or (f"; it has {', '.join(known)}" if known else "; it has none")
    why = f'there is no {used.kind} "{used.name}" in {where}{hint}'
    return Problem(used.place.file, used.place.line, used.place.column, why)
