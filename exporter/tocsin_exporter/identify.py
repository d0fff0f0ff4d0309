"""Which inference engine answers at an address, if it is one at all."""

import asyncio
from dataclasses import dataclass

from tocsin_exporter.collectors import engine_answers as answers
from tocsin_exporter.collectors.engine_answers import METRICS_PATHS, EnginePage
from tocsin_exporter.collectors.engine_dialects import DIALECTS
from tocsin_exporter.engine_access import EngineAccess, EngineClient, Reply, ReplyTooLarge
from tocsin_exporter.http import httpx

UNNAMED = "openai"


@dataclass(frozen=True, slots=True)
class Identity:
    """`kind` is the name of a dialect, or `openai` for another engine with OpenAI's API; `model`
    the first of its list of models, else of its metrics, "" when it shows none."""

    kind: str
    model: str = ""


async def identify(access: EngineAccess, timeout_s: float) -> Identity | None:
    """What answers there, None when it is a stranger or nothing.

    A stranger's metrics and health pages prove nothing: many a server answers 401 to the one and
    200 to the other. It is an engine by its metrics, by its list of models, or by refusing that
    list in OpenAI's own words.
    """
    client = EngineClient(access)
    try:
        async with asyncio.timeout(timeout_s):
            page, models = await asyncio.gather(_metrics(client), client.get("/v1/models"))
    except (TimeoutError, ReplyTooLarge, httpx.HTTPError, httpx.InvalidURL, OSError):
        return None
    finally:
        await client.aclose()
    kind = page.dialect.name if page.dialect else _served_by(models)
    model = next(iter(answers.models(models) or ()), "") or answers.first_model(page.text)
    return Identity(kind, model) if kind else None


async def _metrics(client: EngineClient) -> EnginePage:
    for path in METRICS_PATHS:
        page = answers.page(await client.get(path))
        if page.dialect is not None:
            break
    return page


def _served_by(models: Reply) -> str:
    if answers.models(models) is None and not answers.is_openai_error(models):
        return ""
    owner = answers.owner(models)
    return owner if owner in DIALECTS else UNNAMED
