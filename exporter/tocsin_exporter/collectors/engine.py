"""An inference engine: its own metrics page, read and translated, and whether it answers at all."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from tocsin_exporter.catalogue import LLM
from tocsin_exporter.catalogue.table import Table
from tocsin_exporter.collectors import engine_answers as answers
from tocsin_exporter.collectors import engine_text
from tocsin_exporter.collectors.collector import CollectorError, Partial, Unread
from tocsin_exporter.collectors.engine_answers import METRICS_PATHS, EnginePage
from tocsin_exporter.collectors.engine_derived import derived
from tocsin_exporter.collectors.engine_dialects import DIALECTS, Dialect
from tocsin_exporter.collectors.engine_log import EngineLogReader
from tocsin_exporter.collectors.engine_page import OriginalPage
from tocsin_exporter.collectors.engine_proxy import ProxyReader
from tocsin_exporter.collectors.engine_text import EnginePageText
from tocsin_exporter.collectors.engine_translation import Translator
from tocsin_exporter.collectors.engine_windows import EngineWindows
from tocsin_exporter.engine_access import EngineAccess, EngineClient, Reply
from tocsin_exporter.engine_targets import EngineTargets
from tocsin_exporter.http import CUT_OFF, BadAnswer, BrokenOff, error_text, httpx, own_shortage
from tocsin_exporter.slices import Work, in_slices
from tocsin_exporter.snapshot import Exemplar, Labels, Sample, SeriesKey, labels
from tocsin_exporter.tasks import task_group

_OURS = "tocsin"  # its words are those that we translate into
_TURN_ON = "turn its metrics on (llama.cpp: --metrics, SGLang: --enable-metrics)"
_GIVE_KEY = "give it a key: engines: [{url, bearer_token_file}]"
_SHARE_OF_ASIDE = 0.25  # of the deadline: the most that a page besides the metrics may cost
_LONGEST_ERROR = 300
_MOST_ROUTED = 16  # models of one router
_MOST_ROUTED_BYTES = 64 << 10  # llama.cpp's page has 3 KB
_UNNAMED = "openai"  # an engine whose type does not show
T = TypeVar("T")
_FIXES = {401: _GIVE_KEY, 403: _GIVE_KEY, 404: _TURN_ON, 405: _TURN_ON, 501: _TURN_ON}


class EngineCollector:
    """One engine, reached by `access`; its `target` is the label of all its series.

    `deadline_seconds` bounds a whole reading. `now` gives Unix seconds. An engine that refuses its
    metrics, or gives others than we know, is up while its model list or its health page answers as
    an engine's does. `original` gets each page as it is.
    """

    name = "llm"

    def __init__(
        self,
        access: EngineAccess,
        now: Callable[[], float],
        deadline_seconds: float = 3.0,
        families: Table = LLM,
        transport: httpx.AsyncBaseTransport | None = None,
        original: OriginalPage | None = None,
    ) -> None:
        self.access = access
        self.url = access.url
        self.target = access.target
        self._now = now
        self._deadline = deadline_seconds
        self._families = families
        self._original = original
        self._client = EngineClient(access, transport)
        self._translator: Translator | None = None
        self._dropped = Counter[str]()
        self._windows = EngineWindows(families)
        self._log = EngineLogReader(access.log_file, self.target) if access.log_file else None
        proxy = access.proxy
        self._proxy = ProxyReader(proxy, self.target, families, transport) if proxy else None
        self._kind = ""  # what it was when it was last known
        self._path = ""
        self._version = ""
        self._reading = False  # a page of an engine that has come
        self._closing: asyncio.Future[None] | None = None

    @property
    def metrics_url(self) -> str:
        """The page that is read, without keys."""
        return self.url + (self._path or self._paths[0])

    @property
    def dropped(self) -> Counter[str]:
        """Series of ours that a label with too many values has cost, by family."""
        return self._dropped

    @property
    def exemplars(self) -> Mapping[SeriesKey, Exemplar]:
        """Those of the page that was read last, if it is OpenMetrics and has some."""
        own = self._translator.exemplars if self._translator is not None else {}
        return {**own, **self._proxy.exemplars} if self._proxy is not None else own

    async def collect(self) -> Sequence[Sample]:
        """As `_collect`, with what a proxy before the engine has measured."""
        if self._proxy is None:
            return await self._collect()
        measuring = asyncio.create_task(self._proxy.read(self._deadline))
        try:
            return self._proxy.beside(await self._collect(), await measuring)
        except Unread:
            raise
        except CollectorError as error:
            error.samples = tuple(self._proxy.beside(error.samples, await measuring))
            raise
        finally:
            measuring.cancel()

    async def _collect(self) -> Sequence[Sample]:
        """Raises CollectorError, with `llm_engine_up 0`, when the engine is down or unwell,
        Partial, with `llm_engine_up 1`, when it is up and its metrics cannot be had, and Unread
        when we lack what it takes to ask."""
        self._reading = False
        try:
            async with asyncio.timeout(self._deadline):
                samples, unwell = await self._ask()
        except TimeoutError:
            if self._reading:
                why = f"it takes more than {self._deadline:g} s to read"
                raise self._without(EnginePage(200, why=why)) from None
            raise self._gone(f"no answer within {self._deadline:g} s") from None
        except BrokenOff as error:
            raise self._gone(str(error)) from error
        except (httpx.HTTPError, httpx.InvalidURL, OSError, RuntimeError, MemoryError) as error:
            if lack := own_shortage(error):
                raise Unread(f"engine {self.target} cannot be scraped: {lack}") from error
            if isinstance(error, RuntimeError):
                raise  # a fault of ours, and none of the engine's
            why = error_text(error)[:_LONGEST_ERROR]  # some quote the answer
            raise self._gone(why) from error
        if unwell:
            raise self._down(unwell, samples)
        return [self.up(1.0), *samples]

    def close(self) -> None:
        """Close the connections soon; `aclose` waits for it."""
        self._closing = asyncio.ensure_future(self.aclose())

    async def aclose(self) -> None:
        if self._log is not None:
            self._log.close()
        if self._proxy is not None:
            await self._proxy.aclose()
        await self._client.aclose()

    @property
    def _paths(self) -> tuple[str, ...]:
        named = self.access.metrics_path
        return METRICS_PATHS if not named else (named,)

    async def _ask(self) -> tuple[list[Sample], str]:
        """Its samples, and why it is unwell; which health page it has is known by its metrics."""
        if self._kind:
            async with task_group() as group:
                read, unwell = group.create_task(self._read()), group.create_task(self._unwell())
            return read.result(), unwell.result()
        return await self._read(), await self._unwell()

    async def _read(self) -> list[Sample]:
        if self.access.metrics_path == "":
            return await self._without_page()
        page = await self._page()
        if page.status == 400:
            page = await self._pages_of_router(page)
        if page.dialect is None:
            return await self._without_metrics(page)
        self._kind = page.dialect.name
        lines = await self._in_slices(engine_text.read(page.text))
        samples = await self._translated(lines, page.dialect)
        samples += await self._following(samples)
        if self._original is not None and page.dialect.name != _OURS:
            await self._in_slices(self._original.read(page.dialect.name, lines))
        limited = self._translator.limited if self._translator else 0
        limited += self._original.left_out if self._original is not None else 0
        over = Sample(self._families["llm_engine_series_limited"], limited, self._own())
        return [*self._about(page.dialect.name), *self._metrics(), over, *samples]

    async def _page(self) -> EnginePage:
        """The first page that we know; without one, the answer that says best why there is none."""
        pages: list[EnginePage] = []
        for path in dict.fromkeys((self._path or self._paths[0], *self._paths)):
            try:
                page = await in_slices(answers.page(await self._client.metrics(path)))
            except BadAnswer as error:
                page = await in_slices(answers.unreadable(error))
            if page.dialect is not None:
                self._path = path
                return page
            pages.append(page)
        return max(pages, key=lambda page: page.telling)

    async def _pages_of_router(self, refused: EnginePage) -> EnginePage:
        """Those of the models that llama.cpp's router has in memory, as one; `refused` is what it
        says to whoever names no model. A model that is not loaded must not be, by our asking."""
        loaded = answers.loaded_models(await self._aside("/v1/models"))
        if loaded is None or self.access.params:
            return refused
        path, texts = self._path or self._paths[0], []
        for model in loaded[:_MOST_ROUTED]:
            query = (("model", model), ("autoload", "false"))
            try:
                page = await in_slices(
                    answers.page(await self._client.get(path, query, _MOST_ROUTED_BYTES))
                )
            except BadAnswer:
                continue  # one that is being unloaded costs itself
            if page.dialect is not None:
                texts.append(answers.of_model(page.text, model))
        return EnginePage(200, "".join(texts), DIALECTS["llamacpp"])

    async def _in_slices(self, work: Work[T]) -> T:
        """Reads a page that has come: what takes too long now is no silence of the engine."""
        self._reading = True
        outcome = await in_slices(work)
        self._reading = False
        return outcome

    async def _aside(self, path: str, cut: bool = False) -> Reply:
        """A page besides the metrics; one that cannot be had does not cost the metrics."""
        try:
            async with asyncio.timeout(self._deadline * _SHARE_OF_ASIDE):
                return await self._client.get(path, cut=cut)
        except (BadAnswer, TimeoutError, httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            if own_shortage(error):
                raise
            return Reply(0)

    async def _following(self, samples: list[Sample]) -> list[Sample]:
        """What follows from the samples of this page and those before, and from the log."""
        source, logged = "sdk" if self._kind == _OURS else "upstream", []
        if self._log is not None:
            await self._log.read(self._deadline * _SHARE_OF_ASIDE)
            logged = list(self._log.samples(samples, self._families))
            source = "log" if logged else source
        at = asyncio.get_running_loop().time()  # no step of the wall clock makes a rate
        more = derived([*samples, *logged], self._families, source)
        return [*logged, *more, *self._windows.read(samples, at)]

    async def _translated(self, page: EnginePageText, dialect: Dialect) -> list[Sample]:
        translator, now_ms = self._translator, int(self._now() * 1000)
        if translator is not None:
            samples = await self._in_slices(translator.samples(page, now_ms))
            if samples or translator.dialect is dialect:
                return samples
        translator = Translator(dialect, self.target, self._families, dropped=self._dropped)
        self._version = await self._ask_version(dialect, page)
        if not await in_slices(answers.first_model(page)):
            translator.model = await self._first_model(dialect)
        self._translator = translator
        return await self._in_slices(translator.samples(page, now_ms))

    async def _without_page(self) -> list[Sample]:
        """An engine that has no metrics page, as we were told: its other answers must do."""
        try:
            models = await self._client.get("/v1/models")
        except BadAnswer:
            models = Reply(0)
        if not await self._answers(models):
            raise self._down(f"/v1/models answers {models.status}, not as an engine does")
        return [*self._about(_kind(models)), *self._metrics()]

    async def _without_metrics(self, page: EnginePage) -> list[Sample]:
        """Raises Partial when it is an engine all the same, and CollectorError when it is none."""
        cut = page.why == CUT_OFF and page.may_be_metrics  # perhaps before what shows whose it is
        if page.kind or (cut and self._known):
            await self._is_there(page)
            raise self._without(page)
        models = await self._aside("/v1/models")
        if not await self._answers(models, page):
            unlike = page.refused or page.why or self._known
            if unlike or not await in_slices(answers.has_samples(page)):
                raise self._down(_no_engine(page, models))
        if page.missing:
            version = answers.version(await self._aside("/api/version"))
            if version:
                self._version = version
                return [*self._about("ollama"), *self._metrics(), *await self._ollama()]
        raise self._without(page, _kind(models))

    async def _ollama(self) -> list[Sample]:
        """What Ollama, which has no metrics page, has in memory: it does not say what for."""
        sizes = answers.ollama_models(await self._aside("/api/ps"))
        samples = [
            Sample(
                self._families["llm_memory_bytes"],
                size,
                labels(target=self.target, engine="0", model_name=model, component="other"),
            )
            for model, size in sizes.items()
        ]
        return [*samples, *derived(samples, self._families, "upstream")]

    @property
    def _type(self) -> str:
        """What it was when it was last known, in this run or an earlier one; "" for never."""
        remembered = self._original.engine_type if self._original is not None else ""
        return self._kind or remembered

    @property
    def _known(self) -> bool:
        """Whether an engine with metrics was here before, in this run or an earlier one."""
        return bool(self._type) or self.access.expected

    async def _answers(self, models: Reply, page: EnginePage | None = None) -> bool:
        """Whether its model list or its health page answers as an engine's does. Raises
        CollectorError when the health page says that the engine is not well.

        `page` is what stands where its metrics should be.
        """
        answers_models = answers.models(models) is not None or answers.wants_key(models)
        if answers_models and not _health_path(answers.owner(models) or self._type):
            return True
        health = await self._health()
        return answers_models or (answers.is_well(health) and not self._replaced(page, health))

    async def _is_there(self, page: EnginePage) -> None:
        """Raises when it answers nothing more: who dies in its answer cuts its page off, too. An
        engine that is slow has all the time that there is, unless `page` shows that it is one."""
        health = _health_path(page.kind or self._type)
        try:
            async with asyncio.timeout(self._deadline * _SHARE_OF_ASIDE if page.kind else None):
                reply = await self._client.get(health or "/v1/models", cut=True)
        except BrokenOff:
            raise
        except BadAnswer:
            return
        except TimeoutError:
            if page.kind:
                return
            raise
        if health and reply.status >= 500:
            raise self._down(f"{health} answers {reply.status}")

    async def _health(self) -> Reply:
        """Raises CollectorError when it says that the engine is not well."""
        health = await self._aside("/health", cut=True)
        if health.status >= 500:
            raise self._down(f"/health answers {health.status}")
        return health

    def _replaced(self, page: EnginePage | None, health: Reply) -> bool:
        """Whether a health page proves nothing, as every other server has one: somebody else may
        have taken the engine's place, who says the same to whatever is asked."""
        if page is None:
            return False
        if page.refused:
            return page.missing and self._known
        return self._known or page.is_web_page or health.text.strip() == page.text.strip()

    def _without(self, page: EnginePage, kind: str = "") -> Partial:
        """It is up; `page` says why there are no metrics."""
        kind = page.kind or self._type or kind or _UNNAMED
        status = [*self._about(kind), *self._metrics(page)]
        return Partial(_why(self.target, page), [self.up(1.0), *status])

    async def _unwell(self) -> str:
        """Why the engine says that it is not well; nothing when it has no such page."""
        dialect = DIALECTS.get(self._kind)
        if dialect is None or not dialect.health:
            return ""
        try:
            status = await self._client.status(dialect.health)
        except BrokenOff:  # its metrics, or what is asked without them, show whether it is there
            return ""
        return f"{dialect.health} answers {status}" if status >= 500 else ""

    async def _first_model(self, dialect: Dialect) -> str:
        asked = dict(self.access.params).get("model")  # llama.cpp's router wants to know
        names = answers.models(await self._aside("/v1/models"))
        model = asked or next(iter(names or ()), "")
        if dialect.name != "llamacpp":
            return model
        return answers.gguf_model(model) or answers.alias(await self._aside("/props"))

    async def _ask_version(self, dialect: Dialect, page: EnginePageText) -> str:
        if dialect.name != "vllm":
            return answers.own_version(page)
        return answers.version(await self._aside("/version"))

    def _about(self, kind: str) -> list[Sample]:
        info = labels(
            target=self.target, engine_type=kind, version=self._version, endpoint=self.url
        )
        when = self._families["llm_engine_last_scrape_timestamp_seconds"]
        return [
            Sample(when, self._now(), self._own()),
            Sample(self._families["llm_engine_info"], 1.0, info),
            *self._targets(),
        ]

    def _targets(self) -> Iterator[Sample]:
        """What the configuration wants of it, if it wants anything."""
        wanted = self.access.targets or EngineTargets()
        for name, percentile, value in (
            ("e2e_request_latency_seconds", (("percentile", "50"),), wanted.latency_p50),
            ("e2e_request_latency_seconds", (("percentile", "95"),), wanted.latency_p95),
            ("time_to_first_token_seconds", (("percentile", "50"),), wanted.first_token),
            ("request_time_per_output_token_seconds", (("percentile", "50"),), wanted.per_token),
            ("generation_tokens_per_second", (), wanted.tokens_per_second),
        ):
            if value is not None:
                yield Sample(
                    self._families[f"llm_target_{name}"], value, (*percentile, *self._own())
                )

    def _metrics(self, page: EnginePage | None = None) -> list[Sample]:
        """`page` is one that gave no metrics."""
        refused = page.status if page and page.refused else 0
        unknown = page is not None and not page.refused
        return [
            Sample(self._families["llm_engine_metrics_refused"], refused, self._own()),
            Sample(self._families["llm_engine_metrics_unknown"], float(unknown), self._own()),
        ]

    def up(self, value: float) -> Sample:
        """`llm_engine_up`, which is said of an engine whatever happens."""
        return Sample(self._families["llm_engine_up"], value, self._own())

    def _own(self) -> Labels:
        return (("target", self.target),)

    def _down(self, why: str, samples: Sequence[Sample] = ()) -> CollectorError:
        return CollectorError(f"engine {self.target}: {why}", [self.up(0.0), *samples])

    def _gone(self, why: str) -> CollectorError:
        self._translator = None  # what comes back may be another version, or another model
        return self._down(why)


def _kind(models: Reply) -> str:
    owner = answers.owner(models)
    return owner if owner in DIALECTS else _UNNAMED


def _health_path(kind: str) -> str:
    """The health page of an engine of this type, "" for one whose health is not asked: SGLang's
    runs a generation, and fails under load. An engine whose type is unknown may have one."""
    return DIALECTS[kind].health if kind in DIALECTS else "/health"


def _no_engine(page: EnginePage, models: Reply) -> str:
    problem = f"answers {page.status}" if page.refused else page.why or "has no known metrics"
    return (
        f"its metrics page {problem}, and neither /v1/models ({models.status}) nor /health answers "
        "as an engine does"
    )


def _why(target: str, page: EnginePage) -> str:
    if page.why:
        return f"engine {target} answers, but its metrics page cannot be read: {page.why}"
    if not page.refused:
        return f"engine {target} answers, but has no known metrics"
    if page.status == 400:
        fix = "set the parameter that it asks for: engines: [{url, params: {model: NAME}}]"
    else:
        fix = _FIXES.get(page.status, "check the proxy in front of it")
    return f"engine {target} answers, but refuses its metrics (HTTP {page.status}): {fix}"


__all__ = ["DIALECTS", "EngineCollector"]
