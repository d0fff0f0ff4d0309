from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from tocsin_alerting.incidents.outbox_message import Delivered, Permanent, RetryAt
from tocsin_alerting.notify.webhook.http_outcome import MAX_WAIT_MS, http_outcome, not_before

NOW_MS = 1_767_225_600_000
RETRIED = {408, 425, 429}


def test_every_status_has_one_meaning() -> None:
    for status in range(200, 600):
        result = http_outcome(status, None, NOW_MS)
        if status < 300:
            assert isinstance(result, Delivered), status
        elif status in RETRIED or status >= 500:
            assert result == RetryAt(f"HTTP {status}")
        else:
            assert isinstance(result, Permanent) and result.final == (status == 410), status


def _date(seconds: int) -> str:
    return format_datetime(datetime.fromtimestamp(NOW_MS // 1000 + seconds, UTC), usegmt=True)


@pytest.mark.parametrize(
    ("header", "wait_ms"),
    [
        ("30", 30_000),
        (" 7 ", 7_000),
        (_date(90), 90_000),
        (_date(-90), 0),
        ("86400", MAX_WAIT_MS),
        ("9" * 400, MAX_WAIT_MS),
        (_date(7 * 86_400), MAX_WAIT_MS),
    ],
)
def test_retry_after_in_both_forms_and_within_reason(header: str, wait_ms: int) -> None:
    assert not_before(header, NOW_MS) == NOW_MS + wait_ms
    assert http_outcome(429, header, NOW_MS) == RetryAt("HTTP 429", NOW_MS + wait_ms)
    assert http_outcome(503, header, NOW_MS) == RetryAt("HTTP 503", NOW_MS + wait_ms)


@pytest.mark.parametrize("header", [None, "", "0", "soon", "-5", "1.5", "Mon, 99 Foo 2026", "٣"])
def test_retry_after_without_sense_is_no_time(header: str | None) -> None:
    assert not_before(header, NOW_MS) is None


def test_a_redirect_says_what_to_do() -> None:
    result = http_outcome(302, None, NOW_MS, "moved")
    assert isinstance(result, Permanent) and "configure the new URL" in result.error
