"""Slack's Socket Mode: who pressed which button, over a WebSocket that we open.

Sources: docs.slack.dev, apis/events-api/using-socket-mode and reference/interaction-payloads/
block_actions-payload. Each envelope is acknowledged within 3 s, or Slack tells who pressed that it
failed. So it is acknowledged when the answer is recorded, and not before: a press is never lost in
silence. The same press may come again: it is done once.
"""

import asyncio
import json
import logging
import re
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidURI, WebSocketException

from tocsin_alerting.http import Lookup, error_text, tls_context
from tocsin_alerting.incidents.actions import Action, Verb
from tocsin_alerting.notify.channel import AnswerIncident
from tocsin_alerting.notify.http_sender import HttpSender, SendFailed, json_request
from tocsin_alerting.notify.secret import Secret, masked
from tocsin_alerting.notify.signed_links import SignedLinks
from tocsin_alerting.notify.slack.answers import error_code
from tocsin_alerting.notify.slack.message import escape_mrkdwn
from tocsin_alerting.notify.slack.settings import SlackSettings

log = logging.getLogger(__name__)
_wire = logging.getLogger(f"{__name__}.wire")  # its lines hold the ticket
_wire.disabled = True

SNOOZE_MS = 30 * 60_000
_MOST_PRESSES = 1000  # that are remembered, to know one that comes again
_MOST_SOCKETS = 4  # that are still to be closed by Slack
_MOST_AT_ONCE = 32
_REFRESH_PAUSE_S = 0.25
_CLOSE_S = 1.0  # Slack does not end its side (slackapi/node-slack-sdk issue 2752)
_TIME = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")
_VERBS = frozenset({Verb.ACK, Verb.UNACK, Verb.RESOLVE, Verb.SNOOZE})


class SocketLost(Exception):
    """The connection is no more; the text says why, without a secret."""


@dataclass(frozen=True, slots=True)
class Press:
    """`key` is the same for each time that Slack tells of it; `name` is what Slack calls `user`."""

    key: str
    user: str
    name: str
    channel: str
    verb: Verb
    value: str
    at_ms: int


