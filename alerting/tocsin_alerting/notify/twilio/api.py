"""Twilio's REST API of 2010-04-01: what is asked, and what its answers mean for a message.

Written from www.twilio.com/docs/voice/api/call, the pages of /docs/api/errors that the codes below
name (that of 30017 tells of MMS alone), support.twilio.com 223181868, and the source of the client
library (twilio-python). That library waits in threads and knows no outcome: two requests of a form
each need no client.
"""

import asyncio
import base64
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome, Permanent, RetryAt
from tocsin_alerting.notify.channel import ChannelDeps
from tocsin_alerting.notify.contact_ways import masked_number
from tocsin_alerting.notify.http_sender import (
    HttpAnswer,
    HttpRequest,
    HttpSender,
    SendFailed,
    http_outcome,
)
from tocsin_alerting.notify.rehearsal import rehearsing
from tocsin_alerting.notify.secret import masked
from tocsin_alerting.notify.twilio.settings import TwilioSettings

_FORM = {"Content-Type": "application/x-www-form-urlencoded"}
# No number to reach, whoever tries again: not valid, a landline, a short code, unsubscribed (STOP).
NOBODY_THERE = frozenset({21211, 21214, 21217, 21265, 21610, 21614, 21635, 30005, 30006})
# Too many: 20429 of the API, 14107 between two numbers; 21611 and 30001: a queue that is full.
TOO_MANY = frozenset({14107, 20429, 21611, 30001, 30022, 63017})
# The handset was off or out of reach, or the carrier did not say why.
UNREACHABLE_NOW = frozenset({30003, 30008, 30017})
RATE_WAIT_MS = 30_000
RESEND_MS = 60_000
_MOST_REMEMBERED = 1000


@dataclass(frozen=True, slots=True)
class TwilioAccount:
    """Who asks. `token` is the auth token, which also signs what Twilio asks of us; "" without."""

    sid: str
    login: str
    token: str
    secrets: tuple[str, ...]

    @classmethod
    def of(cls, settings: TwilioSettings, deps: ChannelDeps) -> "TwilioAccount":
        """Raises ValueError when a secret cannot be read."""
        token = deps.vault.secret(settings.auth_token_file, settings.auth_token_env)
        key = deps.vault.secret(settings.api_key_secret_file, settings.api_key_secret_env)
        user = settings.api_key_sid if key else settings.account_sid
        password = key.value if key else token.value if token else ""
        login = base64.b64encode(f"{user}:{password}".encode()).decode()
        secrets = (login, password, token.value if token else "")
        return cls(settings.account_sid, login, token.value if token else "", secrets)

    def __repr__(self) -> str:
        return f"TwilioAccount({self.sid[:6]}…)"


@dataclass(frozen=True, slots=True)
class Underway:
    """What is known of one message to one number: `sid` while Twilio has it, `done` once it
    arrived, `missed` how often nobody answered."""

    sid: str = ""
    done: bool = False
    missed: int = 0


class Remembered:
    """Of the newest messages what Twilio has of them: a try again asks for its state first, and
    does not call or write a second time. A restart forgets it: somebody may be called twice."""

    def __init__(self, most: int = _MOST_REMEMBERED) -> None:
        self._most = most
        self._known: OrderedDict[tuple[str, str], Underway] = OrderedDict()

    def of(self, key: str, number: str) -> Underway:
        return self._known.get((key, number), Underway())

    def forget(self, key: str, numbers: Sequence[str]) -> None:
        """The message is through with all of them."""
        for number in numbers:
            self._known.pop((key, number), None)

    def keep(self, key: str, number: str, known: Underway) -> None:
        self._known.pop((key, number), None)
        self._known[key, number] = known
        if len(self._known) > self._most:
            self._known.popitem(last=False)


@dataclass(frozen=True, slots=True)
class Progress:
    """What a state of a message or a call means: `outcome` None while it is on its way; `over`
    when Twilio is through with it, and another try is another message."""

    outcome: Outcome | None
    over: bool = False
    missed: bool = False


ReadState = Callable[[Mapping[str, Any], str, int], Progress]
"""Of the resource as Twilio has it, the masked number and a time in ms."""


def created(answer: HttpAnswer, now_ms: int) -> Outcome:
    """What the answer to a new message or call means: `Delivered` is that Twilio has it."""
    data = answer.json() or {}
    sid, code = data.get("sid"), data.get("code")
    if 200 <= answer.status < 300:
        if isinstance(sid, str) and sid:
            return Delivered(sid, "Twilio has it")
        return RetryAt(f"HTTP {answer.status} without the sid of what was asked for")
    if not isinstance(code, int) or answer.status >= 500:
        retry_after = answer.headers.get("retry-after")
        return http_outcome(answer.status, retry_after, now_ms, answer.text)
    return refusal(code, str(data.get("message") or ""), answer.not_before(now_ms), now_ms)


def refusal(code: int, words: str, not_before_ms: int | None, now_ms: int) -> Outcome:
    """By the code of Twilio's table of errors; one that is not named here may be mended."""
    text = f"Twilio error {code}" + (f": {words}" if words else "")
    if code in NOBODY_THERE:
        return Permanent(text, final=True)
    if code in TOO_MANY:
        return RetryAt(text, not_before_ms or now_ms + RATE_WAIT_MS)
    if code in UNREACHABLE_NOW:
        return RetryAt(text, now_ms + RESEND_MS)
    return Permanent(text)


