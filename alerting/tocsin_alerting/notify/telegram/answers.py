"""What an answer of the Bot API means for a message, and how a refused one can be sent after all.

Sources: https://core.telegram.org/bots/api, "Making requests" and ResponseParameters; the words of
refusals are those of github.com/tdlib/telegram-bot-api, telegram-bot-api/Client.cpp.
"""

from collections.abc import Mapping
from typing import Any

from tocsin_alerting.incidents.outbox_message import Delivered, Outcome, Permanent, RetryAt
from tocsin_alerting.notify.http_sender import MAX_WAIT_MS, HttpAnswer
from tocsin_alerting.notify.telegram.message import as_plain, message_reference

TOKEN_HINT = "the bot's token is wrong or was revoked; ask @BotFather for it"
_HINTS = {
    "chat not found": "check chat_id, and that the bot is in the group, or that the person has"
    " pressed Start in a chat with the bot",
    "bot was blocked by the user": "the person has to unblock the bot",
    "bot was kicked": "add the bot to the group again",
    "bot is not a member": "add the bot to the group or channel",
    "user is deactivated": "the account is gone; configure another chat_id",
    "not enough rights": "allow the bot to write in the group",
    "have no rights": "allow the bot to write in the group",
}


def telegram_outcome(answer: HttpAnswer, now_ms: int) -> Outcome:
    body = answer.json()
    if body is None or not isinstance(body.get("ok"), bool):
        if 200 <= answer.status < 300:
            return RetryAt(f"HTTP {answer.status}, but not from the Bot API: {answer.text}")
        return answer.outcome(now_ms)
    if body["ok"]:
        return _delivered(body)
    said = str(body.get("description") or "no description")
    text = f"HTTP {answer.status}: {said}"
    wait_ms = retry_after_ms(body)
    if wait_ms is not None:
        return RetryAt(text, now_ms + wait_ms)
    code = error_code(answer, body)
    if code in (401, 404):
        return Permanent(f"{text}; {TOKEN_HINT}")
    outcome = HttpAnswer(code, said).outcome(now_ms)
    if isinstance(outcome, RetryAt):
        return RetryAt(text, answer.not_before(now_ms))
    hint = next((hint for words, hint in _HINTS.items() if words in said.lower()), "")
    return Permanent(f"{text}; {hint}" if hint else text)


def edit_outcome(answer: HttpAnswer, now_ms: int) -> Outcome:
    """What looks so already needs no edit."""
    if "message is not modified" in str((answer.json() or {}).get("description", "")):
        return Delivered(detail="it looks so already")
    return telegram_outcome(answer, now_ms)


def _delivered(body: Mapping[str, Any]) -> Outcome:
    message = body.get("result")
    if not isinstance(message, dict) or not isinstance(message.get("message_id"), int):
        return RetryAt("HTTP 200, but without a message_id: not from the Bot API")
    chat = message.get("chat")
    chat_id = chat.get("id", "") if isinstance(chat, dict) else ""
    number = message["message_id"]
    return Delivered(message_reference(chat_id, number), f"HTTP 200: message {number}")


def error_code(answer: HttpAnswer, body: Mapping[str, Any]) -> int:
    """The status where the body has no sensible one, or somebody between us says "later"."""
    if answer.status == 429 or answer.status >= 500:
        return answer.status
    code = body.get("error_code")
    return code if isinstance(code, int) and 400 <= code < 600 else max(answer.status, 400)


def retry_after_ms(body: Mapping[str, Any]) -> int | None:
    """How long the answer asks to wait, an hour at most; None where it does not."""
    seconds = _parameter(body, "retry_after")
    return None if seconds is None or seconds < 0 else min(seconds * 1000, MAX_WAIT_MS)


def new_chat(body: Mapping[str, Any]) -> int | None:
    """The number of the supergroup that the group has become."""
    return _parameter(body, "migrate_to_chat_id")


def _parameter(body: Mapping[str, Any], name: str) -> int | None:
    parameters = body.get("parameters")
    value = parameters.get(name) if isinstance(parameters, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def repaired(body: Mapping[str, Any], refusal: Mapping[str, Any]) -> dict[str, Any] | None:
    """The message again without what it was refused for; None where that would not help. A page
    in the wrong topic, or without markup, is better than none."""
    said = str(refusal.get("description", "")).lower()
    if (chat_id := new_chat(refusal)) is not None and body.get("chat_id") != chat_id:
        # what it replies to has another number there
        return {**_without(body, "reply_parameters"), "chat_id": chat_id}
    if "can't parse entities" in said and "parse_mode" in body:
        return as_plain(body)
    if "thread not found" in said and "message_thread_id" in body:
        return _without(body, "message_thread_id")
    if "replied not found" in said and "reply_parameters" in body:
        return _without(body, "reply_parameters")
    if "button" in said and "reply_markup" in body:
        return _without(body, "reply_markup")
    return None


def _without(body: Mapping[str, Any], left_out: str) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name != left_out}
