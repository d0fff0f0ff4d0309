"""Alertmanager: alerts are forwarded to it, and it notifies.

It forgets an alert that is not sent again: `endsAt` says when, four resends from now, as Prometheus
has it (rules/alerting.go, `sendAlerts`). So what fires is sent again by `refresh` until it ends.
Source: alertmanager api/v2/openapi.yaml; types/types.go for how it merges what it knows with that.
"""

import asyncio
import base64
import logging
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from tocsin_alerting.annotations import absolute_links
from tocsin_alerting.incidents.notification import Notification, NotifiedAlert
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome, Permanent, RetryAt
from tocsin_alerting.notify.channel import ChannelDeps
from tocsin_alerting.notify.http_sender import (
    HttpAnswer,
    HttpSender,
    HttpSettings,
    HttpUrl,
    json_request,
    without_secrets,
)
from tocsin_alerting.notify.own_address import guarded_lookup
from tocsin_alerting.notify.rehearsal import rehearsing
from tocsin_alerting.settings import SECRET, FilePath, Interval, RefusedKey, several
from tocsin_alerting.time_format import rfc3339

log = logging.getLogger(__name__)

_MISSED_RESENDS = 4  # after which what is not sent again has ended
_LABEL_NAME = re.compile("[a-zA-Z_][a-zA-Z0-9_]*")  # all that 0.27 and older take
_MOST_ENDED = 10_000


def _label_names(labels: Mapping[str, str]) -> Mapping[str, str]:
    for name in labels:
        if not _LABEL_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a label name")
    return labels


class AlertmanagerSettings(HttpSettings):
    """`urls`: each instance of a cluster, not a load balancer before them, as Prometheus wants it.
    `labels` are added to those of the alert."""

    type: Literal["alertmanager"]
    urls: Annotated[
        tuple[HttpUrl, ...], BeforeValidator(several), Field(min_length=1, max_length=16), SECRET
    ]
    resend_delay: Interval = 60_000
    labels: Annotated[Mapping[str, str], AfterValidator(_label_names)] = {}
    answer_link: bool = True
    bearer_token: RefusedKey = None
    bearer_token_file: FilePath | None = None
    bearer_token_env: str | None = None
    username: str | None = None
    password: RefusedKey = None
    password_file: FilePath | None = None
    password_env: str | None = None

    @model_validator(mode="after")
    def _one_login(self) -> "AlertmanagerSettings":
        passwords = (self.password_file is not None) + (self.password_env is not None)
        tokens = (self.bearer_token_file is not None) + (self.bearer_token_env is not None)
        if passwords != (self.username is not None) or tokens > 1 or passwords and tokens:
            raise ValueError(
                "give one of bearer_token_file and bearer_token_env, or username with one of"
                " password_file and password_env"
            )
        return self


