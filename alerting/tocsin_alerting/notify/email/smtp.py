"""One conversation with a mail server, and what its answers mean: delivered, later, or never."""

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.message import EmailMessage
from typing import TypeAlias

from aiosmtplib import SMTP, SMTPResponse
from aiosmtplib.errors import (
    SMTPAuthenticationError,
    SMTPException,
    SMTPRecipientRefused,
    SMTPRecipientsRefused,
    SMTPResponseException,
)

from tocsin_alerting.http import certificate_refused, error_text
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome, Permanent, RetryAt

_FAREWELL_S = 2.0
_UNKNOWN_METHOD = 504  # RFC 4954
_UNKNOWN_PARAMETER = (501, 555)  # of MAIL; RFC 5321, 4.2.3
_8_BIT = "8bitmime"
_UNKNOWN_RECIPIENT = re.compile(
    r"5\.1\.10?\b"
)  # RFC 3463 and 7505; the text alone may mean anything


Connect: TypeAlias = Callable[[], Awaitable[socket.socket]]
"""Connects to the client's server, with a lookup that nobody else waits for."""


@dataclass(frozen=True, slots=True, repr=False)
class Login:
    username: str
    password: str


@dataclass(frozen=True, slots=True)
class SmtpResult:
    """`unreached` are the recipients whom another try may reach."""

    outcome: Outcome
    unreached: tuple[str, ...] = ()


async def send_mail(
    client: SMTP,
    connect: Connect,
    login: Login | None,
    mail: EmailMessage,
    recipients: Sequence[str],
    dialogue: list[str],
    limit_s: float,
) -> SmtpResult:
    """Sends `mail` over a fresh client, all within `limit_s`; never raises for the other side."""
    try:
        async with asyncio.timeout(limit_s):
            handed = await _converse(client, connect, login, mail, recipients, dialogue)
        with suppress(SMTPException, OSError):  # taken is taken, however they part
            await client.quit(timeout=_FAREWELL_S)
        return handed
    except TimeoutError:
        return SmtpResult(
            RetryAt(f"no response within {limit_s:g} s, after {dialogue[-1]}"), tuple(recipients)
        )
    except SMTPRecipientsRefused as error:
        left = tuple(refusal.recipient for refusal in error.recipients if not _is_unknown(refusal))
        return SmtpResult(outcome_of_error(error), left)
    except (SMTPException, OSError, ValueError) as error:
        return SmtpResult(outcome_of_error(error), tuple(recipients))
    finally:
        client.close()


async def _converse(
    client: SMTP,
    connect: Connect,
    login: Login | None,
    mail: EmailMessage,
    recipients: Sequence[str],
    dialogue: list[str],
) -> SmtpResult:
    dialogue.append(f"> connect to {client.hostname}:{client.port}")
    dialogue.append(f"< {(await client.connect(sock=await connect(), port=None)).message}")
    if client.tls_context is not None and not client.use_tls:
        dialogue.append("> STARTTLS")
        dialogue.append(f"< {(await client.starttls()).message}")
    if login is not None:
        dialogue.append(f"> AUTH as {login.username}")
        await _authenticate(client, login, dialogue)
        dialogue.append("< accepted")
    dialogue.append(f"> message {mail['Message-ID']} for {', '.join(recipients)}")
    refusals, answer = await _hand_over(client, mail, list(recipients), dialogue)
    dialogue.append(f"< {answer}")
    dialogue += [f"< {who}: {refusal.code} {refusal.message}" for who, refusal in refusals.items()]
    later = tuple(who for who, refusal in refusals.items() if refusal.code < 500)
    if later:
        return SmtpResult(RetryAt(f"refused temporarily: {', '.join(later)}"), later)
    never = f"; refused: {', '.join(refusals)}" if refusals else ""
    return SmtpResult(Delivered(reference=str(mail["Message-ID"]), detail=answer + never))


async def _hand_over(
    client: SMTP, mail: EmailMessage, recipients: list[str], dialogue: list[str]
) -> tuple[dict[str, SMTPResponse], str]:
    """As it is, or in 7 bits where the server offers 8BITMIME and then does not know the word."""
    try:
        return await client.send_message(mail, recipients=recipients)
    except SMTPResponseException as error:
        if error.code not in _UNKNOWN_PARAMETER or not client.supports_extension(_8_BIT):
            raise
        dialogue.append(f"< {error.code} {error.message}")
        dialogue.append("> the message again without 8BITMIME")
    del client.esmtp_extensions[_8_BIT]
    return await client.send_message(mail, recipients=recipients)


async def _authenticate(client: SMTP, login: Login, dialogue: list[str]) -> None:
    """By the plainest method that is offered (the line is encrypted). Of the next one only where
    the server does not know that: after a wrong password a second try only hides the first."""
    await client.ehlo()
    methods = {
        "plain": client.auth_plain,
        "login": client.auth_login,
        "cram-md5": client.auth_crammd5,
    }
    usable = [name for name in methods if name in client.server_auth_methods]
    if not usable:
        raise SMTPException("the server offers no supported AUTH method (PLAIN, LOGIN, CRAM-MD5)")
    for name in usable:
        try:
            await methods[name](login.username, login.password)
            return
        except SMTPAuthenticationError as error:
            if error.code != _UNKNOWN_METHOD or name == usable[-1]:
                raise
            dialogue.append(f"< AUTH {name.upper()}: {error.code} {error.message}")


def outcome_of_error(error: Exception) -> Outcome:
    """The outcome of a conversation that ended in `error`. SMTP's replies from 500 refuse, for good
    when no recipient is known; those from 400 to 499 and a broken connection may pass."""
    if isinstance(error, SMTPRecipientsRefused):
        listed = "; ".join(
            f"{refusal.recipient}: {refusal.code} {refusal.message}" for refusal in error.recipients
        )
        text = f"recipients refused: {listed}"
        if all(map(_is_unknown, error.recipients)):
            return Permanent(text, final=True)
        return _outcome_of_code(min(refusal.code for refusal in error.recipients), text)
    if isinstance(error, SMTPResponseException):
        return _outcome_of_code(error.code, f"{error.code} {error.message}")
    text = error_text(error)
    if certificate_refused(error):
        return Permanent(f"{text}; set ca_file to the certificate authority")
    if not isinstance(error, OSError):
        return Permanent(text)
    return RetryAt(text)


def _is_unknown(refusal: SMTPRecipientRefused) -> bool:
    return refusal.code >= 500 and _UNKNOWN_RECIPIENT.match(refusal.message.lstrip()) is not None


def _outcome_of_code(code: int, text: str) -> Outcome:
    return Permanent(text) if 500 <= code < 600 else RetryAt(text)
