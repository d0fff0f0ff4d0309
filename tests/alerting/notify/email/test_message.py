from dataclasses import replace
from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest
from hypothesis import given, strategies

from support.notifications import ENGINE_DOWN, NEW_YEAR_MS, notification, resolved
from tocsin_alerting.incidents.incident import Reason
from tocsin_alerting.incidents.notification import Evidence
from tocsin_alerting.notify.email.message import bare_address, email_message
from tocsin_alerting.notify.message_templates import MessageTemplates

WORDING = MessageTemplates()
HEADERS = {
    "from",
    "to",
    "subject",
    "date",
    "message-id",
    "in-reply-to",
    "references",
    "auto-submitted",
    "x-incident-id",
    "x-priority",
    "importance",
    "mime-version",
    "content-type",
}


def _mail(**changes: object) -> EmailMessage:
    page = notification(**changes)
    return email_message(page, WORDING, "alerts@example.com", ["ops@example.com"], NEW_YEAR_MS)


def _parsed(mail: EmailMessage) -> EmailMessage:
    parsed = message_from_bytes(mail.as_bytes(), policy=policy.default)
    assert isinstance(parsed, EmailMessage)
    return parsed


def test_headers() -> None:
    mail = _parsed(_mail())
    assert mail["Subject"] == "[P0] gpu-1: The engine at 127.0.0.1:8000 does not answer (#42)"
    assert mail["Auto-Submitted"] == "auto-generated" and mail["X-Incident-Id"] == "42"
    assert mail["X-Priority"] == "1 (Highest)"
    assert mail["Date"].datetime.timestamp() * 1000 == NEW_YEAR_MS


def test_only_a_page_is_urgent() -> None:
    assert (
        _mail(severity="P1")["Importance"] == "high"
        and _mail(severity="P4")["X-Priority"][0] == "5"
    )
    for calm in (_mail(reason=Reason.ACKED), _mail(reason=Reason.RESOLVED, status="resolved")):
        assert (calm["X-Priority"], calm["Importance"]) == ("3 (Normal)", "normal")


def test_a_retry_has_the_same_id_and_another_message_has_not() -> None:
    first, again, other = _mail(), _mail(at_ms=1), _mail(key="another")
    assert first["Message-ID"] == again["Message-ID"] != other["Message-ID"]


def test_an_incident_is_one_thread() -> None:
    first = _mail()
    last = email_message(resolved(), WORDING, "alerts@example.com", ["a@b.c"], NEW_YEAR_MS)
    assert first["References"] == last["References"] == last["In-Reply-To"]
    assert _mail(incident=43)["References"] != first["References"]


def test_text_and_html_in_any_language() -> None:
    page = notification(alerts=(replace(ENGINE_DOWN, annotations={"summary": "引擎无响应\ud800"}),))
    mail = _parsed(email_message(page, MessageTemplates("zh"), "a@b.example", ["c@d.example"], 0))
    assert mail.get_content_type() == "multipart/alternative"
    text, html = mail.iter_parts()
    assert text.get_content_type() == "text/plain" and html.get_content_type() == "text/html"
    assert "引擎无响应" in text.get_content() and "引擎无响应" in html.get_content()


@given(strategies.text(strategies.characters(), max_size=80))
def test_nothing_in_a_title_becomes_a_header(title: str) -> None:
    raw = _mail(title=f"a{title}\r\nBcc: evil@example.com\r\n\r\nbody").as_bytes()
    mail = message_from_bytes(raw, policy=policy.default)
    assert {name.lower() for name in mail.keys()} == HEADERS
    assert mail["To"] == "ops@example.com"


@pytest.mark.parametrize("text", ["li@example.com", "a.b+c@sub.example.com", "李@例子.example"])
def test_addresses(text: str) -> None:
    assert bare_address(text) == text


@pytest.mark.parametrize(
    "text",
    ["", "li", "@x", "li@", "a b@c", "Li <li@example.com>", "a@b\r\nBcc: c@d", "a@b,c@d", "a@b@c"],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="is not an address"):
        bare_address(text)


def test_what_a_retry_sends_tells_how_long_it_is_by_then() -> None:
    page = notification(at_ms=NEW_YEAR_MS)
    late = email_message(
        page, WORDING, "alerts@example.com", ["l@example.com"], NEW_YEAR_MS + 120_000
    )
    bodies = [part.get_content() for part in _parsed(late).iter_parts()]
    assert len(bodies) == 2 and all("for 2m" in body for body in bodies)


def test_a_chart_comes_with_the_page_that_shows_it_and_the_text_is_whole_without() -> None:
    mail = _parsed(_mail(evidence=Evidence(chart=b"\x89PNG of ours", lowest="1", highest="2")))
    assert mail.get_content_type() == "multipart/alternative"
    text, related = mail.iter_parts()
    assert text.get_content_type() == "text/plain" and "cid:" not in text.get_content()
    assert related.get_content_type() == "multipart/related"
    page, chart = related.iter_parts()
    assert page.get_content_type() == "text/html"
    assert f'src="cid:{chart["Content-ID"].strip("<>")}"' in page.get_content()
    assert (chart.get_content_type(), chart.get_content()) == ("image/png", b"\x89PNG of ours")
    assert chart.get_content_disposition() == "inline"
