"""What Slack's answers mean for a message: those of an incoming webhook, and those of the Web API.

Sources: docs.slack.dev, reference/methods/chat.postMessage and chat.update (errors), apis/web-api/
rate-limits, and the changelog of 2016-05-17 for the words of incoming webhooks. An error that is
not in the table is tried again: when in doubt, somebody waits for this page.
"""

import re
from collections.abc import Mapping
from typing import Any

from tocsin_alerting.incidents.outbox_message import Delivered, Outcome, Permanent, RetryAt
from tocsin_alerting.notify.http_sender import HttpAnswer

_PASSING = frozenset(
    {
        "ratelimited",
        "rate_limited",
        "fatal_error",
        "internal_error",
        "service_unavailable",
        "request_timeout",
        "team_added_to_org",
        "message_limit_exceeded",
    }
)
# Of a first message that is gone, or takes no replies: the next one begins anew.
THREAD_IS_GONE = frozenset({"cannot_reply_to_message", "thread_not_found", "message_not_found"})
_REFUSED: Mapping[str, str] = {
    "not_authed": "token_file holds no token",
    "invalid_auth": "the token is wrong, or not allowed from this address",
    "token_revoked": "the token was revoked; install the app again",
    "token_expired": "the token has expired; install the app again",
    "account_inactive": "the app was removed from the workspace; install it again",
    "not_allowed_token_type": "it must be the bot token (xoxb-...)",
    "missing_scope": "add the scope chat:write to the app and install it again",
    "no_permission": "add the scope chat:write to the app and install it again",
    "channel_not_found": "no such channel, or a private one; invite the app into it",
    "not_in_channel": "invite the app: /invite @NAME in the channel",
    "is_archived": "the channel is archived",
    "restricted_action": "a rule of the workspace keeps the app from writing there",
    "restricted_action_read_only_channel": "only some may write in that channel",
    "ekm_access_denied": "the workspace's administrators have suspended it",
    "access_denied": "the workspace denies it",
    "team_access_not_granted": "the workspace denies it",
    "org_login_required": "the workspace is being moved",
    "msg_too_long": "",
    "msg_blocks_too_long": "",
    "invalid_blocks": "",
    "invalid_blocks_format": "",
    "invalid_attachments": "",
    "invalid_arguments": "",
    "no_text": "",
    "cannot_reply_to_message": "",
    "thread_not_found": "",
    "message_not_found": "",
    "cant_update_message": "another app has written it",
    "edit_window_closed": "the workspace lets no message be changed so late",
}
# How the answer to a message begins that was too long to be read to its end.
_LONG_ANSWER = re.compile(
    r'\s*\{"ok":\s*true,\s*"channel":\s*"([A-Z0-9]+)",\s*"ts":\s*"([0-9.]+)",'
)
_GONE = "; make a new webhook"
_WEBHOOK_WORDS = {
    "no_service": _GONE,
    "no_team": _GONE,
    "invalid_token": _GONE,
    "channel_not_found": _GONE,
    "channel_is_archived": "; unarchive the channel, or make a new webhook",
    "action_prohibited": "; a rule of the workspace forbids it",
}


def webhook_outcome(answer: HttpAnswer, now_ms: int) -> Outcome:
    """`ok`, or a status of 4xx and a word."""
    word = answer.text.strip()
    if answer.status == 200:
        if word == "ok":
            return Delivered(detail="HTTP 200: ok")
        return RetryAt(f"HTTP 200, but no webhook of Slack: {word}")
    return answer.refusal(now_ms, word + _WEBHOOK_WORDS.get(word, ""))


def _body(answer: HttpAnswer) -> Mapping[str, Any] | None:
    """Slack repeats the message in its answer, of which the beginning alone is read."""
    body = answer.json()
    if body is None and (long := _LONG_ANSWER.match(answer.text)):
        return {"ok": True, "channel": long[1], "ts": long[2]}
    return body


def error_code(answer: HttpAnswer) -> str:
    """The word for what is wrong, "" when nothing is."""
    body = _body(answer)
    if body is None:
        return "no_answer_of_slack"
    return "" if body.get("ok") is True else str(body.get("error") or "no_error_named")[:100]


def api_outcome(answer: HttpAnswer, now_ms: int) -> Outcome:
    """Slack answers 200 also when it refuses: `ok` says which. The reference is where the message
    stands, as CHANNEL/TIME."""
    if answer.status != 200:
        return answer.refusal(now_ms)
    code = error_code(answer)
    if not code:
        return Delivered(reference(_body(answer) or {}), "HTTP 200: ok")
    error = f"Slack: {code}"
    if code in _REFUSED:
        needed = f"; {hint}" if (hint := _REFUSED[code]) else ""
        return Permanent(error + needed)
    if code in _PASSING:
        return RetryAt(error, answer.not_before(now_ms))
    return RetryAt(f"{error}: {answer.text}", answer.not_before(now_ms))


def reference(body: Mapping[str, Any]) -> str:
    channel, ts = body.get("channel"), body.get("ts")
    return f"{channel}/{ts}" if isinstance(channel, str) and isinstance(ts, str) else ""


def channel_and_time(thread: str) -> tuple[str, str] | None:
    """Of a reference; None for one that another kind of receiver has left."""
    channel, _, ts = thread.partition("/")
    digits = ts.replace(".", "", 1)
    known = channel.isalnum() and channel.isascii() and digits.isascii() and digits.isdigit()
    return (channel, ts) if known else None
