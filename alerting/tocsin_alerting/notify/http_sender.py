"""What channels that speak HTTP share: the keys of their sections, and requests that never raise.

A vendor's channel builds an `HttpRequest` and says what an `HttpAnswer` means for the message; time
limits, connections, name lookups, certificates and the masking of secrets are here.
"""

import asyncio
import base64
import json
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from functools import cache, partial
from typing import Annotated, Any
from urllib.parse import SplitResult, quote, unquote, urlsplit

from pydantic import AfterValidator, model_validator

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
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome, Permanent, RetryAt
from tocsin_alerting.notify.own_address import forbidden
from tocsin_alerting.notify.receiver_section import ReceiverSection
from tocsin_alerting.notify.rehearsal import TAKEN, Rehearsed, readable, rehearsed
from tocsin_alerting.notify.secret import Secret, Vault, covered, masked
from tocsin_alerting.settings import SECRET, FilePath, Interval, Section, is_http_url

# A receiver that asks for a day of silence must not get it: somebody waits for this page.
MAX_WAIT_MS = 3_600_000
MAX_ANSWER_BYTES = 64 * 1024
_ANSWER_TIMEOUT_S = 2.0  # for the body of an answer whose status is known
_RETRIED_STATUSES = frozenset({408, 425, 429})
_MIN_SECRET_LENGTH = 6  # a shorter path or query value is no secret, and hiding it hides the error
_MIN_KEY_LENGTH = 8


def usable_url(url: str) -> str:
    if not is_http_url(url):
        raise ValueError("the URL is not one like https://host:port/path; correct it")
    return url


HttpUrl = Annotated[str, AfterValidator(usable_url)]


def _without_credentials(url: str) -> str:
    """It is shown where the configuration is shown."""
    parts = urlsplit(usable_url(url))
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(
            "a service's address holds no user, password or query; these have keys of their own"
        )
    return url


ServiceUrl = Annotated[str, AfterValidator(_without_credentials)]
"""Where a service is reached: the vendor's address, a proxy, or a server of one's own."""


class HttpSettings(ReceiverSection):
    """The keys that all of them have. `timeout` is from the first byte of the connection to the
    status; `cert_file` and `key_file` are the client certificate."""

    timeout: Interval = 10_000
    send_resolved: bool = True
    ca_file: FilePath | None = None
    cert_file: FilePath | None = None
    key_file: FilePath | None = None
    insecure_skip_verify: bool = False
    proxy_from_environment: bool = False

    @model_validator(mode="after")
    def _whole_certificate(self) -> "HttpSettings":
        if self.key_file is not None and self.cert_file is None:
            raise ValueError("key_file needs cert_file, the certificate that belongs to the key")
        return self


class UrlSettings(Section):
    """One of `url`, `url_file` and `url_env` says where."""

    url: Annotated[HttpUrl | None, SECRET] = None
    url_file: FilePath | None = None
    url_env: str | None = None

    @model_validator(mode="after")
    def _one_url(self) -> "UrlSettings":
        if sum(key is not None for key in (self.url, self.url_file, self.url_env)) != 1:
            raise ValueError("give exactly one of url, url_file and url_env")
        return self


def target_url(settings: UrlSettings, vault: Vault) -> Secret:
    """Where to post. Raises ValueError, which does not show it."""
    secret = vault.secret(settings.url_file, settings.url_env)
    return Secret(usable_url(secret.value if secret else settings.url or ""))


@dataclass(frozen=True, slots=True, repr=False)
class HttpRequest:
    url: str
    content: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = "POST"


def json_request(
    url: str, data: Any, headers: Mapping[str, str] | None = None, method: str = "POST"
) -> HttpRequest:
    content = json.dumps(data).encode()
    return HttpRequest(
        url, content, {"Content-Type": "application/json", **(headers or {})}, method
    )


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """`text` is the body, at most 64 KiB of it, with secrets in it: the sender masks what is told
    of it. Header names are in lower case."""

    status: int
    text: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    def json(self) -> Mapping[str, Any] | None:
        """The body if it is a JSON object."""
        try:
            body = json.loads(self.text.removeprefix("\ufeff"))
        except (ValueError, RecursionError):
            return None
        return body if isinstance(body, dict) else None

    def not_before(self, now_ms: int) -> int | None:
        return not_before(self.headers.get("retry-after"), now_ms)

    def refusal(self, now_ms: int, detail: str = "") -> Outcome:
        """What the status says where the other side takes a message in its own words alone: another
        2xx is of somebody between us."""
        outcome = self.outcome(now_ms, detail)
        if isinstance(outcome, Delivered):
            return RetryAt(f"{outcome.detail}: not an answer of the service")
        return outcome

    def outcome(self, now_ms: int, detail: str = "") -> Outcome:
        """What the status alone says."""
        retry_after = self.headers.get("retry-after")
        return http_outcome(self.status, retry_after, now_ms, detail or self.text)