def press_of(envelope: Mapping[str, Any]) -> Press | None:
    """The press of one of our buttons; None for all else."""
    payload = _mapping(envelope.get("payload"))
    actions = payload.get("actions")
    if payload.get("type") != "block_actions" or not isinstance(actions, list) or not actions:
        return None
    action, user = _mapping(actions[0]), _mapping(payload.get("user"))
    verb, at = action.get("action_id"), str(action.get("action_ts", ""))
    if verb not in list(_VERBS) or not _TIME.fullmatch(at) or not user.get("id"):
        return None
    who = str(user["id"])[:50]
    name = str(user.get("username") or user.get("name") or who)
    return Press(
        key=f"slack/{who}/{at}/{verb}",
        user=who,
        name="".join(char for char in name if char.isprintable())[:80],
        channel=str(_mapping(payload.get("channel")).get("id", "")),
        verb=Verb(verb),
        value=str(action.get("value", "")),
        at_ms=int(float(at) * 1000),
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


class SocketMode:
    """`tokens` are those of the app and of the bot; `words` tell who may not answer."""

    def __init__(
        self,
        name: str,
        settings: SlackSettings,
        links: SignedLinks,
        http: HttpSender,
        tokens: tuple[Secret, Secret],
        words: Mapping[str, str],
    ) -> None:
        self._name, self._settings, self._links, self._http = name, settings, links, http
        self._app_token, self._bot_token = tokens
        self._words = words
        self._api = settings.api_url.rstrip("/")
        ca_file = str(settings.ca_file) if settings.ca_file else None
        self._tls = tls_context(ca_file, verify=not settings.insecure_skip_verify)
        self._lookup = Lookup(f"{name} socket")
        self._done: OrderedDict[str, asyncio.Task[str]] = OrderedDict()
        self._places = asyncio.Semaphore(_MOST_AT_ONCE)

    async def listen(self, answer: AnswerIncident) -> None:
        """Until it is cancelled. Raises SocketLost when there is no connection any more; when Slack
        wants to close one, the next is open before that."""
        readers: set[asyncio.Task[None]] = set()
        try:
            while True:
                connection = await self._connected()
                leaving: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                reader = asyncio.create_task(self._read(connection, leaving, answer))
                readers = {one for one in readers if not one.done()} | {reader}
                await asyncio.wait({reader, leaving}, return_when=asyncio.FIRST_COMPLETED)
                if not leaving.done():
                    reader.result()  # raises
                if len(readers) > _MOST_SOCKETS:
                    raise SocketLost("Slack refreshes the connection again and again")
                await asyncio.sleep(_REFRESH_PAUSE_S)
        except SocketLost as lost:
            log.warning("slack %s lost its socket, retrying: %s", self._name, lost)
            raise
        finally:
            for one in readers:
                one.cancel()
            await asyncio.gather(*readers, return_exceptions=True)

    async def close(self) -> None:
        for task in self._done.values():
            task.cancel()
        await asyncio.gather(*self._done.values(), return_exceptions=True)
        await self._http.close()

    async def _connected(self) -> ClientConnection:
        url = await self._socket_url()
        parts = urlsplit(url)
        secure = parts.scheme == "wss"
        more: dict[str, Any] = {"proxy": True}
        try:
            if not self._settings.proxy_from_environment:
                port = parts.port or (443 if secure else 80)
                more = {"sock": await self._lookup.connect(parts.hostname or "", port)}
            return await connect(
                url,
                ssl=self._tls if secure else None,
                compression=None,
                logger=_wire,
                user_agent_header="Tocsin",
                open_timeout=self._settings.timeout / 1000,
                close_timeout=_CLOSE_S,
                **more,
            )
        except (OSError, WebSocketException, InvalidURI, ValueError) as error:
            text = masked(error_text(error), (url, parts.query, parts.path))
            raise SocketLost(f"{parts.scheme}://{parts.hostname}: {text}") from None

    async def _socket_url(self) -> str:
        headers = {"Authorization": f"Bearer {self._app_token.value}"}
        request = json_request(f"{self._api}/apps.connections.open", {}, headers)
        try:
            answer = await self._http.ask(request)
        except SendFailed as error:
            raise SocketLost(str(error)) from None
        code = error_code(answer)
        if answer.status != 200 or code:
            said = code if answer.status == 200 else self._http.masked(answer.text)
            raise SocketLost(f"apps.connections.open: HTTP {answer.status} {said}".rstrip())
        url = str((answer.json() or {}).get("url", ""))
        schemes = ("wss",) if self._api.startswith("https:") else ("wss", "ws")
        if urlsplit(url).scheme not in schemes:
            raise SocketLost("apps.connections.open names no address to connect to")
        return url

    async def _read(
        self,
        connection: ClientConnection,
        leaving: asyncio.Future[None],
        answer: AnswerIncident,
    ) -> None:
        """Until the other side closes it. `leaving` is done when it is time for the next one."""
        handling: set[asyncio.Task[None]] = set()
        try:
            async for text in connection:
                envelope = _json_object(text)
                if envelope.get("type") == "hello":
                    log.info("slack %s listens for answers", self._name)
                elif envelope.get("type") == "disconnect":
                    _refuse_switched_off(envelope)
                    if not leaving.done():
                        leaving.set_result(None)
                elif isinstance(envelope.get("envelope_id"), str):
                    await self._places.acquire()
                    task = asyncio.create_task(self._handle(connection, envelope, answer))
                    handling.add(task)
                    task.add_done_callback(handling.discard)
                    task.add_done_callback(lambda _: self._places.release())
            raise SocketLost("Slack closed the connection")
        except ConnectionClosed:
            raise SocketLost("the connection broke") from None
        finally:
            for task in handling:
                task.cancel()
            await connection.close()

    async def _handle(
        self, connection: ClientConnection, envelope: Mapping[str, Any], answer: AnswerIncident
    ) -> None:
        press = press_of(envelope)
        said, is_new = "", False
        if press is not None:
            is_new = press.key not in self._done
            said = await asyncio.shield(self._answered(press, answer))
        with suppress(ConnectionClosed):  # it comes again by another one, and is known then
            await connection.send(json.dumps({"envelope_id": envelope["envelope_id"]}))
        if press is not None and is_new:
            await self._tell(press, said)

    def _answered(self, press: Press, answer: AnswerIncident) -> asyncio.Task[str]:
        """What is done about it, once."""
        if press.key not in self._done:
            self._done[press.key] = asyncio.create_task(self._act(press, answer))
            while len(self._done) > _MOST_PRESSES:
                self._done.popitem(last=False)
        return self._done[press.key]

    async def _act(self, press: Press, answer: AnswerIncident) -> str:
        target = self._links.target(press.value)
        if target is None or target.receiver != self._name:
            log.warning("slack %s refused an answer: unknown button", self._name)
            return self._words["unknown"]
        contact = self._settings.users.get(press.user, "")
        if not contact and not self._settings.anyone:
            log.warning("slack %s refused an answer of %s: not listed", self._name, press.user)
            return self._words["stranger"].format(number=press.user)
        return await answer(
            Action(
                press.verb,
                target.incident,
                actor=contact or f"slack:{press.name}",
                request_id=press.key,
                until_ms=press.at_ms + SNOOZE_MS if press.verb is Verb.SNOOZE else None,
                via=f"slack {self._name}",
                generation=target.generation,
            )
        )

    async def _tell(self, press: Press, said: str) -> None:
        """To who pressed alone; the others see it by the message that changes."""
        message = {"channel": press.channel, "user": press.user, "text": escape_mrkdwn(said)}
        headers = {
            "Authorization": f"Bearer {self._bot_token.value}",
            "Content-Type": "application/json; charset=utf-8",
        }
        try:
            answer = await self._http.ask(
                json_request(f"{self._api}/chat.postEphemeral", message, headers)
            )
        except SendFailed as error:
            log.warning("slack %s failed to reply: %s", self._name, error)
        else:
            if answer.status != 200 or error_code(answer):
                said = self._http.masked(error_code(answer) or str(answer.status))
                log.warning("slack %s failed to reply: %s", self._name, said)


def _json_object(text: str | bytes) -> Mapping[str, Any]:
    try:
        return _mapping(json.loads(text))
    except (ValueError, RecursionError):
        log.warning("slack sent what is no JSON")
        return {}


def _refuse_switched_off(envelope: Mapping[str, Any]) -> None:
    if envelope.get("reason") == "link_disabled":
        raise SocketLost("Socket Mode is switched off in the settings of the app")
