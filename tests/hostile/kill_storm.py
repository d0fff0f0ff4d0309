"""The agent is killed again and again in a storm of alerts, while its receivers fail at random.

Alerts are posted by a client that repeats them until they are taken, as a Prometheus does; some are
acknowledged, some end, some both. A webhook receiver and a mail server fail, hang, reset and answer
"later".

`KillStorm.run` says what was wrong in the end, and counts what happened.
"""

import asyncio
import json
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from aiosmtpd.smtp import SMTP, Envelope, Session

from support.agent_process import AgentProcess
from support.webhook_sink import Answer, Received, WebhookSink
from tocsin_alerting.notify.email.message import message_id

CONFIG = """
collect: {{host: 0s, gpu: 0s, engines: 0s, processes: 0s}}
rule_files: [rules.yml]
receivers:
  hook: {{type: webhook, url: "{url}", timeout: 2s{keys}}}
  spare: {{type: webhook, url: "{url}", timeout: 2s}}
  mail: {{type: email, smarthost: "127.0.0.1:{port}", tls: none, from: a@example.com,
    to: [ops@example.com], timeout: 2s}}
group: {{by: [alertname, serial]}}
storm: {{incidents: 0}}  # a slow machine may take twenty alerts at once, and each is looked for
policies:
  P0:
    group: {{wait: 0s}}
    recover_within: 12h
    steps:
    - {{notify: [{{receiver: hook}}, {{receiver: mail}}], escalate_after: {escalate}}}
    - {{notify: [{{receiver: hook}}, {{receiver: mail}}]}}
    ack: {{timeout: 4h, remind: 2h}}
    repeat: 0
"""
RULES = "groups: [{name: one, rules: [{alert: Never, expr: vector(1) > 2}]}]\n"
PAGES = {"opened", "escalated", "repeat", "final", "worse", "reopened", "unreachable", "manual"}
SENDER, RECEIVERS = "a@example.com", ("hook", "mail")
BETWEEN_ALERTS = 4.0  # seconds
BETWEEN_ANSWERS = 6.0  # so that some are left alone
REPOSTED = 20.0
DRAINED_WITHIN = 240.0
ESCALATE = "10s"
IN_FLIGHT = 4.0  # a message that was on its way when somebody acknowledged, or when it ended
# What an incident in that state waits for, however often its process died.
TIMERS = {
    "ACKED": {"ack_remind", "ack_timeout", "slo_breach"},
    "TRIGGERED": {"slo_breach"},
    "RESOLVED": {"reopen_end"},
}


@dataclass
class Foreign:
    """An alert as its sender knows it; times are those of answers that said yes."""

    serial: int
    taken: float | None = None
    ack_begun: float | None = None
    acked: float | None = None
    end_begun: float | None = None
    ended: float | None = None


@dataclass
class Arrivals:
    """By key: when a message came last, and when it was answered with success."""

    last: dict[str, float] = field(default_factory=dict)
    accepted: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def note(self, key: str, accepted: bool) -> None:
        now = time.time()
        self.last[key] = now
        if accepted:
            self.accepted[key].append(now)


class MoodyMail:
    """A mail server that takes, refuses for now, hangs, or hangs up, as `mood` says."""

    def __init__(self, mood: Callable[[], str], arrivals: Arrivals) -> None:
        self._mood, self._arrivals = mood, arrivals

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        content = envelope.content or b""
        text = content if isinstance(content, str) else content.decode("utf-8", "replace")
        key = next(line for line in text.splitlines() if line.lower().startswith("message-id:"))
        mood = self._mood()
        self._arrivals.note(key.partition(":")[2].strip(), mood in ("well", "deaf"))
        if mood == "hang":
            await asyncio.sleep(5)
        if mood in ("reset", "deaf"):  # deaf: it has the mail, and the answer is lost
            cast(asyncio.Transport, server.transport).abort()
        return {"fail": "451 4.3.0 later", "later": "450 4.2.1 busy"}.get(mood, "250 taken")


