"""What an HTTP answer means for a message: delivered, later, or never."""

from email.utils import parsedate_to_datetime

from tocsin_alerting.incidents.outbox_message import Delivered, Outcome, Permanent, RetryAt

# A receiver that asks for a day of silence must not get it: somebody waits for this page.
MAX_WAIT_MS = 3_600_000
_RETRIED_STATUSES = frozenset({408, 425, 429})


def http_outcome(status: int, retry_after: str | None, now_ms: int, detail: str = "") -> Outcome:
    """2xx is done; 408, 425, 429 and 5xx are worth another try; all else is a refusal, 410 for
    good: the receiver is gone."""
    text = f"HTTP {status}" + (f": {detail}" if detail else "")
    if 200 <= status < 300:
        return Delivered(detail=text)
    if status in _RETRIED_STATUSES or status >= 500:
        return RetryAt(text, not_before(retry_after, now_ms))
    if 300 <= status < 400:
        return Permanent(f"HTTP {status}: a redirect, which is not followed; configure the new URL")
    return Permanent(text, final=status == 410)


def not_before(retry_after: str | None, now_ms: int) -> int | None:
    """When Retry-After (seconds or an HTTP date) lets us come again; None without a sensible one.

    At most an hour from now, never in the past. Source: RFC 9110 section 10.2.3.
    """
    if retry_after is None:
        return None
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        wait_ms = min(int(text[:12]) * 1000, MAX_WAIT_MS)
    else:
        wait_ms = _date_ms(text, now_ms) - now_ms
    return now_ms + min(max(wait_ms, 0), MAX_WAIT_MS) if wait_ms else None


def _date_ms(text: str, otherwise_ms: int) -> int:
    try:
        return int(parsedate_to_datetime(text).timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        return otherwise_ms
