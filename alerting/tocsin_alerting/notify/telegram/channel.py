"""Telegram: a message of a bot, in a private chat, a group, one of its topics, or a channel.

The first message of an incident is edited as the state changes, and what follows replies to it.
The Bot API (https://core.telegram.org/bots/api) is a few JSON calls, so none of its large Python
clients is used. From https://core.telegram.org/bots/faq: one message a second in a chat, 20 a
minute in a group.
"""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import NOTICE_REASONS, Delivered, Outcome, Permanent
from tocsin_alerting.notify.channel import AnswerIncident, ChannelDeps
from tocsin_alerting.notify.first_message import FirstMessages
from tocsin_alerting.notify.http_sender import HttpAnswer, HttpChannel, HttpRequest, json_request
from tocsin_alerting.notify.message_parts import MessageParts
from tocsin_alerting.notify.secret_keys import link_secrets, secret_of
from tocsin_alerting.notify.telegram.answers import (
    edit_outcome,
    new_chat,
    repaired,
    telegram_outcome,
)
from tocsin_alerting.notify.telegram.buttons import ButtonSigner, verbs_of
from tocsin_alerting.notify.telegram.message import edit_body, message_body, message_of
from tocsin_alerting.notify.telegram.settings import TelegramSettings, checked_token
from tocsin_alerting.notify.telegram.updates import TelegramUpdates

log = logging.getLogger(__name__)

_MOST_TRIES = 4  # of one message: as it is, and without what it was refused for


class Telegram(HttpChannel):
    rate = ("1/1s", "20/1m")

    def __init__(self, name: str, settings: TelegramSettings, deps: ChannelDeps) -> None:
        self._settings, self._templates = settings, deps.templates
        token = checked_token(secret_of(settings, "token", deps.vault).value)
        self._base = f"{settings.api_url.rstrip('/')}/bot{token}"
        super().__init__(name, settings, settings.api_url, (token,))
        self._chat_id = settings.chat_id
        self.first_message = FirstMessages(name)
        self._signer = ButtonSigner(token, name, deps.links)
        self.updates = TelegramUpdates(
            name, settings, self._ask, self._signer, deps.templates.answers, self._http.masked
        )

    async def send(
        self, notification: Notification, now_ms: int, transcript: list[str] | None = None
    ) -> Outcome:
        parts = self._templates.parts(notification, now_ms)
        thread = self._settings.message_thread_id
        keyboard = self._keyboard(notification, parts)
        is_notice = notification.reason in NOTICE_REASONS
        shown = None if is_notice else keyboard
        body = message_body(self._chat_id, notification, parts, thread=thread, keyboard=shown)
        first = message_of(notification.thread, self._chat_id)
        if first is not None:
            body["reply_parameters"] = {"message_id": first, "allow_sending_without_reply": True}
        outcome = await self._send(body, now_ms, transcript, link_secrets(parts))
        if isinstance(outcome, Delivered) and first is not None:
            changed = edit_body(self._chat_id, first, parts, keyboard)
            request = self._request("editMessageText", changed)
            edit = partial(self._http.send, request, now_ms, None, edit_outcome)
            secrets = link_secrets(parts)
            await self.first_message.change(notification.thread, partial(edit, secrets), now_ms)
        return outcome

    async def listen(self, answer: AnswerIncident) -> None:
        await self.updates.run(answer)

    async def close(self) -> None:
        await self.first_message.close()
        await super().close()

    def _keyboard(self, notification: Notification, parts: MessageParts) -> Mapping[str, Any]:
        answerable = self._settings.listens and bool(notification.incident)
        verbs = verbs_of(parts.kind, notification.state) if answerable else ()
        about = (notification.incident, notification.generation)
        return self._signer.keyboard(*about, verbs, self._templates.answers)

    async def _send(
        self,
        body: dict[str, Any],
        now_ms: int,
        transcript: list[str] | None,
        secrets: Sequence[str],
    ) -> Outcome:
        tries = 0
        while True:
            tries += 1
            refusals: list[Mapping[str, Any]] = []

            def read(answer: HttpAnswer, at_ms: int, into: list[Any] = refusals) -> Outcome:
                into.append(answer.json() or {})
                return telegram_outcome(answer, at_ms)

            request = self._request("sendMessage", body)
            outcome = await self._http.send(request, now_ms, transcript, read, secrets)
            again = repaired(body, refusals[0]) if refusals else None
            if not isinstance(outcome, Permanent) or again is None or tries == _MOST_TRIES:
                return outcome
            self._follow(refusals[0])
            body = again

    def _follow(self, refusal: Mapping[str, Any]) -> None:
        """A group that became a supergroup has another number, and takes messages there alone."""
        chat_id = new_chat(refusal)
        if chat_id is None:
            log.warning(
                "telegram message refused, sent otherwise: %s: %s",
                self.name,
                self._http.masked(str(refusal.get("description", ""))),
            )
        elif chat_id != self._chat_id:
            self._chat_id = chat_id
            self.updates.chat_id = chat_id
            log.warning(
                "telegram chat moved: the group of receiver %s is a supergroup now; "
                "write chat_id: %d into the configuration",
                self.name,
                chat_id,
            )

    async def _ask(
        self, method: str, body: Mapping[str, Any], limit_s: float | None = None
    ) -> HttpAnswer:
        return await self._http.ask(self._request(method, body), limit_s)

    def _request(self, method: str, body: Mapping[str, Any]) -> HttpRequest:
        return json_request(f"{self._base}/{method}", body)