class Alertmanager:
    """It counts as delivered when one instance has it: those of a cluster tell each other."""

    def __init__(self, name: str, settings: AlertmanagerSettings, deps: ChannelDeps) -> None:
        self.name = name
        self.at_once = 16
        self.send_resolved = settings.send_resolved
        self.refresh_ms = settings.resend_delay
        self._labels, self._links, self._templates = settings.labels, deps.links, deps.templates
        self._has_answer_link = settings.answer_link
        headers, secrets = _login(settings, deps)
        self._urls = tuple(f"{url.rstrip('/')}/api/v2/alerts" for url in settings.urls)
        lookups = [guarded_lookup(name, url, deps.own) for url in self._urls]
        self._senders = [
            HttpSender(name, settings, url, secrets, headers, lookup)
            for url, lookup in zip(self._urls, lookups, strict=True)
        ]
        self._ended: OrderedDict[str, Mapping[str, Any]] = OrderedDict()
        self._is_troubled = False

    def __repr__(self) -> str:
        return f"Alertmanager({self.name}, {', '.join(map(without_secrets, self._urls))})"

    async def send(
        self, notification: Notification, now_ms: int, transcript: list[str] | None = None
    ) -> Outcome:
        alerts = self._alerts(notification, now_ms)
        if not alerts:  # a digest, which tells of many in words
            alerts = [self._message_alert(notification, now_ms)]
        for alert, posted in zip(notification.alerts, alerts, strict=False):
            self._remember_end(alert, posted)
        secrets = (self._links.url(notification).rpartition("/")[2],)
        outcomes = await self._post(alerts, now_ms, transcript, secrets)
        return _whole(outcomes)

    async def refresh(
        self, standing: Callable[[], Sequence[Notification]], now_ms: Callable[[], int]
    ) -> None:
        """Once, all that fires. What has ended while that was under way is ended once more: the
        two may arrive in any order."""
        notifications, at_ms = standing(), now_ms()
        alerts = [alert for one in notifications for alert in self._alerts(one, at_ms)]
        prints = [alert.fingerprint for one in notifications for alert in one.alerts]
        ended_before = set(self._ended)
        fresh = [
            posted
            for fingerprint, posted in zip(prints, alerts, strict=True)
            if fingerprint not in ended_before
        ]
        if not fresh:
            return
        outcomes = await self._post(fresh, at_ms)
        late = [self._ended[one] for one in prints if one in self._ended.keys() - ended_before]
        if late:
            await self._post(late, now_ms())
        self._tell(_whole(outcomes))

    def begin(self) -> None:
        for sender in self._senders:
            sender.begin()

    async def close(self) -> None:
        for sender in self._senders:
            await sender.close()

    def _remember_end(self, alert: NotifiedAlert, posted: Mapping[str, Any]) -> None:
        if rehearsing():
            return
        self._ended.pop(alert.fingerprint, None)
        if alert.status == "resolved":
            self._ended[alert.fingerprint] = posted
        if len(self._ended) > _MOST_ENDED:
            self._ended.popitem(last=False)

    def _message_alert(self, notification: Notification, now_ms: int) -> dict[str, Any]:
        """The message itself as an alert, which ends by itself."""
        severity = notification.severity
        return {
            "labels": {"alertname": "TocsinMessage", "severity": severity, **self._labels},
            "annotations": {
                "summary": self._templates.subject(notification),
                "description": self._templates.text(notification, now_ms),
            },
            "startsAt": rfc3339(notification.at_ms),
            "endsAt": rfc3339(max(now_ms, notification.at_ms) + _MISSED_RESENDS * self.refresh_ms),
            "generatorURL": notification.external_url,
        }

    def _alerts(self, notification: Notification, now_ms: int) -> list[dict[str, Any]]:
        ends_ms = now_ms + _MISSED_RESENDS * self.refresh_ms
        link = self._links.url(notification) if self._has_answer_link else ""
        number = f"#{notification.incident}" if notification.incident else ""
        about = {
            "incident": number,
            "incident_severity": notification.severity,
            "answer_url": link,
        }
        return [
            {
                "labels": {**dict(alert.labels), **self._labels},
                "annotations": {
                    **absolute_links(alert.annotations, notification.external_url),
                    **{name: text for name, text in about.items() if text},
                },
                "startsAt": rfc3339(alert.starts_at_ms),
                "endsAt": rfc3339(
                    ends_ms
                    if alert.ends_at_ms is None
                    else max(alert.ends_at_ms, alert.starts_at_ms)
                ),
                "generatorURL": alert.generator_url or notification.external_url,
            }
            for alert in notification.alerts
        ]

    async def _post(
        self,
        alerts: Sequence[Mapping[str, Any]],
        now_ms: int,
        transcript: list[str] | None = None,
        secrets: Iterable[str] = (),
    ) -> list[Outcome]:
        """To all instances at once: one that hangs keeps the others waiting for nothing."""
        lines: list[list[str]] = [[] for _ in self._senders]
        hidden = tuple(secrets)
        sending = (
            sender.send(json_request(url, alerts), now_ms, told, _read, hidden)
            for sender, url, told in zip(self._senders, self._urls, lines, strict=True)
        )
        outcomes = await asyncio.gather(*sending)
        if transcript is not None:
            transcript += [line for told in lines for line in told]
        return outcomes

    def _tell(self, outcome: Outcome) -> None:
        """Once that what fires cannot be sent again, and once that it can."""
        failed = not isinstance(outcome, Delivered)
        if failed and not self._is_troubled:
            extra = {"receiver": self.name}
            log.warning("resending to Alertmanager failed, retrying", extra=extra)
        elif self._is_troubled and not failed:
            log.info("resent to Alertmanager again", extra={"receiver": self.name})
        self._is_troubled = failed


def _login(
    settings: AlertmanagerSettings, deps: ChannelDeps
) -> tuple[dict[str, str], tuple[str, ...]]:
    token = deps.vault.secret(settings.bearer_token_file, settings.bearer_token_env)
    password = deps.vault.secret(settings.password_file, settings.password_env)
    if token is not None:
        if not token.value.isascii() or not token.value.isprintable():
            raise ValueError("the bearer token has a character that HTTP cannot carry")
        return {"Authorization": f"Bearer {token.value}"}, (token.value,)
    if password is not None:
        both = base64.b64encode(f"{settings.username}:{password.value}".encode()).decode()
        return {"Authorization": f"Basic {both}"}, (password.value, both)
    return {}, ()


def _read(answer: HttpAnswer, now_ms: int) -> Outcome:
    return answer.outcome(now_ms)


def _whole(outcomes: Sequence[Outcome]) -> Outcome:
    """Of all instances: done by one is done, and what one would take later is not refused."""
    failed = [one.error for one in outcomes if isinstance(one, RetryAt | Permanent)]
    done = [one for one in outcomes if isinstance(one, Delivered)]
    if done:
        rest = f"; failed: {'; '.join(failed)}" if failed else ""
        return Delivered(detail=f"{done[0].detail}{rest}"[:300])
    text = "; ".join(failed)[:300]
    later = [one for one in outcomes if isinstance(one, RetryAt)]
    if later:
        times = [one.not_before_ms for one in later]
        known = [time for time in times if time is not None]
        return RetryAt(text, min(known) if len(known) == len(times) else None)
    final = all(isinstance(one, Permanent) and one.final for one in outcomes)
    return Permanent(text, final=final)