ReadAnswer = Callable[[HttpAnswer, int], Outcome]
"""What the answer, at a time in ms, means for the message. It never raises."""


class SendFailed(Exception):
    """No answer came; the text says why, without a secret."""


class HttpSender:
    """The requests of one receiver, each over a connection of its own: a page never meets a stale
    one. `url` is where they go, as far as names are looked up before they are needed.

    Raises OSError or ssl.SSLError for certificates that cannot be read.
    """

    def __init__(
        self,
        name: str,
        settings: HttpSettings,
        url: str,
        secrets: Iterable[str] = (),
        headers: Mapping[str, str] | None = None,
        lookup: Lookup | None = None,
    ) -> None:
        self.address = without_secrets(url)
        self._host, self._limit_s = urlsplit(url).hostname or "", settings.timeout / 1000
        self._secrets = spellings((*secrets_of(url, (headers or {}).values()), *secrets))
        self._headers = dict(headers or {})
        tls = _tls(settings)
        self.lookup = lookup or Lookup(name)
        client = httpx.AsyncClient(
            headers={"User-Agent": "Tocsin", "Accept-Encoding": "identity", **(headers or {})},
            verify=tls,
            timeout=None,
            limits=httpx.Limits(max_keepalive_connections=0),
            trust_env=settings.proxy_from_environment,
        )
        self._client = looking_up(client, self.lookup)

    async def send(
        self,
        request: HttpRequest,
        now_ms: int,
        transcript: list[str] | None,
        read: ReadAnswer,
        secrets: Iterable[str] = (),
    ) -> Outcome:
        """What comes of it, as `read` says. `secrets` are those of this message alone."""
        dialogue = transcript if transcript is not None else []
        dialogue.append(f"> {request.method} {without_secrets(request.url)}")
        hidden = (*self._secrets, *spellings(secrets))
        try:
            answer = await self._exchange(request, self._limit_s, hidden)
        except TimeoutError:
            address = without_secrets(request.url)
            outcome: Outcome = RetryAt(f"{address}: no response within {self._limit_s:g} s")
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            outcome = self._outcome_of_error(error, request, hidden)
        else:
            shown = masked(answer.text, hidden)
            dialogue.append(f"< HTTP {answer.status} {shown}".rstrip())
            # before it is read: whoever cuts it would leave half of a secret, which nothing covers
            answer = replace(answer, text=covered(answer.text, filter(_is_long, hidden)))
            outcome = _covered(read(answer, now_ms), hidden)
        if isinstance(outcome, RetryAt | Permanent):
            dialogue.append(f"! {outcome.error}")
        return outcome

    async def ask(self, request: HttpRequest, limit_s: float | None = None) -> HttpAnswer:
        """The answer to what is no message: long polling, the state of one. Raises SendFailed."""
        limit_s = self._limit_s if limit_s is None else limit_s
        try:
            return await self._exchange(request, limit_s, self._secrets)
        except TimeoutError:
            address = without_secrets(request.url)
            raise SendFailed(f"{address}: no response within {limit_s:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise SendFailed(self._error(error, request, self._secrets)) from None

    def begin(self) -> None:
        """Take the thread that looks names up. Raises RuntimeError."""
        self.lookup.begin("" if has_proxy(self._client) else self._host)

    async def close(self) -> None:
        await self._client.aclose()

    def masked(self, text: str) -> str:
        return masked(text, self._secrets)

    async def _exchange(
        self, request: HttpRequest, limit_s: float, secrets: Iterable[str]
    ) -> HttpAnswer:
        if rehearsed(partial(_shown, request, self._headers), secrets):
            return HttpAnswer(200, TAKEN)
        async with asyncio.timeout(limit_s):
            built = self._client.build_request(
                request.method, request.url, content=request.content, headers=request.headers
            )
            response = await self._client.send(built, stream=True)
        text = await beginning(response, MAX_ANSWER_BYTES, min(limit_s, _ANSWER_TIMEOUT_S))
        headers = {name.lower(): value for name, value in response.headers.items()}
        return HttpAnswer(response.status_code, text, headers)

    def _outcome_of_error(
        self, error: Exception, request: HttpRequest, secrets: Iterable[str]
    ) -> Outcome:
        text = self._error(error, request, secrets)
        if certificate_refused(error):
            return Permanent(f"{text}; set ca_file to the certificate authority")
        if why := forbidden(error):
            return Permanent(f"{without_secrets(request.url)}: {why}")
        return RetryAt(text)

    def _error(self, error: Exception, request: HttpRequest, secrets: Iterable[str]) -> str:
        return masked(f"{without_secrets(request.url)}: {error_text(error)}", secrets)


class HttpChannel:
    """What channels share that speak to one service by HTTP, which is `_http`. It is made with the
    arguments of an `HttpSender`, and raises as that."""

    at_once = 4

    def __init__(
        self,
        name: str,
        settings: HttpSettings,
        url: str,
        secrets: Iterable[str] = (),
        headers: Mapping[str, str] | None = None,
        lookup: Lookup | None = None,
    ) -> None:
        self.name, self.send_resolved = name, settings.send_resolved
        self._http = HttpSender(name, settings, url, secrets, headers, lookup)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name}, {self._http.address})"

    def begin(self) -> None:
        self._http.begin()

    async def close(self) -> None:
        await self._http.close()


