"""What an HTTP answer means for a message: delivered, later, or never."""

from email.utils import parsedate_to_datetime

from tocsin_alerting.notify.channel import Done, Outcome, Permanent, RetryAt

# A receiver that asks for a day of silence must not get it: somebody waits for this page.
LONGEST_WAIT_MS = 3_600_000
_WORTH_A_RETRY = frozenset({408, 425, 429})


def outcome(status: int, retry_after: str | None, now_ms: int, detail: str = "") -> Outcome:
    """2xx is done; 408, 425, 429 and 5xx are worth another try; all else is a refusal, 410 for
    good: the receiver is gone."""
    said = f"HTTP {status}" + (f": {detail}" if detail else "")
    if 200 <= status < 300:
        return Done(detail=said)
    if status in _WORTH_A_RETRY or status >= 500:
        return RetryAt(said, not_before(retry_after, now_ms))
    if 300 <= status < 400:
        return Permanent(f"HTTP {status}: a redirect, which is not followed; configure the new URL")
    return Permanent(said, final=status == 410)


def not_before(retry_after: str | None, now_ms: int) -> int | None:
    """When Retry-After (seconds or an HTTP date) lets us come again; None without a sensible one.

    At most an hour from now, never in the past. Source: RFC 9110 section 10.2.3.
    """
    if retry_after is None:
        return None
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        wait_ms = min(int(text[:12]) * 1000, LONGEST_WAIT_MS)
    else:
        wait_ms = _date_ms(text, now_ms) - now_ms
    return now_ms + min(max(wait_ms, 0), LONGEST_WAIT_MS) if wait_ms else None


def _date_ms(text: str, otherwise_ms: int) -> int:
    try:
        return int(parsedate_to_datetime(text).timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        return otherwise_ms
