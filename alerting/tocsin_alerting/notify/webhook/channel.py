"""A webhook: Alertmanager's body, signed as Standard Webhooks says, over HTTP or HTTPS."""

import asyncio
import json
from hashlib import sha256
from urllib.parse import urlsplit

from tocsin_alerting.http import (
    Lookup,
    beginning,
    certificate_refused,
    has_proxy,
    httpx,
    looking_up,
    tls_context,
)
from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome, Permanent, RetryAt
from tocsin_alerting.notify.deps import ChannelDeps
from tocsin_alerting.notify.secret import masked
from tocsin_alerting.notify.webhook import body
from tocsin_alerting.notify.webhook.http_outcome import http_outcome
from tocsin_alerting.notify.webhook.refusal import body_refusal, service_refusing_in_body
from tocsin_alerting.notify.webhook.settings import (
    WebhookSettings,
    request_headers,
    secrets_of,
    target_url,
    without_secrets,
)
from tocsin_alerting.notify.webhook.signature import signed_headers, signing_key

_MAX_ANSWER_BYTES = 64 * 1024
_ANSWER_TIMEOUT_S = 2.0  # for the body of an answer whose status is known


class Webhook:
    """Each message goes over a connection of its own: a page never meets a stale one."""

    def __init__(self, name: str, settings: WebhookSettings, deps: ChannelDeps) -> None:
        self.name = name
        self.at_once = 16
        self.send_resolved = settings.send_resolved
        self._settings = settings
        self._url = target_url(settings, deps.vault)
        headers = request_headers(settings, deps.vault)
        secret = deps.vault.secret(settings.secret_file, settings.secret_env)
        self._key = signing_key(secret) if secret else None
        private = (secret.value,) if secret else ()
        self._secrets = (*secrets_of(self._url.value, headers.values()), *private)
        ca_file = str(settings.ca_file) if settings.ca_file else None
        self.lookup = Lookup(name)
        client = httpx.AsyncClient(
            headers={"User-Agent": "Tocsin", "Accept-Encoding": "identity", **headers},
            verify=tls_context(ca_file, verify=not settings.insecure_skip_verify),
            timeout=None,
            limits=httpx.Limits(max_keepalive_connections=0),
            trust_env=settings.proxy_from_environment,
        )
        self._client = looking_up(client, self.lookup)

    def __repr__(self) -> str:
        return f"Webhook({self.name}, {without_secrets(self._url.value)})"

    async def send(
        self, notification: Notification, now_ms: int, transcript: list[str] | None = None
    ) -> Outcome:
        dialogue = transcript if transcript is not None else []
        dialogue.append(f"> POST {without_secrets(self._url.value)}")
        if service := service_refusing_in_body(self._url.value):
            dialogue.append(
                f"! {service} reads bodies of its own format only, not that of a webhook"
            )
        limit_s = self._settings.timeout / 1000
        try:
            async with asyncio.timeout(limit_s):
                request = self._request(notification, now_ms)
                response = await self._client.send(request, stream=True)
            text = await beginning(response, _MAX_ANSWER_BYTES, min(limit_s, _ANSWER_TIMEOUT_S))
        except TimeoutError:
            result: Outcome = RetryAt(
                f"{without_secrets(self._url.value)}: no answer in {limit_s:g} s"
            )
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            result = self._outcome_of_error(error)
        else:
            after = response.headers.get("retry-after")
            shown_text = self._masked(text)
            result = http_outcome(response.status_code, after, now_ms, shown_text)
            if isinstance(result, Delivered):
                result = body_refusal(self._url.value, text, shown_text) or result
            dialogue.append(f"< HTTP {response.status_code} {shown_text}".rstrip())
        if isinstance(result, RetryAt | Permanent):
            dialogue.append(f"! {result.error}")
        return result

    def begin(self) -> None:
        host = urlsplit(self._url.value).hostname
        self.lookup.begin("" if has_proxy(self._client) or host is None else host)

    async def close(self) -> None:
        await self._client.aclose()

    def _request(self, notification: Notification, now_ms: int) -> httpx.Request:
        settings = self._settings
        message = body.webhook_body(
            notification, max_alerts=settings.max_alerts, extra=settings.extra
        )
        content = json.dumps(message).encode()
        headers = {"Content-Type": "application/json"}
        message_id = f"msg_{sha256(notification.key.encode()).hexdigest()[:32]}"
        if self._key:
            headers |= signed_headers(self._key, message_id, now_ms // 1000, content)
        return self._client.build_request("POST", self._url.value, content=content, headers=headers)

    def _outcome_of_error(self, error: Exception) -> Outcome:
        text = self._masked(
            f"{without_secrets(self._url.value)}: {str(error) or type(error).__name__}"
        )
        if certificate_refused(error):
            return Permanent(f"{text}; name the authority in ca_file")
        return RetryAt(text)

    def _masked(self, text: str) -> str:
        return masked(text, self._secrets)
