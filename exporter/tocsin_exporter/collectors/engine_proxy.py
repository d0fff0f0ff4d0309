"""What `tocsin proxy` has measured before an engine, for what the engine does not say itself.

Both count the same requests: a family is the engine's own as soon as the engine has said it once,
and the proxy's until then, so that no request counts twice under one target.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace

from tocsin_exporter.catalogue.table import Table
from tocsin_exporter.collectors import engine_text
from tocsin_exporter.collectors.engine_dialects import TOCSIN
from tocsin_exporter.collectors.engine_text import EnginePageText
from tocsin_exporter.collectors.engine_translation import Translator
from tocsin_exporter.collectors.engine_windows import EngineWindows
from tocsin_exporter.engine_access import EngineAccess, EngineClient, place
from tocsin_exporter.http import BadAnswer, httpx
from tocsin_exporter.slices import in_slices
from tocsin_exporter.snapshot import Exemplar, Sample, SeriesKey, labels

log = logging.getLogger(__name__)

_MOST_BYTES = 4 << 20
_OWN = 'tocsin_proxy_engine_connections{target="'  # says whose proxy it is, whatever it has counted


class ProxyReader:
    """The metrics page of the proxy at `access`, which stands before the engine `target`."""

    def __init__(
        self,
        access: EngineAccess,
        target: str,
        families: Table,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._target, self._families = target, families
        headers = {**access.headers, "Accept": "application/openmetrics-text"}  # with exemplars
        self._client = EngineClient(replace(access, headers=headers), transport)
        self._translator = Translator(TOCSIN, target, families)
        self._windows = EngineWindows(families)
        self._up = True
        self._of_engine = set[str]()  # families that the engine has said

    async def read(self, deadline_seconds: float) -> list[Sample] | None:
        """All that it has measured; None where that cannot be had, or is about another engine."""
        try:
            async with asyncio.timeout(deadline_seconds):
                reply = await self._client.get("/metrics", most_bytes=_MOST_BYTES)
                if not reply.ok:
                    return None
                page = await in_slices(engine_text.read(reply.text))
                if not self._is_ours(page):
                    return None
                return await in_slices(self._translator.samples(page))
        except (TimeoutError, BadAnswer, httpx.HTTPError, httpx.InvalidURL, OSError):
            return None

    def beside(self, own: Iterable[Sample], measured: Sequence[Sample] | None) -> list[Sample]:
        """The engine's `own` samples, and of what was `measured` the families that it has not."""
        own = list(own)
        self._of_engine.update(sample.family.name for sample in own)
        more = [s for s in measured or () if s.family.name not in self._of_engine]
        at = asyncio.get_running_loop().time()  # no step of the wall clock makes a rate
        if measured is not None:
            more += [
                s for s in self._windows.read(more, at) if s.family.name not in self._of_engine
            ]
        self._note(measured is not None)
        family = self._families["llm_engine_proxy_up"]
        return [
            *own, *more, Sample(family, float(measured is not None), labels(target=self._target))
        ]  # fmt: skip

    def _note(self, is_up: bool) -> None:
        if is_up != self._up:
            said = (
                "the proxy's metrics are read again" if is_up else "cannot read the proxy's metrics"
            )
            log.log(
                logging.INFO if is_up else logging.WARNING, said, extra={"target": self._target}
            )
        self._up = is_up

    @property
    def exemplars(self) -> dict[SeriesKey, Exemplar]:
        """Of the last page, behind series of the families that are the proxy's."""
        return {
            (name, about): example
            for (name, about), example in self._translator.exemplars.items()
            if name.removesuffix("_bucket") not in self._of_engine
        }

    async def aclose(self) -> None:
        await self._client.aclose()

    def _is_ours(self, page: EnginePageText) -> bool:
        """Whether it stands before this engine: it says so itself."""
        for text in page.texts:
            if text.startswith(_OWN):
                parsed = engine_text.series(text)
                return parsed is not None and place(parsed[1]["target"]) == place(self._target)
        return False
