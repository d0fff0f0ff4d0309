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

from tocsin_alerting.incidents.outbox_message import Permanent, RetryAt
from tocsin_alerting.notify.email.smtp import outcome_of_error


def test_every_code_has_one_meaning() -> None:
    for code in (-1, *range(100, 700)):
        kind = Permanent if 500 <= code < 600 else RetryAt
        for error in (SMTPResponseException(code, "no"), SMTPAuthenticationError(code, "no")):
            assert outcome_of_error(error) == kind(f"{code} no")


def test_recipients_refused_for_different_reasons_are_worth_a_retry() -> None:
    never = SMTPRecipientRefused(550, "gone", "a@x")
    later = SMTPRecipientRefused(451, "later", "b@x")
    both = outcome_of_error(SMTPRecipientsRefused([never, later]))
    assert both == RetryAt("recipients refused: a@x: 550 gone; b@x: 451 later")
    assert isinstance(outcome_of_error(SMTPRecipientsRefused([never])), Permanent)


UNKNOWN = ("5.1.1 user unknown", "5.1.1 <a@x>: Recipient address rejected", " 5.1.10 no mail here")
REFUSED = ("no such user", "5.7.1 spam", "5.1.2 bad host", "5.1.11 what", "see 5.1.1", "")


def test_only_the_code_of_an_unknown_recipient_is_for_good() -> None:
    gone = [SMTPRecipientRefused(550, text, "a@x") for text in UNKNOWN]
    others = [SMTPRecipientRefused(550, text, "b@x") for text in REFUSED]
    later = SMTPRecipientRefused(450, "5.1.1 odd", "c@x")
    for refusal in (*gone, *others):
        found = outcome_of_error(SMTPRecipientsRefused([refusal]))
        assert isinstance(found, Permanent) and found.final == (refusal in gone), refusal
    assert isinstance(outcome_of_error(SMTPRecipientsRefused([later])), RetryAt)
    some = outcome_of_error(SMTPRecipientsRefused([gone[0], others[0]]))
    assert isinstance(some, Permanent) and not some.final
    assert not isinstance(outcome_of_error(SMTPResponseException(550, "5.1.1 at the end")), RetryAt)


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
    assert isinstance(outcome_of_error(error), kind)
