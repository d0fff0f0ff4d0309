"""The mail server of this machine: is there one, and would it take mail for these people?"""

import smtplib
from collections.abc import Callable, Sequence

from tocsin_alerting.http import error_text

LOCAL_SERVER = "127.0.0.1:25"
TIMEOUT_S = 3.0

CheckLocalServer = Callable[[str, Sequence[str]], str]
"""Sender and recipients -> why this machine's mail server is of no use; "" when it takes them."""


def why_unusable(
    sender: str,
    recipients: Sequence[str],
    server: str = LOCAL_SERVER,
    patience_s: float = TIMEOUT_S,
) -> str:
    """Asks as far as the recipients and sends nothing.

    SMTP's replies from 400 to 499 mean "not now", such as greylisting: what is refused so may pass.
    """
    host, _, port = server.rpartition(":")
    try:
        with smtplib.SMTP(host, int(port), timeout=patience_s) as client:
            client.ehlo_or_helo_if_needed()
            code, reply = client.mail(sender)
            answers = [(code, reply, sender)]
            answers += [(*client.rcpt(recipient), recipient) for recipient in recipients]
    except (OSError, ValueError, smtplib.SMTPException) as error:
        if isinstance(error, smtplib.SMTPResponseException) and 400 <= error.smtp_code < 500:
            return ""
        return f"no mail server responds on {server} ({error_text(error)})"
    for code, reply, who in answers:
        if code >= 500:
            text = reply.decode(errors="replace")
            return f"the mail server on {server} refuses {who}: {code} {text}"
    return ""
