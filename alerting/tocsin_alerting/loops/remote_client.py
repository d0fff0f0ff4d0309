"""HTTP to servers of the operator's own: engines of rules, Alertmanagers, receivers of samples."""

import asyncio
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tocsin_alerting.http import (
    BadAnswer,
    Lookup,
    engine_lookup,
    error_text,
    httpx,
    looking_up,
    read_text,
)
from tocsin_alerting.notify.http_sender import secrets_of, spellings
from tocsin_alerting.notify.own_address import forbidden
from tocsin_alerting.notify.secret import masked
from tocsin_exporter.engine_access import EngineAccess

MOST_BYTES = 64 << 20
MOST_AT_ONCE = 16  # requests to one server


class RequestFailed(Exception):
    """No answer came; the text says why, with the address and without a secret."""

    def __init__(self, message: str, timed_out: bool = False) -> None:
        super().__init__(message)
        self.timed_out = timed_out


@dataclass(frozen=True, slots=True)
class RemoteAnswer:
    """Header names are in lower case; the text may repeat a secret."""

    status: int
    text: str
    headers: Mapping[str, str] = field(default_factory=dict)


class RemoteClient:
    """Posts to one server. What is posted twice does no harm: a kept connection that the other side
    has closed meanwhile, and a key that was changed, are tried once more.

    Raises OSError or ssl.SSLError for certificates that cannot be read.
    """

    def __init__(self, access: EngineAccess, lookup: Lookup | None = None) -> None:
        self.address = access.url
        self._access, self._headers = access, dict(access.authorization())
        self._lookup = lookup or engine_lookup(access.url)
        limits = httpx.Limits(max_connections=MOST_AT_ONCE, max_keepalive_connections=MOST_AT_ONCE)
        client = httpx.AsyncClient(
            headers={"User-Agent": "Tocsin", "Accept-Encoding": "gzip"},
            verify=access.tls.context() if access.url.startswith("https:") else False,
            timeout=None,
            limits=limits,
            trust_env=False,
        )
        self._client = looking_up(client, self._lookup)

    def begin(self) -> None:
        """Take the thread that looks names up. Raises RuntimeError."""
        self._lookup.begin(urlsplit(self.address).hostname or "")

    async def post(
        self,
        path: str,
        body: bytes | Mapping[str, str],
        timeout_s: float,
        headers: Mapping[str, str] | None = None,
    ) -> RemoteAnswer:
        """What comes back for these bytes, or this form. Raises RequestFailed."""
        about = {**self._headers, **(headers or {})}
        try:
            async with asyncio.timeout(timeout_s):
                try:
                    answer = await self._once(path, body, about)
                except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError):
                    answer = await self._once(path, body, about)
                if answer.status in (401, 403) and self._has_new_key():
                    answer = await self._once(path, body, {**about, **self._headers})
                return answer
        except TimeoutError:
            raise self.failure(f"no answer within {timeout_s:g} s", timed_out=True) from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, BadAnswer) as error:
            raise self.failure(forbidden(error) or error_text(error)) from None

    async def close(self) -> None:
        await self._client.aclose()

    def masked(self, text: str) -> str:
        values = [*self._headers.values(), *(value for _, value in self._access.query)]
        logins = [value.removeprefix("Basic ") for value in values if value.startswith("Basic ")]
        secrets = [*values, *logins, *map(_password, logins)]
        return masked(text, spellings(secrets_of(self.address, secrets)))

    def failure(self, why: str, timed_out: bool = False) -> RequestFailed:
        return RequestFailed(f"{self.address}: {self.masked(why)}", timed_out)

    async def _once(
        self, path: str, body: bytes | Mapping[str, str], headers: Mapping[str, str]
    ) -> RemoteAnswer:
        server_name = self._access.tls.server_name
        form = None if isinstance(body, bytes) else dict(body)
        stream = self._client.stream(
            "POST",
            self.address + path,
            params=list(self._access.query),
            content=body if isinstance(body, bytes) else None,
            data=form,
            headers=headers,
            extensions={"sni_hostname": server_name} if server_name else None,
        )
        async with stream as response:
            text = await read_text(response, MOST_BYTES)
            named = {name.lower(): value for name, value in response.headers.items()}
            return RemoteAnswer(response.status_code, text, named)

    def _has_new_key(self) -> bool:
        before, self._headers = self._headers, dict(self._access.authorization())
        return self._headers != before


def _password(login: str) -> str:
    """Of a header that a file of the configuration may have wrong."""
    try:
        return b64decode(login).decode().partition(":")[2]
    except ValueError:
        return ""