class TwilioClient:
    """Messages or calls (`what`) of one receiver."""

    def __init__(
        self, name: str, what: str, settings: TwilioSettings, account: TwilioAccount
    ) -> None:
        base = settings.api_url.rstrip("/")
        self._base = f"{base}/2010-04-01/Accounts/{account.sid}/{what}"
        headers = {"Authorization": f"Basic {account.login}"}
        self.http = HttpSender(name, settings, base, account.secrets, headers)
        self._poll_s = settings.poll / 1000
        self._remembered = Remembered()

    def settled(
        self, notification: Notification, numbers: Sequence[str], outcomes: Sequence[Outcome]
    ) -> Outcome:
        """What comes of a message to several numbers."""
        outcome = combined(outcomes)
        if isinstance(outcome, Delivered):
            self._remembered.forget(notification.key, numbers)
        return outcome

    async def send_to(
        self,
        notification: Notification,
        number: str,
        fields: Mapping[str, str],
        now_ms: int,
        transcript: list[str],
        state: ReadState,
        patience_s: float,
        secrets: Sequence[str],
    ) -> Outcome:
        """Until it arrived, failed, or `patience_s` are over. What Twilio has already, from a try
        before, is asked for and not sent again."""
        key, loop = notification.key, asyncio.get_running_loop()
        known, began = self._remembered.of(key, number), loop.time()
        if known.done:
            return Delivered(known.sid, "arrived before")
        if not known.sid:
            request = HttpRequest(
                f"{self._base}.json", urlencode({"To": number, **fields}).encode(), _FORM
            )
            outcome = await self.http.send(request, now_ms, transcript, created, [*secrets, number])
            if not isinstance(outcome, Delivered) or rehearsing():
                return outcome
            known = replace(known, sid=outcome.reference)
            self._remembered.keep(key, number, known)

        def elapsed_ms() -> int:
            return now_ms + round((loop.time() - began) * 1000)

        progress = await self._followed(known, number, state, elapsed_ms, patience_s, transcript)
        progress = replace(progress, outcome=self._covered(progress.outcome, [number, *secrets]))
        missed = known.missed + progress.missed
        if isinstance(progress.outcome, Delivered):
            known = replace(known, done=True)
        elif progress.over:
            known = Underway(missed=missed)
        self._remembered.keep(key, number, known)
        if progress.missed and missed > 1:  # that he be told in another way, while it rings again
            assert isinstance(progress.outcome, RetryAt)
            return Permanent(f"{progress.outcome.error}, {missed} times")
        return progress.outcome or RetryAt("unknown state")

    async def _followed(
        self,
        known: Underway,
        number: str,
        state: ReadState,
        now: Callable[[], int],
        patience_s: float,
        transcript: list[str],
    ) -> Progress:
        shown, last, until = masked_number(number), "", now() + round(patience_s * 1000)
        while True:
            try:
                answer = await self.http.ask(self._request(known.sid))
            except SendFailed as error:
                last = f"Twilio does not say what became of it: {error}"
            else:
                if answer.status == 404:  # removed by hand, or of another account
                    return Progress(RetryAt(f"{shown}: Twilio does not have it"), over=True)
                data = answer.json() or {}
                progress = state(data, shown, now())
                last = f"{shown}: {data.get('status') or f'HTTP {answer.status}'}"
                if progress.outcome is not None:
                    transcript.append(f"< {last}")
                    return progress
            if now() >= until:
                transcript.append(f"! {last}, still")
                return Progress(RetryAt(f"{last}, and nothing more after {patience_s:g} s"))
            await asyncio.sleep(self._poll_s)

    def _covered(self, outcome: Outcome | None, secrets: Sequence[str]) -> Outcome | None:
        """Without what Twilio repeats of the message in its words on what went wrong."""
        if not isinstance(outcome, RetryAt | Permanent):
            return outcome
        return replace(outcome, error=self.http.masked(masked(outcome.error, secrets)))

    async def end(self, notification: Notification, number: str) -> None:
        """Take back a call that did not come through in time."""
        known = self._remembered.of(notification.key, number)
        if not known.sid or known.done:
            return
        content = urlencode({"Status": "completed"}).encode()
        try:
            await self.http.ask(replace(self._request(known.sid), content=content, method="POST"))
        except SendFailed:
            return  # it is asked for again before another call
        self._remembered.keep(notification.key, number, replace(known, sid=""))

    def _request(self, sid: str) -> HttpRequest:
        return HttpRequest(f"{self._base}/{sid}.json", b"", _FORM, "GET")


def numbers_for(
    notification: Notification, own: tuple[str, ...], deps: ChannelDeps
) -> tuple[str, ...]:
    """Whom a message is for: the contact that it names, else the receiver's own."""
    if not notification.contact:
        return own
    number = deps.own_address(notification.contact, "phone")
    return (number,) if number else ()


def combined(outcomes: Sequence[Outcome]) -> Outcome:
    """Of several numbers: it is tried again while one may still be reached, and those that were
    are not called again; delivered where one was and no other can be."""
    waiting = [one for one in outcomes if isinstance(one, RetryAt)]
    if waiting:
        times = [one.not_before_ms for one in waiting]
        soonest = None if None in times else min(time for time in times if time is not None)
        return RetryAt("; ".join(one.error for one in waiting), soonest)
    arrived = [one for one in outcomes if isinstance(one, Delivered)]
    if arrived:
        failed = "; ".join(one.error for one in outcomes if isinstance(one, Permanent))
        return replace(arrived[0], detail=failed or arrived[0].detail)
    lost = [one for one in outcomes if isinstance(one, Permanent)]
    return Permanent("; ".join(one.error for one in lost), all(one.final for one in lost))