def _shown(request: HttpRequest, usual: Mapping[str, str]) -> Rehearsed:
    to = f"{request.method} {without_secrets(request.url)}"
    body = readable(request.content, request.headers.get("Content-Type", ""))
    return Rehearsed(to, body, {**usual, **request.headers})


def _tls(settings: HttpSettings) -> ssl.SSLContext:
    verify = not settings.insecure_skip_verify
    if settings.ca_file is None and settings.cert_file is None:
        return _system_tls(verify)
    context = tls_context(str(settings.ca_file) if settings.ca_file else None, verify=verify)
    if settings.cert_file is not None:
        context.load_cert_chain(settings.cert_file, settings.key_file)
    return context


@cache
def _system_tls(verify: bool) -> ssl.SSLContext:
    """Shared by all that speak HTTP: the system's authorities are 40 ms and a megabyte."""
    return tls_context(None, verify=verify)


def _covered(outcome: Outcome, secrets: Iterable[str]) -> Outcome:
    """Without the secrets that the other side repeats."""
    match outcome:
        case Delivered(detail=detail):
            return replace(outcome, detail=masked(detail, secrets))
        case RetryAt(error=error) | Permanent(error=error):
            return replace(outcome, error=masked(error, secrets))


def http_outcome(status: int, retry_after: str | None, now_ms: int, detail: str = "") -> Outcome:
    """2xx is done; 408, 425, 429 and 5xx are worth another try; all else is a refusal, 410 for
    good: the receiver is gone."""
    text = f"HTTP {status}" + (f": {detail}" if detail else "")
    if 200 <= status < 300:
        return Delivered(detail=text)
    if status in _RETRIED_STATUSES or status >= 500:
        return RetryAt(text, not_before(retry_after, now_ms))
    if 300 <= status < 400:
        return Permanent(f"HTTP {status}: a redirect, which is not followed; configure the new URL")
    return Permanent(text, final=status == 410)


def not_before(retry_after: str | None, now_ms: int) -> int | None:
    """When Retry-After (seconds or an HTTP date) lets us come again; None without a sensible one.

    At most an hour from now, never in the past. Source: RFC 9110 section 10.2.3.
    """
    if retry_after is None:
        return None
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        wait_ms = min(int(text[:12]) * 1000, MAX_WAIT_MS)
    else:
        wait_ms = _date_ms(text, now_ms) - now_ms
    return now_ms + min(max(wait_ms, 0), MAX_WAIT_MS) if wait_ms else None


def _date_ms(text: str, otherwise_ms: int) -> int:
    try:
        return int(parsedate_to_datetime(text).timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        return otherwise_ms


def secrets_of(url: str, headers: Iterable[str]) -> tuple[str, ...]:
    """Everything that an error must not repeat: the URL beyond its host, and header values."""
    parts = urlsplit(url)
    values = [pair.partition("=")[2] for pair in parts.query.split("&")]
    secrets = [
        secret
        for secret in (url, parts.query, parts.path, parts.fragment, *values)
        if len(secret) >= _MIN_SECRET_LENGTH and secret != without_secrets(url)
    ]
    secrets += [part for part in parts.path.split("/") if _is_key(part)]
    if parts.password or parts.username:
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        basic = base64.b64encode(f"{user}:{password}".encode()).decode()
        secrets += [basic, password, parts.password or "", parts.netloc.rpartition("@")[0]]
        secrets += [] if password else [user]
    for value in headers:
        secrets += [value, value.removeprefix("Bearer ")]
    return tuple(secret for secret in secrets if secret)


def spellings(secrets: Iterable[str]) -> tuple[str, ...]:
    """Each as it is, and as a URL or a JSON text of the other side may repeat it."""
    found: dict[str, None] = {}
    for secret in filter(None, secrets):
        others = (quote(secret, safe=""), unquote(secret), secret.replace("/", "\\/"))
        found |= dict.fromkeys((secret, *filter(_is_long, others)))
    return tuple(found)


def _is_long(secret: str) -> bool:
    """Shorter, it may be a word of an answer that means something."""
    return len(secret) >= _MIN_KEY_LENGTH


def _is_key(part: str) -> bool:
    """Whether a part of a path looks like one that was given out, as a UUID; words do not."""
    return len(part) >= _MIN_KEY_LENGTH and any(char.isdigit() for char in part)


def without_secrets(url: str) -> str:
    """The part of a URL that is no secret: scheme, host and port."""
    parts: SplitResult = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")
