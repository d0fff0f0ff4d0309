"""The section of an e-mail receiver."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from tocsin_alerting.notify.email.message import bare_address, usable_headers
from tocsin_alerting.notify.receiver_section import ReceiverSection
from tocsin_alerting.settings import SECRET, FilePath, Interval, RefusedKey, Section, Words

_PORTS = {"starttls": 587, "implicit": 465, "none": 25}
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def host_and_port(text: str) -> tuple[str, int | None]:
    """`smtp.example.com:587` or `[::1]:25` apart; the port may be missing. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, ""
    host = host.removeprefix("[").removesuffix("]")
    if not host or not host.isprintable() or " " in host or "/" in host:
        raise ValueError("not a mail server like smtp.example.com:587")
    if colon and not text.endswith("]") and not (port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"port {port!r} is not a number between 1 and 65535")
    return host, int(port) if port else None


def _smarthost(text: str) -> str:
    host_and_port(text)
    return text


def _bare_addresses(texts: tuple[str, ...]) -> tuple[str, ...]:
    for text in texts:
        bare_address(text)
    return texts


Addresses = Annotated[Words, AfterValidator(_bare_addresses)]


class SmtpServer(Section):
    """A mail server, and what it asks for."""

    smarthost: Annotated[str, AfterValidator(_smarthost)]
    tls: Literal["starttls", "implicit", "none"] = "starttls"
    username: str | None = None
    password: RefusedKey = None
    password_file: FilePath | None = None
    password_env: str | None = None
    hello: str | None = None
    timeout: Interval = 20_000
    ca_file: FilePath | None = None
    cert_file: FilePath | None = None
    key_file: FilePath | None = None
    insecure_skip_verify: bool = False

    @property
    def host(self) -> str:
        return host_and_port(self.smarthost)[0]

    @property
    def port(self) -> int:
        return host_and_port(self.smarthost)[1] or _PORTS[self.tls]

    @model_validator(mode="after")
    def _whole(self) -> "SmtpServer":
        passwords = (self.password_file is not None) + (self.password_env is not None)
        if passwords != (self.username is not None):
            raise ValueError("username goes with exactly one of password_file and password_env")
        if passwords and self.tls == "none" and self.host not in _LOOPBACK:
            raise ValueError("tls: none would send the password in the clear; use starttls")
        if self.key_file is not None and self.cert_file is None:
            raise ValueError("key_file needs cert_file, the certificate that belongs to the key")
        if self.cert_file is not None and self.tls == "none":
            raise ValueError("cert_file is for TLS; with tls: none nobody sees it")
        return self


class SmtpSection(SmtpServer):
    """The `smtp` section: who writes through it, without `from`, is `tocsin@` and this machine."""

    sender: Annotated[str, AfterValidator(bare_address)] | None = Field(default=None, alias="from")


class EmailSettings(ReceiverSection, SmtpServer):
    """`to` may be empty when only contacts are written to; they bring their own addresses."""

    type: Literal["email"]
    sender: Annotated[str, AfterValidator(bare_address)] = Field(alias="from")
    to: Addresses = ()
    cc: Addresses = ()
    bcc: Addresses = ()
    reply_to: Annotated[str, AfterValidator(bare_address)] | None = None
    headers: Annotated[Mapping[str, str], AfterValidator(usable_headers), SECRET] = {}

    @model_validator(mode="after")
    def _somebody(self) -> "EmailSettings":
        if not self.to and (self.cc or self.bcc):
            raise ValueError("cc and bcc are for those beside to; add to")
        return self

    send_resolved: bool = True
