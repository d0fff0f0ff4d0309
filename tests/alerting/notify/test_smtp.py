import ssl

import pytest
from aiosmtplib.errors import (
    SMTPAuthenticationError,
    SMTPConnectError,
    SMTPException,
    SMTPNotSupported,
    SMTPRecipientRefused,
    SMTPRecipientsRefused,
    SMTPResponseException,
    SMTPServerDisconnected,
)

from tocsin_alerting.notify.channel import Permanent, RetryAt
from tocsin_alerting.notify.smtp import broken


def test_every_code_has_one_meaning() -> None:
    for code in (-1, *range(100, 700)):
        kind = Permanent if 500 <= code < 600 else RetryAt
        for error in (SMTPResponseException(code, "no"), SMTPAuthenticationError(code, "no")):
            assert broken(error) == kind(f"{code} no")


def test_recipients_refused_for_different_reasons_are_worth_a_retry() -> None:
    never = SMTPRecipientRefused(550, "gone", "a@x")
    later = SMTPRecipientRefused(451, "later", "b@x")
    both = broken(SMTPRecipientsRefused([never, later]))
    assert both == RetryAt("recipients refused: a@x: 550 gone; b@x: 451 later")
    assert isinstance(broken(SMTPRecipientsRefused([never])), Permanent)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (SMTPServerDisconnected("gone"), RetryAt),
        (SMTPConnectError("no route"), RetryAt),
        (ConnectionResetError(), RetryAt),
        (ssl.SSLError("wrong version number"), RetryAt),
        (ssl.SSLCertVerificationError("expired"), Permanent),
        (SMTPNotSupported("SMTPUTF8"), Permanent),
        (SMTPException("no STARTTLS"), Permanent),
        (ValueError("an address"), Permanent),
    ],
)
def test_what_breaks_a_conversation(error: Exception, kind: type) -> None:
    assert isinstance(broken(error), kind)
