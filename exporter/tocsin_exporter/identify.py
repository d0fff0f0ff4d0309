"""Which inference engine answers at an address, if it is one at all."""

import asyncio

from tocsin_exporter.collectors import engine_answers as answers
from tocsin_exporter.collectors.engine_answers import METRICS_PATHS
from tocsin_exporter.collectors.engine_dialects import DIALECTS
from tocsin_exporter.engine_access import EngineAccess, EngineClient, TooLarge
from tocsin_exporter.http import httpx

UNNAMED = "openai"


async def identify(access: EngineAccess, timeout_s: float) -> str:
    """The name of its dialect, `openai` for another engine with OpenAI's API, "" for a stranger.

    A stranger's metrics and health pages prove nothing: many a server answers 401 to the one and
    200 to the other. It is an engine by its metrics, by its list of models, or by refusing that
    list in OpenAI's own words.
    """
    client = EngineClient(access)
    try:
        async with asyncio.timeout(timeout_s):
            return await _metrics(client) or await _models(client)
    except (TimeoutError, TooLarge, httpx.HTTPError, httpx.InvalidURL, OSError):
        return ""
    finally:
        await client.aclose()


async def _metrics(client: EngineClient) -> str:
    for path in METRICS_PATHS:
        page = answers.page(await client.get(path))
        if page.dialect is not None:
            return page.dialect.name
    return ""


async def _models(client: EngineClient) -> str:
    reply = await client.get("/v1/models")
    if answers.models(reply) is None and not answers.is_openai_error(reply):
        return ""
    owner = answers.owner(reply)
    return owner if owner in DIALECTS else UNNAMED
