"""Slack, by an incoming webhook, or by the Web API as an app with a token of its own.

slack_sdk is not used: its asynchronous client brings aiohttp, a second HTTP client beside the one
that all channels share, and of its hundreds of methods four are needed here.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from tocsin_alerting.incidents.actions import Verb
from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome, Permanent
from tocsin_alerting.notify.channel import AnswerIncident, Channel, ChannelDeps
from tocsin_alerting.notify.first_message import FirstMessages
from tocsin_alerting.notify.http_sender import (
    HttpChannel,
    HttpRequest,
    HttpSender,
    json_request,
    usable_url,
)
from tocsin_alerting.notify.message_parts import MessageParts
from tocsin_alerting.notify.room import calls_people, key_in, link_token
from tocsin_alerting.notify.secret import Secret
from tocsin_alerting.notify.signed_links import LinkTarget
from tocsin_alerting.notify.slack.answers import (
    THREAD_IS_GONE,
    api_outcome,
    channel_and_time,
    webhook_outcome,
)
from tocsin_alerting.notify.slack.message import slack_message
from tocsin_alerting.notify.slack.settings import SlackSettings
from tocsin_alerting.notify.slack.socket_mode import SocketMode

_FIRST_ANSWERS = (Verb.ACK, Verb.SNOOZE, Verb.RESOLVE)
_LATER_ANSWERS = (Verb.RESOLVE, Verb.UNACK)


def slack(name: str, settings: SlackSettings, deps: ChannelDeps) -> Channel:
    """The one that the keys of `settings` ask for."""
    if not settings.has_token:
        return SlackWebhook(name, settings, deps)
    return (
        SlackButtons(name, settings, deps)
        if settings.has_buttons
        else SlackApp(name, settings, deps)
    )


class SlackWebhook(HttpChannel):
    """It is told nothing of what it posted: each message stands for itself."""

    at_once = 1  # Slack takes one message a second

    def __init__(self, name: str, settings: SlackSettings, deps: ChannelDeps) -> None:
        self._mention, self._templates = settings.mention, deps.templates
        secret = deps.vault.secret(settings.url_file, settings.url_env)
        self._url = Secret(usable_url(secret.value if secret else ""))
        super().__init__(name, settings, self._url.value, key_in(self._url))

    async def send(
        self, notification: Notification, now_ms: int, transcript: list[str] | None = None
    ) -> Outcome:
        parts = self._templates.parts(notification, now_ms)
        body = slack_message(parts, calls_people(notification, self._mention))
        request = json_request(self._url.value, body)
        secrets = (link_token(parts),)
        return await self._http.send(request, now_ms, transcript, webhook_outcome, secrets)


class SlackApp(HttpChannel):
    """The first message of an incident says how it stands, and what follows is its thread: it is
    changed after each message. Pages in the thread are shown in the channel as well."""

    at_once = 1  # Slack takes one message a second and channel

    def __init__(self, name: str, settings: SlackSettings, deps: ChannelDeps) -> None:
        self._settings, self._templates, self._links = settings, deps.templates, deps.links
        self._token = deps.vault.secret(settings.token_file, settings.token_env) or Secret("")
        app_token = deps.vault.secret(settings.app_token_file, settings.app_token_env)
        self._app_token = app_token or Secret("")
        self._api = settings.api_url.rstrip("/")
        tokens = (self._token.value, self._app_token.value)
        super().__init__(name, settings, self._api, tokens)
        self.first_message = FirstMessages(name)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name}, {self._settings.channel})"

    async def send(
        self, notification: Notification, now_ms: int, transcript: list[str] | None = None
    ) -> Outcome:
        parts = self._templates.parts(notification, now_ms)
        mentions = calls_people(notification, self._settings.mention)
        first = channel_and_time(notification.thread)
        secrets = (link_token(parts),)
        buttons, value = self._buttons(notification, parts)

        async def call(method: str, message: Mapping[str, Any]) -> Outcome:
            request = self._request(method, message)
            return await self._http.send(request, now_ms, transcript, api_outcome, secrets)

        if first is None:
            message = slack_message(parts, mentions, buttons, value)
            return await call("chat.postMessage", self._to_channel(notification, message))
        reply = self._to_channel(notification, slack_message(parts, mentions))
        channel, ts = first
        shown = {"thread_ts": ts, "reply_broadcast": parts.kind == "firing"}
        outcome = await call("chat.postMessage", {**reply, "channel": channel, **shown})
        if isinstance(outcome, Permanent) and _thread_is_gone(outcome):
            message = slack_message(parts, mentions, buttons, value)
            return await call("chat.postMessage", self._to_channel(notification, message))
        if isinstance(outcome, Delivered):
            changed = slack_message(parts, (), buttons, value)
            edit = partial(call, "chat.update", {**changed, "channel": channel, "ts": ts})
            await self.first_message.change(notification.thread, edit, now_ms)
        return outcome

    async def close(self) -> None:
        await self.first_message.close()
        await super().close()

    def _buttons(
        self, notification: Notification, parts: MessageParts
    ) -> tuple[Sequence[tuple[str, str]], str]:
        """Verbs with their labels, and what each button carries."""
        return (), ""

    def _to_channel(self, notification: Notification, message: Mapping[str, Any]) -> dict[str, Any]:
        """By the metadata other apps know a message again that came twice."""
        payload = {"key": notification.key, "incident": notification.incident}
        metadata = {"event_type": "tocsin_message", "event_payload": payload}
        quiet = {"unfurl_links": False, "unfurl_media": False, "metadata": metadata}
        return {**message, "channel": self._settings.channel, **quiet}

    def _request(self, method: str, message: Mapping[str, Any]) -> HttpRequest:
        headers = {
            "Authorization": f"Bearer {self._token.value}",
            "Content-Type": "application/json; charset=utf-8",
        }
        return json_request(f"{self._api}/{method}", message, headers)


def _thread_is_gone(outcome: Permanent) -> bool:
    return outcome.error.removeprefix("Slack: ") in THREAD_IS_GONE


class SlackButtons(SlackApp):
    """With buttons, whose presses come by Socket Mode: nobody has to reach this machine."""

    def __init__(self, name: str, settings: SlackSettings, deps: ChannelDeps) -> None:
        super().__init__(name, settings, deps)
        tokens = (self._app_token, self._token)
        sender = HttpSender(name, settings, self._api, [token.value for token in tokens])
        self._socket = SocketMode(
            name, settings, self._links, sender, tokens, deps.templates.answers
        )
        self._labels = deps.templates.answers

    async def listen(self, answer: AnswerIncident) -> None:
        await self._socket.listen(answer)

    async def close(self) -> None:
        await self._socket.close()
        await super().close()

    def _buttons(
        self, notification: Notification, parts: MessageParts
    ) -> tuple[Sequence[tuple[str, str]], str]:
        uid = notification.key.partition("/")[0]
        target = LinkTarget(notification.incident, uid, "", self.name, notification.generation)
        value = self._links.token(target)
        if not notification.incident or self._links.target(value) is None:
            return (), ""  # without a key nothing that comes back could be trusted
        if parts.kind not in ("firing", "unknown", "acked"):
            return (), ""
        owned = notification.state == "ACKED"
        verbs = _LATER_ANSWERS if owned else _FIRST_ANSWERS
        return [(verb.value, self._labels[verb.value]) for verb in verbs], value
