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
from tocsin_alerting.notify import alertmanager
from tocsin_alerting.notify.answer import outcome
from tocsin_alerting.notify.channel import Done, Outcome, Permanent, RetryAt
from tocsin_alerting.notify.refusal import refusal, refuses_in_its_body
from tocsin_alerting.notify.secret import masked
from tocsin_alerting.notify.signature import signed, signing_key
from tocsin_alerting.notify.supplies import Supplies
from tocsin_alerting.notify.webhook_settings import (
    WebhookSettings,
    request_headers,
    secrets_of,
    shown,
    target_url,
)

_LONGEST_ANSWER = 64 * 1024
_PATIENCE_S = 2.0  # for the body of an answer whose status is known


class Webhook:
    """Each message goes over a connection of its own: a page never meets a stale one."""

    def __init__(self, name: str, settings: WebhookSettings, supplies: Supplies) -> None:
        self.name = name
        self.at_once = 16
        self.send_resolved = settings.send_resolved
        self._settings = settings
        self._url = target_url(settings, supplies.vault)
        headers = request_headers(settings, supplies.vault)
        secret = supplies.vault.secret(settings.secret_file, settings.secret_env)
        self._key = signing_key(secret) if secret else None
        private = (secret.value,) if secret else ()
        self._private = (*secrets_of(self._url.value, headers.values()), *private)
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
        return f"Webhook({self.name}, {shown(self._url.value)})"

    async def send(
        self, notification: Notification, now_ms: int, transcript: list[str] | None = None
    ) -> Outcome:
        said = transcript if transcript is not None else []
        said.append(f"> POST {shown(self._url.value)}")
        if service := refuses_in_its_body(self._url.value):
            said.append(f"! {service} reads bodies of its own format only, not that of a webhook")
        limit_s = self._settings.timeout / 1000
        try:
            async with asyncio.timeout(limit_s):
                request = self._request(notification, now_ms)
                response = await self._client.send(request, stream=True)
            text = await beginning(response, _LONGEST_ANSWER, min(limit_s, _PATIENCE_S))
        except TimeoutError:
            result: Outcome = RetryAt(f"{shown(self._url.value)}: no answer in {limit_s:g} s")
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            result = self._broken(error)
        else:
            after = response.headers.get("retry-after")
            shown_text = self._masked(text)
            result = outcome(response.status_code, after, now_ms, shown_text)
            if isinstance(result, Done):
                result = refusal(self._url.value, text, shown_text) or result
            said.append(f"< HTTP {response.status_code} {shown_text}".rstrip())
        if isinstance(result, RetryAt | Permanent):
            said.append(f"! {result.error}")
        return result

    def begin(self) -> None:
        host = urlsplit(self._url.value).hostname
        self.lookup.begin("" if has_proxy(self._client) or host is None else host)

    async def close(self) -> None:
        await self._client.aclose()

    def _request(self, notification: Notification, now_ms: int) -> httpx.Request:
        settings = self._settings
        message = alertmanager.body(
            notification, max_alerts=settings.max_alerts, extra=settings.extra
        )
        content = json.dumps(message).encode()
        headers = {"Content-Type": "application/json"}
        message_id = f"msg_{sha256(notification.key.encode()).hexdigest()[:32]}"
        if self._key:
            headers |= signed(self._key, message_id, now_ms // 1000, content)
        return self._client.build_request("POST", self._url.value, content=content, headers=headers)

    def _broken(self, error: Exception) -> Outcome:
        text = self._masked(f"{shown(self._url.value)}: {str(error) or type(error).__name__}")
        if certificate_refused(error):
            return Permanent(f"{text}; name the authority in ca_file")
        return RetryAt(text)

    def _masked(self, text: str) -> str:
        return masked(text, self._private)