class KillStorm:
    """`keys` are further ones of the receiver that fails."""

    def __init__(self, folder: Path, kills: int, seed: int, keys: str = "") -> None:
        self.keys = keys
        self.folder, self.kills, self.dice = folder, kills, random.Random(seed)
        self.moody = True
        self.hooks, self.mails = Arrivals(), Arrivals()
        self.fields: dict[str, dict[str, Any]] = {}  # by key, what a webhook said
        self.alerts: list[Foreign] = []
        self.counts = Counter[str]()
        self._answer_at = 0.0

    async def run(self) -> list[str]:
        """Everything that was wrong."""
        loop = asyncio.get_running_loop()
        mail = MoodyMail(self._mood, self.mails)
        server = await loop.create_server(partial(SMTP, mail, hostname="sink"), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with WebhookSink(usual=self._hook) as sink:
            self._sink = sink
            text = CONFIG.format(url=sink.url, port=port, escalate=ESCALATE, keys=self.keys)
            (self.folder / "tocsin.yml").write_text(text)
            (self.folder / "rules.yml").write_text(RULES)
            options = ("--config.file=tocsin.yml", "--no-worker")
            self.agent = AgentProcess(self.folder, *options)
            client = asyncio.create_task(self._client())
            try:
                await self._killed_again_and_again()
                self.moody = False
                return [*await self._drained(), *self._wrong()]
            finally:
                client.cancel()
                await asyncio.gather(client, return_exceptions=True)
                self.agent.kill()
                server.close()

    # what goes wrong

    def _mood(self) -> str:
        if not self.moody:
            return "well"
        moods = ["well", "fail", "hang", "reset", "deaf", "later"]
        mood = self.dice.choices(moods, [10, 2, 1, 1, 1, 2])[0]
        self.counts[mood] += 1
        return mood

    async def _hook(self, writer: asyncio.StreamWriter) -> None:
        request: Received = self._sink.requests[-1]
        said = {**request.json()["tocsin"], "receiver": request.json()["receiver"]}
        self.fields[said["key"]] = said
        mood = self._mood()
        self.hooks.note(said["key"], mood in ("well", "deaf"))
        if mood == "hang":
            await asyncio.sleep(5)
        if mood in ("reset", "deaf"):
            writer.transport.abort()
            return
        answers = {"fail": Answer(500), "later": Answer(429, {"Retry-After": "1"})}
        writer.write(answers.get(mood, Answer()).encoded())
        await writer.drain()

    async def _killed_again_and_again(self) -> None:
        await asyncio.to_thread(self.agent.start)
        for _ in range(self.kills):
            await asyncio.sleep(self.dice.uniform(0, 2.5))
            self.agent.kill()
            if self.dice.random() < 0.3:
                await asyncio.sleep(self.dice.uniform(0, 1))
            start = asyncio.create_task(asyncio.to_thread(self.agent.start))
            if self.dice.random() < 0.2:  # also while it starts
                await asyncio.sleep(self.dice.uniform(0.2, 1.5))
                self.counts["killed at the start"] += not start.done()
                self.agent.kill()
                await asyncio.gather(start, return_exceptions=True)
                await asyncio.to_thread(self.agent.start)
            else:
                await start
            self.counts["kills"] += 1

    # what people and other programs do

    async def _client(self) -> None:
        due = posted = time.time()
        while True:
            now = time.time()
            if self.moody and now >= due:
                self.alerts.append(Foreign(len(self.alerts)))
                due = now + BETWEEN_ALERTS
            waiting = [one for one in self.alerts if one.taken is None]
            if waiting or now - posted > REPOSTED:
                firing = [one for one in self.alerts if one.ended is None]
                if await self._post("/api/v2/alerts", [_posted(one) for one in firing]) is not None:
                    posted = time.time()
                    for one in waiting:
                        one.taken = posted
            await self._answer_one()
            await asyncio.sleep(0.05)

    async def _answer_one(self) -> None:
        """Acknowledge some, end some, until it is said that it was done and recorded."""
        for one in self.alerts:
            if one.ack_begun and one.acked is None:
                await self._acknowledge(one)
        due = self.moody and time.time() >= self._answer_at
        firing = [one for one in self.alerts if one.taken and not one.ended]
        candidates = [one for one in firing if one.acked or not one.ack_begun]
        if not due or not candidates:
            return
        one = self.dice.choice(candidates)
        self._answer_at = time.time() + BETWEEN_ANSWERS
        if not one.acked and self.dice.random() < 0.6:
            await self._acknowledge(one)
            return
        one.end_begun = one.end_begun or time.time()  # it may have ended, and the answer be lost
        if await self._post("/api/v2/alerts", [{**_posted(one), "endsAt": _now()}]) is not None:
            one.ended = time.time()

    async def _acknowledge(self, one: Foreign) -> None:
        number = await asyncio.to_thread(self._number, one)
        if number is None:
            return
        one.ack_begun = one.ack_begun or time.time()
        sent = {"by": "li", "request_id": f"ack {one.serial}"}
        data = await self._post(f"/api/v1/incidents/{number}/ack", sent)
        if data is not None and data["data"]["recorded"]:
            one.acked = time.time()

    def _number(self, one: Foreign) -> int | None:
        try:
            found = self.agent.get(f"/api/v1/incidents?match[]=serial=%22{one.serial}%22")
        except (OSError, ValueError):
            return None
        return next((int(each["number"]) for each in found["incidents"]), None)

    async def _post(self, path: str, sent: Any) -> Any:
        """What was answered; None for no success."""
        return await asyncio.to_thread(_request, self.agent.url + path, sent)

    # what has to hold in the end

    async def _drained(self) -> list[str]:
        """Until nothing waits to be sent, and the last escalation is due."""
        deadline = time.monotonic() + DRAINED_WITHIN
        await asyncio.sleep(float(ESCALATE.rstrip("s")) + 5)
        while time.monotonic() < deadline:
            overview = await asyncio.to_thread(self.agent.get, "/api/v1/overview")
            if not any(each["waiting"] for each in overview["receivers"]):
                return []
            await asyncio.sleep(1)
        return [f"still waiting: {overview['receivers']}"]

    def _wrong(self) -> Iterator[str]:
        listed = self.agent.get("/api/v1/incidents?state=all")["incidents"]
        by_serial: defaultdict[str, list[Any]] = defaultdict(list)
        self.known = set[str]()
        for each in listed:
            by_serial[each["labels"]["serial"]].append(each)
        for one in self.alerts:
            found = by_serial.pop(str(one.serial), [])
            if one.taken and len(found) != 1:
                yield f"alert {one.serial} was taken and has {len(found)} incidents"
            for each in found:
                detail = self.agent.get(f"/api/v1/incidents/{each['number']}")
                yield from self._wrong_incident(one, detail)
        if by_serial:
            yield f"incidents of nobody: {list(by_serial)}"
        if unknown := {*self.hooks.last, *self.mails.last} - self.known:
            yield f"arrived, and no message of any incident: {unknown}"
        yield from self._wrong_keys()

    def _wrong_incident(self, one: Foreign, detail: Any) -> Iterator[str]:
        name = f"#{detail['number']} (alert {one.serial}, {detail['state']})"
        open_states = ("ACKED",) if one.acked else ("TRIGGERED", "ACKED")
        if not one.ended and detail["state"] not in open_states:
            yield f"{name}: it fires"
        if one.ended and detail["state"] not in ("RESOLVED", "CLOSED"):
            yield f"{name}: it ended"
        opened_after = detail["opened_at_ms"] / 1000 - (one.taken or time.time())
        if opened_after > 0:  # what was said again made good what was lost
            yield f"{name}: opened {opened_after:.1f} s after its alert was taken"
        if missing := TIMERS.get(detail["state"], set()) - {t["kind"] for t in detail["timers"]}:
            yield f"{name}: has no timer {missing}"
        late = [t for t in detail["timers"] if t["due_at_ms"] < time.time() * 1000 - 5000]
        if late:
            yield f"{name}: timers are late: {late}"
        got, heard = defaultdict[str, set[str]](set), Counter[tuple[str, str]]()
        for message in detail["messages"]:
            yield from self._wrong_message(name, one, message)
            arrivals, key = self._arrivals_of(message)
            heard[message["receiver"], message["reason"]] += key in arrivals.accepted
            if message["state"] == "sent" or _replaced(message, detail["messages"]):
                got[message["receiver"]].add(message["reason"])
        if several := [what for what, count in heard.items() if count > 1]:
            yield f"{name}: came as several messages: {several}"
        for receiver in RECEIVERS:
            undisturbed = not (one.end_begun or one.ack_begun)
            if undisturbed and not {"opened", "escalated"} <= got[receiver]:
                yield f"{name}: {receiver} got {got[receiver]}"
            paged = any(heard[receiver, reason] for reason in PAGES)
            # a server that took a page and whose answer was lost is told that it fired and is over
            if one.ended and paged and not {"resolved", "fired_and_resolved"} & got[receiver]:
                yield f"{name}: {receiver} was paged, and not told the end: {got[receiver]}"

    def _wrong_message(self, name: str, one: Foreign, message: Any) -> Iterator[str]:
        arrivals, key = self._arrivals_of(message)
        self.known.add(key)
        if message["state"] not in ("sent", "cancelled"):
            yield f"{name}: {message}"
        if message["state"] == "sent" and not arrivals.accepted.get(key):
            yield f"{name}: said to be sent, and never arrived: {message}"
        answered = min(one.acked or time.time(), one.ended or time.time())
        late = arrivals.last.get(key, 0.0) - answered
        if message["reason"] in PAGES and late > IN_FLIGHT:  # also by another try of the same page
            yield f"{name}: paged {late:.1f} s after it was acknowledged or over: {message}"
        self.counts["messages"] += 1
        self.counts["by the fallback"] += message["receiver"] == "spare"
        self.counts["arrived twice"] += len(arrivals.accepted.get(key, ())) > 1

    def _arrivals_of(self, message: Any) -> tuple[Arrivals, str]:
        """Where the message went, and by which key it is known there."""
        if message["receiver"] in ("hook", "spare"):
            return self.hooks, message["key"]
        return self.mails, message_id(message["key"], "example.com")

    def _wrong_keys(self) -> Iterator[str]:
        """One page, one key."""
        keys: defaultdict[tuple[Any, ...], set[str]] = defaultdict(set)
        for key, said in self.fields.items():
            place = said["incident"], said["reason"], said["step"], said["loop"], said["receiver"]
            keys[place].add(key)
        for place, several in keys.items():
            if len(several) > 1:
                yield f"{place} came with several keys: {several}"


def _replaced(message: Any, messages: Sequence[Any]) -> bool:
    """Whether the fallback had the same page, or a later page to the same receiver, which arrived
    or was replaced itself, took the place of this one."""
    sent = [(each["receiver"], each["reason"]) for each in messages if each["state"] == "sent"]
    if message["receiver"] == "hook" and ("spare", message["reason"]) in sent:
        return True
    later = message["last_error"].removeprefix("replaced by ")
    following = [each for each in messages if each["key"] == later]
    return any(one["state"] == "sent" or _replaced(one, messages) for one in following)


def _posted(one: Foreign) -> dict[str, Any]:
    return {"labels": {"alertname": "Storm", "serial": str(one.serial), "severity": "P0"}}


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _request(url: str, sent: Any) -> Any:
    request = Request(url, json.dumps(sent).encode(), {"content-type": "application/json"})
    try:
        with urlopen(request, timeout=5) as answer:
            return json.loads(answer.read() or b"{}")
    except (HTTPError, URLError, OSError, ValueError):
        return None
