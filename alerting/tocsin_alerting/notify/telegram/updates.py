"""Who pressed which button: getUpdates by long polling, so that nobody has to reach this machine.

An update counts as read only when the next ones are asked for, which is after it was done: an agent
that is killed before reads it again, and the same press is one action by its `request_id`. Source:
https://core.telegram.org/bots/api, getUpdates, CallbackQuery, answerCallbackQuery.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tocsin_alerting.incidents.actions import Action, Verb
from tocsin_alerting.notify.channel import AnswerIncident
from tocsin_alerting.notify.chat_text import cut
from tocsin_alerting.notify.http_sender import HttpAnswer, SendFailed
from tocsin_alerting.notify.telegram.answers import TOKEN_HINT, error_code, retry_after_ms
from tocsin_alerting.notify.telegram.buttons import SNOOZE_MS, ButtonPress, ButtonSigner
from tocsin_alerting.notify.telegram.settings import TelegramSettings

log = logging.getLogger(__name__)

AskTelegram = Callable[[str, Mapping[str, Any], float | None], Awaitable[HttpAnswer]]

_POLL_SECONDS = 25  # of waiting at Telegram's
_POLL_LIMIT_SECONDS = 40.0  # until the answer is here
_SHORT_SECONDS = 5.0  # for what shows a person that his press has arrived
_FEWEST, _MOST = 1, 10  # updates at once: one may be 50 KB, and of an answer 64 KiB are read
_MOST_STRANGERS = 3  # of one answer who are told that they may not
_CONFIRM_SECONDS = 60.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
_CONFLICT_PAUSE_S = 10.0
_MOST_TEXT, _MOST_NAME = 200, 64
_UPDATE_ID = re.compile(r'"update_id"\s*:\s*([0-9]{1,18})')


@dataclass(frozen=True, slots=True)
class TelegramPress:
    """A callback query: `chat_id` and `message_id` are of the message with the button, 0 where
    Telegram does not say."""

    id: str
    user_id: int
    user_name: str
    data: str
    chat_id: int = 0
    chat_name: str = ""
    message_id: int = 0


class PollRefused(Exception):
    """Why no updates come, in words, and how long to wait."""

    def __init__(self, words: str, pause_s: float | None = None) -> None:
        super().__init__(words)
        self.pause_s = pause_s


class TelegramUpdates:
    """`sleep` waits so many seconds; `chat_id` is where whoever is there may answer."""

    def __init__(
        self,
        name: str,
        settings: TelegramSettings,
        ask: AskTelegram,
        signer: ButtonSigner,
        words: Mapping[str, str],
        masked: Callable[[str], str] = str,
    ) -> None:
        self.chat_id = settings.chat_id
        self.sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
        self._name, self._settings, self._ask = name, settings, ask
        self._signer, self._words, self._masked = signer, words, masked
        self._offset: int | None = None
        self._limit = _MOST
        self._trouble = ""
        self._confirmed: dict[tuple[int, int], tuple[float, str]] = {}

    async def run(self, answer: AnswerIncident) -> None:
        """Until it is cancelled; at once where nobody may answer."""
        pause_s = _FIRST_PAUSE_S
        while self._settings.listens:
            began_s = asyncio.get_running_loop().time()
            try:
                updates = await self._poll()
            except (PollRefused, SendFailed) as error:
                self._tell(self._masked(str(error)))
                await self.sleep(getattr(error, "pause_s", None) or pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
                continue
            self._recovered()
            pause_s = _FIRST_PAUSE_S
            await self._take(updates, answer)
            if not updates and asyncio.get_running_loop().time() - began_s < _FIRST_PAUSE_S:
                await self.sleep(_FIRST_PAUSE_S)  # somebody between us lets nobody wait
        await asyncio.Event().wait()

    async def _poll(self) -> Sequence[Mapping[str, Any]]:
        """Raises SendFailed and PollRefused."""
        body: dict[str, Any] = {
            "timeout": _POLL_SECONDS,
            "limit": self._limit,
            "allowed_updates": ["callback_query"],
        }
        if self._offset is not None:
            body["offset"] = self._offset
        answer = await self._ask("getUpdates", body, _POLL_LIMIT_SECONDS)
        said = answer.json()
        if said is None or not isinstance(said.get("ok"), bool):
            self._skip_what_is_too_long(answer)
            raise PollRefused(f"HTTP {answer.status}, but not from the Bot API")
        if not said["ok"]:
            raise refusal(answer, said)
        updates = said.get("result")
        if not isinstance(updates, list):
            raise PollRefused("the Bot API gave no list of updates")
        self._limit = _MOST
        return [update for update in updates if isinstance(update, dict)]

    def _skip_what_is_too_long(self, answer: HttpAnswer) -> None:
        """What was cut cannot be read: fewer at once, and the one that is too long alone is left
        out, or no press would ever be read again."""
        first = _UPDATE_ID.search(answer.text)
        if answer.status == 200 and self._limit == _FEWEST and first:
            log.error("telegram update lost: longer than 64 KiB: %s: %s", self._name, first[1])
            self._offset = int(first[1]) + 1
        self._limit = _FEWEST

    async def _take(self, updates: Sequence[Mapping[str, Any]], answer: AnswerIncident) -> None:
        """After a week without any, their numbers begin anew, perhaps below the last one."""
        strangers, highest = 0, -1
        for update in updates:
            press = press_of(update)
            if press is not None:
                known = self._actor(press)
                strangers += not known
                if known or strangers <= _MOST_STRANGERS:
                    await self._answer(press, known, answer)
            number = update.get("update_id")
            if isinstance(number, int):
                highest = max(number, highest)
                self._offset = highest + 1
            await asyncio.sleep(0)  # a page has its turn between two of them

    async def _answer(self, press: TelegramPress, actor: str, answer: AnswerIncident) -> None:
        button, refused = self._signer.press(press.data), True
        if not actor:
            said = self._words["stranger"].format(number=press.user_id)
        elif button is None:
            said = self._words["unknown"]
        elif button.verb is Verb.RESOLVE and not self._is_confirmed(press, button):
            said = self._words["again"].format(number=button.incident)
        else:
            said, refused = await answer(self._action(press, button, actor)), False
            await self._change_buttons(press, button)
        shown = {
            "callback_query_id": press.id,
            "text": cut(said, _MOST_TEXT),
            "show_alert": refused,
        }
        await self._quietly("answerCallbackQuery", shown)

    def _action(self, press: TelegramPress, button: ButtonPress, actor: str) -> Action:
        return Action(
            button.verb,
            button.incident,
            actor=actor,
            request_id=f"telegram/{self._name}/{press.id}",
            via=f"telegram {self._name}",
            lasts_ms=SNOOZE_MS if button.verb is Verb.SNOOZE else 0,
            generation=button.generation,
        )

    def _actor(self, press: TelegramPress) -> str:
        """Who that is; "" for one who may not answer."""
        if contact := self._settings.users.get(str(press.user_id)):
            return contact
        here = press.chat_id == self.chat_id or f"@{press.chat_name}" == self.chat_id
        return f"telegram:{press.user_name}" if self._settings.anyone and here else ""

    def _is_confirmed(self, press: TelegramPress, button: ButtonPress) -> bool:
        """The thumb that slips must not end an incident: the second press within a minute does, and
        not the first one told twice."""
        now_s, who = asyncio.get_running_loop().time(), (press.user_id, button.incident)
        self._confirmed = {
            other: asked
            for other, asked in self._confirmed.items()
            if now_s - asked[0] <= _CONFIRM_SECONDS
        }
        if who in self._confirmed and self._confirmed[who][1] != press.id:
            del self._confirmed[who]
            return True
        self._confirmed[who] = (now_s, press.id)
        return False

    async def _change_buttons(self, press: TelegramPress, button: ButtonPress) -> None:
        """Those that still make sense. Who acknowledged gets no message about it, by which the
        buttons would change."""
        if not press.message_id or button.verb is Verb.SNOOZE:
            return
        verbs = (Verb.SNOOZE, Verb.RESOLVE) if button.verb is Verb.ACK else ()
        about = (button.incident, button.generation)
        keyboard = self._signer.keyboard(*about, verbs, self._words)
        where = {"chat_id": press.chat_id, "message_id": press.message_id}
        await self._quietly("editMessageReplyMarkup", {**where, "reply_markup": keyboard})

    async def _quietly(self, method: str, body: Mapping[str, Any]) -> None:
        """It is done; that nobody sees it is no reason to do it again."""
        try:
            await self._ask(method, body, _SHORT_SECONDS)
        except SendFailed as error:
            log.info("telegram press not answered: %s: %s", self._name, error)

    def _tell(self, words: str) -> None:
        """Once for each trouble, until it is over."""
        if words != self._trouble:
            self._trouble = words
            log.error("telegram buttons of %s failed, retrying: %s", self._name, words)

    def _recovered(self) -> None:
        if self._trouble:
            self._trouble = ""
            log.info("telegram buttons of %s recovered", self._name)


def refusal(answer: HttpAnswer, body: Mapping[str, Any]) -> PollRefused:
    """What the Bot API says against being asked, and what to do about it."""
    said = str(body.get("description") or f"HTTP {answer.status}")
    code = error_code(answer, body)
    if code == 409 and "webhook" in said.lower():
        return PollRefused(
            "the bot has a webhook, which gets the presses instead; remove it with the Bot API's "
            "deleteWebhook, or use another bot",
            _LONGEST_PAUSE_S,
        )
    if code == 409:
        return PollRefused(
            "another program reads the presses of the same bot, and each gets only some of them; "
            "give every agent a bot of its own",
            _CONFLICT_PAUSE_S,
        )
    if code in (401, 404):
        return PollRefused(TOKEN_HINT, _LONGEST_PAUSE_S)
    wait_ms = retry_after_ms(body)
    return PollRefused(said, None if wait_ms is None else wait_ms / 1000)


def press_of(update: Mapping[str, Any]) -> TelegramPress | None:
    """None for an update that is no press of a button, or not as it should be."""
    query = update.get("callback_query")
    if not isinstance(query, dict):
        return None
    user, message = query.get("from"), query.get("message")
    if not isinstance(query.get("id"), str) or not isinstance(query.get("data"), str):
        return None
    if not isinstance(user, dict) or not isinstance(user.get("id"), int):
        return None
    message = message if isinstance(message, dict) else {}
    chat = message.get("chat")
    chat = chat if isinstance(chat, dict) else {}
    chat_id, number = chat.get("id"), message.get("message_id")
    return TelegramPress(
        id=query["id"],
        user_id=user["id"],
        user_name=_name(user),
        data=query["data"],
        chat_id=chat_id if isinstance(chat_id, int) else 0,
        chat_name=str(chat.get("username") or ""),
        message_id=number if isinstance(number, int) else 0,
    )


def _name(user: Mapping[str, Any]) -> str:
    """As people call him there; whoever has no name has a number."""
    names = [user.get("username")] if user.get("username") else [user.get("first_name")]
    text = " ".join(str(name) for name in names if name)
    shown = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return shown[:_MOST_NAME] or str(user["id"])
