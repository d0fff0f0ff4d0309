"""A dead man's ping: as long as it comes, those who watch from outside know that we would page."""

import asyncio
from typing import Literal
from urllib.parse import urlsplit

from tocsin_alerting.http import (
    Lookup,
    beginning,
    certificate_refused,
    error_text,
    has_proxy,
    httpx,
    looking_up,
    tls_context,
)
from tocsin_alerting.notify.http_sender import (
    UrlSettings,
    secrets_of,
    target_url,
    without_secrets,
)
from tocsin_alerting.notify.secret import Vault, masked
from tocsin_alerting.settings import FilePath, Interval, RefusedKey

_SHOWN_BYTES = 1024
_ANSWER_TIMEOUT_S = 2.0


class HeartbeatOutSettings(UrlSettings):
    """Where to ping, and how often."""

    every: Interval = 60_000
    method: Literal["POST", "GET"] = "POST"
    bearer_token: RefusedKey = None
    bearer_token_file: FilePath | None = None
    timeout: Interval = 10_000
    ca_file: FilePath | None = None
    proxy_from_environment: bool = False


class HeartbeatPing:
    """Requests to one address, each over a connection of its own. The address is its password.

    Raises ValueError or OSError for what cannot be read."""

    def __init__(self, settings: HeartbeatOutSettings, vault: Vault) -> None:
        self.every_s = settings.every / 1000
        self._url = target_url(settings, vault)
        self._method, self._limit_s = settings.method, settings.timeout / 1000
        token = vault.secret(settings.bearer_token_file, None)
        headers = {"Authorization": f"Bearer {token.value}"} if token else {}
        if not all(value.isascii() and value.isprintable() for value in headers.values()):
            raise ValueError("bearer_token_file holds what HTTP cannot carry; use plain ASCII")
        self._secrets = secrets_of(self._url.value, headers.values())
        ca_file = str(settings.ca_file) if settings.ca_file else None
        self._lookup = Lookup("heartbeat")
        client = httpx.AsyncClient(
            headers={"User-Agent": "Tocsin", "Accept-Encoding": "identity", **headers},
            verify=tls_context(ca_file),
            timeout=None,
            limits=httpx.Limits(max_keepalive_connections=0),
            trust_env=settings.proxy_from_environment,
        )
        self._client = looking_up(client, self._lookup)

    def __repr__(self) -> str:
        return f"HeartbeatPing({self.address})"

    @property
    def address(self) -> str:
        """Scheme, host and port: what is no secret."""
        return without_secrets(self._url.value)

    def begin(self) -> None:
        """Take the thread that looks names up. Raises RuntimeError."""
        host = urlsplit(self._url.value).hostname
        self._lookup.begin("" if has_proxy(self._client) or host is None else host)

    async def send(self) -> str:
        """Ping once; "" or why nobody took it, without a secret."""
        try:
            async with asyncio.timeout(self._limit_s):
                request = self._client.build_request(
                    self._method,
                    self._url.value,
                    headers={"Content-Type": "application/json"} if self._method == "POST" else {},
                    content=b"{}" if self._method == "POST" else None,
                )
                response = await self._client.send(request, stream=True)
            text = await beginning(response, _SHOWN_BYTES, min(self._limit_s, _ANSWER_TIMEOUT_S))
        except TimeoutError:
            return f"{self.address}: no response within {self._limit_s:g} s"
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            advice = "; set ca_file" if certificate_refused(error) else ""
            return self._masked(error_text(error)) + advice
        if response.is_success:
            return ""
        return self._masked(f"HTTP {response.status_code} {text}".rstrip())

    async def close(self) -> None:
        await self._client.aclose()

    def _masked(self, text: str) -> str:
        return masked(f"{self.address}: {text}", self._secrets)
