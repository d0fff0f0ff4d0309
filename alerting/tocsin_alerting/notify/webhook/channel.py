"""A webhook: Alertmanager's body, signed as Standard Webhooks says, over HTTP or HTTPS."""

import json
from dataclasses import replace
from hashlib import sha256

from tocsin_alerting.http import Lookup
from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome, Permanent
from tocsin_alerting.notify.channel import ChannelDeps
from tocsin_alerting.notify.http_sender import (
    HttpAnswer,
    HttpChannel,
    HttpRequest,
    target_url,
)
from tocsin_alerting.notify.message_templates import MessageTemplates
from tocsin_alerting.notify.own_address import guarded_lookup
from tocsin_alerting.notify.own_templates import BODIES
from tocsin_alerting.notify.webhook import body
from tocsin_alerting.notify.webhook.http_outcome import body_refusal, service_refusing_in_body
from tocsin_alerting.notify.webhook.settings import WebhookSettings, request_headers, signing_keys
from tocsin_alerting.notify.webhook.signature import signed_headers, signing_key


class Webhook(HttpChannel):
    at_once = 16

    def __init__(self, name: str, settings: WebhookSettings, deps: ChannelDeps) -> None:
        self._settings, self._links, self._templates = settings, deps.links, deps.templates
        _check_template(settings.template, deps.templates)
        self._url = target_url(settings, deps.vault)
        headers = request_headers(settings, deps.vault)
        secrets = signing_keys(settings, deps.vault)
        self._keys = tuple(map(signing_key, secrets))
        lookup: Lookup = guarded_lookup(
            name, self._url.value, deps.own, allow_link_local=settings.allow_link_local
        )
        if settings.proxy_from_environment:  # then it looks up the proxy
            lookup = Lookup(name)
        private = tuple(secret.value for secret in secrets)
        super().__init__(name, settings, self._url.value, private, headers, lookup)

    async def send(
        self, notification: Notification, now_ms: int, transcript: list[str] | None = None
    ) -> Outcome:
        link = self._links.url(notification)
        request = self._request(notification, now_ms, link)
        if transcript is not None and (service := service_refusing_in_body(self._url.value)):
            transcript.append(
                f"! {service} accepts only its own body format, not Alertmanager webhooks"
            )
        # one that echoes what it got tells the link
        secrets = (link.rpartition("/")[2],)
        return await self._http.send(request, now_ms, transcript, self._read, secrets)

    def address_mark(self) -> str:
        return self._links.seal("receiver's address", self._url.value.encode()).hex()[:16]

    def _request(self, notification: Notification, now_ms: int, answer_url: str) -> HttpRequest:
        settings = self._settings
        message = body.webhook_body(
            notification,
            max_alerts=settings.max_alerts,
            extra=settings.extra,
            answer_url=answer_url,
        )
        message_id = f"msg_{sha256(notification.key.encode()).hexdigest()[:32]}"
        headers = {"Content-Type": "application/json"}
        if settings.format == "cloudevents":
            binary = settings.cloudevents == "binary"
            headers, message = body.cloud_event(notification, message, message_id, binary=binary)
        elif settings.format == "standard_webhooks":
            message = body.standard_event(notification, message)
        said = None
        if settings.template is not None:  # one that fails must not hold the page up
            said = self._templates.body(settings.template, notification, now_ms, message)
        content = (json.dumps(message) if said is None else said).encode()
        if self._keys:
            headers |= signed_headers(self._keys, message_id, now_ms // 1000, content)
        return HttpRequest(self._url.value, content, headers)

    def _read(self, answer: HttpAnswer, now_ms: int) -> Outcome:
        """410: nobody is to ask there again (Standard Webhooks, "Disabling failing endpoints")."""
        outcome = answer.outcome(now_ms)
        if isinstance(outcome, Permanent) and outcome.final:
            return replace(outcome, gone=self.address_mark())
        if isinstance(outcome, Delivered):
            return body_refusal(self._url.value, answer.text, answer.text) or outcome
        return outcome


def _check_template(name: str | None, templates: MessageTemplates) -> None:
    """Raises ValueError for a file that is not there."""
    known = [file for file in templates.own.files if file.endswith(BODIES)] if templates.own else []
    if name is not None and name not in known:
        there = ", ".join(known) or "none"
        raise ValueError(
            f'template "{name}" is no file of the directory templates; of {BODIES} files there'
            f" are: {there}"
        )
