"""A real mail server on a free port of the loopback, which keeps what it is given."""

import asyncio
import ssl
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any, Self

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session


@dataclass(frozen=True)
class Letter:
    """`at` is the wall clock's time of arrival in seconds."""

    at: float
    sender: str
    to: tuple[str, ...]
    message: EmailMessage
    logged_in_as: str | None
    encrypted: bool


class Mailbox:
    """`tls` offers STARTTLS (with `implicit`, TLS from the first byte); `users` demands a login.

    `says` answers a command otherwise than with success: `{"RCPT": "450 later"}`; a key
    `RCPT li@example.com` holds for that recipient alone, `MAIL BODY=8BITMIME` where that is asked
    for, and `AUTH PLAIN` for that method.
    """

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        implicit: bool = False,
        users: Mapping[str, str] | None = None,
        says: Mapping[str, str] | None = None,
        port: int = 0,
    ) -> None:
        self.messages: list[Letter] = []
        self.says = dict(says or {})
        self.port = port
        self._tls, self._implicit, self._users = tls, implicit, users
        self._arrived = asyncio.Condition()
        self._sessions: list[SMTP] = []

    @property
    def smarthost(self) -> str:
        return f"localhost:{self.port}"

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        outer = self._tls if self._implicit else None
        self._server = await loop.create_server(self._session, "127.0.0.1", self.port, ssl=outer)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for session in self._sessions:
            if session.transport is not None:
                session.transport.close()
        await asyncio.sleep(0.01)  # the sessions notice that their connections are gone

    async def wait_for(self, count: int, within: float = 5.0) -> list[Letter]:
        """The messages once there are `count`; raises TimeoutError."""
        async with asyncio.timeout(within), self._arrived:
            await self._arrived.wait_for(lambda: len(self.messages) >= count)
        return list(self.messages)

    def _session(self) -> SMTP:
        with warnings.catch_warnings():  # it objects to a login without TLS
            warnings.simplefilter("ignore")
            session = SMTP(
                self,
                hostname="mailbox.test",
                tls_context=None if self._implicit else self._tls,
                require_starttls=self._tls is not None and not self._implicit,
                authenticator=self._authenticate if self._users is not None else None,
                auth_required=self._users is not None,
                auth_require_tls=self._tls is not None and not self._implicit,
                enable_SMTPUTF8=True,
            )
        self._sessions.append(session)
        return session

    def _authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any
    ) -> AuthResult:
        if not isinstance(data, LoginPassword):
            return AuthResult(success=False, handled=False)
        name = data.login.decode()
        right = (self._users or {}).get(name) == data.password.decode()
        # `handled=True` would leave the answer to us, and the client waiting for it.
        return AuthResult(success=right, handled=False, auth_data=name)

    async def auth_PLAIN(self, server: SMTP, args: list[str]) -> AuthResult:
        if "AUTH PLAIN" in self.says:
            await server.push(self.says["AUTH PLAIN"])
            return AuthResult(success=False, handled=True)
        return await server.auth_PLAIN(server, args)

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        for command in ("MAIL", *(f"MAIL {option}" for option in options)):
            if command in self.says:
                return self.says[command]
        envelope.mail_from = address
        return "250 OK"

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        said = self.says.get(f"RCPT {address}") or self.says.get("RCPT")
        if said:
            return said
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if "DATA" in self.says:
            return self.says["DATA"]
        content = envelope.original_content or b""
        parsed = message_from_bytes(content, policy=policy.default)
        assert isinstance(parsed, EmailMessage)
        letter = Letter(
            at=time.time(),
            sender=envelope.mail_from or "",
            to=tuple(envelope.rcpt_tos),
            message=parsed,
            logged_in_as=getattr(session, "auth_data", None),
            encrypted=self._implicit or session.ssl is not None,
        )
        self.messages.append(letter)
        async with self._arrived:
            self._arrived.notify_all()
        return f"250 OK: queued as {len(self.messages)}"
