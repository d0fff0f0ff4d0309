"""How `alertctl` reaches an agent over TCP, and what it shows there: options of every command."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tocsin_exporter.files import MOST_SECRET_BYTES, file_bytes

if TYPE_CHECKING:  # `--help` need not load it
    import ssl

F = TypeVar("F", bound=Callable[..., Any])
_FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)
_FILES = {
    "--password-file": "File with the password of --username.  [default: none]",
    "--key-file": "File with the key of --cert-file.  [default: that file]",
    "--cert-file": "File with our certificate in PEM, for an agent that asks for one."
    "  [default: none]",
    "--ca-file": "File with the authorities in PEM that may vouch for an agent with https."
    "  [default: the system's]",
}
ANYWHERE = ("--url", "--token-file", "--timeout", "--username", *_FILES)
ANYWHERE_FLAGS = ("--insecure-skip-verify",)


def reach_options(command: F) -> F:
    """Those for TLS and basic auth."""
    for name, words in _FILES.items():
        command = click.option(name, type=_FILE, envvar=_variable(name), help=words)(command)
    name = "--username"
    command = click.option(
        name, envvar=_variable(name), help="User for basic auth.  [default: none]"
    )(command)
    return click.option(
        "--insecure-skip-verify",
        is_flag=True,
        help="Believe any certificate of the agent: anybody on the way can read and answer.",
    )(command)


def _variable(option: str) -> str:
    return f"ALERTCTL_{option.strip('-').replace('-', '_').upper()}"


@dataclass(frozen=True, slots=True)
class Reach:
    """What is believed of an agent with https, and what is shown to it."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    insecure_skip_verify: bool = False
    username: str | None = None
    password_file: Path | None = field(default=None)

    def check(self) -> None:
        """Raises click's errors for options that lack each other."""
        if (self.username is None) != (self.password_file is None):
            raise click.UsageError("--username and --password-file are given together")
        if self.key_file is not None and self.cert_file is None:
            raise click.UsageError("--key-file is that of a --cert-file; give both")
        if self.username is not None and ":" in self.username:
            raise click.BadParameter("it must not hold a colon", param_hint="--username")

    def login(self) -> tuple[str, str] | None:
        """User and password."""
        if self.username is None or self.password_file is None:
            return None
        try:
            text = file_bytes(self.password_file, MOST_SECRET_BYTES).decode()
        except (OSError, UnicodeDecodeError) as error:
            why = f"cannot read {self.password_file}: {getattr(error, 'strerror', 'not UTF-8')}"
            raise click.BadParameter(why, param_hint="--password-file") from None
        return self.username, text.rstrip("\r\n")

    def context(self) -> "ssl.SSLContext":
        """Raises click.UsageError for files that hold no certificates or keys."""
        from tocsin_alerting.http import tls_context

        ca_file = None if self.ca_file is None else str(self.ca_file)
        try:
            context = tls_context(ca_file, verify=not self.insecure_skip_verify)
        except (OSError, ValueError) as error:
            raise click.UsageError(f"--ca-file {ca_file} holds no certificate: {error}") from None
        if self.cert_file is not None:
            try:
                context.load_cert_chain(self.cert_file, self.key_file, password=_no_password)
            except (OSError, ValueError) as error:
                raise click.UsageError(f"--cert-file {self.cert_file}: {error}") from None
        return context


def _no_password() -> str:
    raise ValueError("its key is encrypted; write it without a passphrase")
