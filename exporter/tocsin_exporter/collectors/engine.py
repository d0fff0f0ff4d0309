"""An inference engine: its own metrics page, read and translated, and whether it answers at all."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlsplit

from tocsin_exporter.catalogue import LLM
from tocsin_exporter.catalogue.table import Table
from tocsin_exporter.collectors.collector import CollectorError
from tocsin_exporter.collectors.engine_dialects import DIALECTS, Dialect, recognise
from tocsin_exporter.collectors.engine_translation import Translator
from tocsin_exporter.http import httpx
from tocsin_exporter.snapshot import Labels, Sample, labels

MOST_BYTES = 8 << 20
_PATHS = ("/metrics", "/prometheus/metrics")
_NAMELESS = ("tgi", "llamacpp")  # engines whose series do not say which model they are about


class Engine:
    """One engine at `url`; `target` is its host:port.

    `deadline_seconds` bounds a whole reading. `now` gives Unix seconds. An engine without a metrics
    page (Ollama, llama.cpp without --metrics) is watched by its model list alone.
    """

    name = "llm"

    def __init__(
        self,
        url: str,
        now: Callable[[], float],
        deadline_seconds: float = 3.0,
        families: Table = LLM,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        self.url = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        self.target = f"{host}:{port}"
        self._now = now
        self._deadline = deadline_seconds
        self._families = families
        # A kept connection that the engine closes just as we ask again would look like an outage.
        once = httpx.Limits(max_keepalive_connections=0)
        self._client = httpx.AsyncClient(
            transport=transport, limits=once, trust_env=False, timeout=None
        )
        self._translator: Translator | None = None
        self._path = _PATHS[0]
        self._version = ""
        self._closing: asyncio.Future[None] | None = None

    async def collect(self) -> Sequence[Sample]:
        """Raises CollectorError, with `llm_engine_up 0`, when the engine is down or unwell."""
        try:
            async with asyncio.timeout(self._deadline):
                found, unwell = await asyncio.gather(self._read(), self._unwell())
        except TimeoutError:
            raise self._down(f"no answer within {self._deadline:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise self._down(str(error) or type(error).__name__) from error
        if unwell:
            raise self._down(unwell, found)
        return [self._up(1.0), *found]

    def close(self) -> None:
        """Close the connections soon; `aclose` waits for it."""
        self._closing = asyncio.ensure_future(self.aclose())

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _read(self) -> list[Sample]:
        page = await self._page()
        if page is None:
            await self._get("/v1/models")
            return self._about(None)
        dialect = self._translator.dialect if self._translator else recognise(page)
        if dialect is None:
            return self._about(None)
        translator = self._translator
        if translator is None:
            translator = Translator(dialect, self.target, self._families)
            self._translator = translator
            self._version = await self._ask_version(dialect, page)
        if dialect.name in _NAMELESS and not translator.model:
            translator.model = await self._first_model()
        found = translator.samples(page)
        if not found and recognise(page) is not dialect:
            self._translator = None  # another engine has taken the port
        return self._about(dialect) + found

    async def _page(self) -> str | None:
        """The metrics page; None for an engine that has none."""
        for path in dict.fromkeys((self._path, *_PATHS)):
            response = await self._fetch(path)
            if response is not None:
                self._path = path
                return response
        return None

    async def _fetch(self, path: str) -> str | None:
        async with self._client.stream("GET", self.url + path) as response:
            if response.status_code in (404, 405, 501):
                return None
            response.raise_for_status()
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MOST_BYTES:
                    raise self._down(f"its metrics page is larger than {MOST_BYTES >> 20} MiB")
        return body.decode("utf-8", "replace")

    async def _get(self, path: str) -> httpx.Response:
        response = await self._client.get(self.url + path)
        return response.raise_for_status()

    async def _unwell(self) -> str:
        """Why the engine says that it is not well; nothing when it has no such page."""
        dialect = self._translator.dialect if self._translator else None
        if dialect is None or not dialect.health:
            return ""
        response = await self._client.get(self.url + dialect.health)
        if response.status_code >= 500:
            return f"{dialect.health} answers {response.status_code}"
        return ""

    async def _first_model(self) -> str:
        try:
            listed = (await self._get("/v1/models")).json()
            return str(listed["data"][0]["id"])
        except (httpx.HTTPStatusError, ValueError, LookupError, TypeError):
            return ""

    async def _ask_version(self, dialect: Dialect, page: str) -> str:
        if dialect.name != "vllm":
            return _own_version(page)
        try:
            answer: Mapping[str, object] = (await self._get("/version")).json()
            return str(answer.get("version", ""))
        except (httpx.HTTPStatusError, ValueError, AttributeError):
            return ""

    def _about(self, dialect: Dialect | None) -> list[Sample]:
        kind = dialect.name if dialect else "openai"
        info = labels(
            target=self.target, engine_type=kind, version=self._version, endpoint=self.url
        )
        when = self._families["llm_engine_last_scrape_timestamp_seconds"]
        return [
            Sample(when, self._now(), self._own()),
            Sample(self._families["llm_engine_info"], 1.0, info),
        ]

    def _up(self, value: float) -> Sample:
        return Sample(self._families["llm_engine_up"], value, self._own())

    def _own(self) -> Labels:
        return (("target", self.target),)

    def _down(self, why: str, found: Sequence[Sample] = ()) -> CollectorError:
        return CollectorError(f"engine {self.target}: {why}", [self._up(0.0), *found])


def _own_version(page: str) -> str:
    """The version that our own worker puts on `llm_engine_info`."""
    for line in page.splitlines():
        if line.startswith("llm_engine_info{"):
            _, _, rest = line.partition('version="')
            return rest.partition('"')[0]
    return ""


__all__ = ["DIALECTS", "Engine"]
