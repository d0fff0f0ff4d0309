"""Which inference engine answers at an address, if it is one at all."""

import asyncio
from dataclasses import dataclass

from tocsin_exporter.collectors import engine_answers as answers
from tocsin_exporter.collectors import engine_text
from tocsin_exporter.collectors.engine_answers import METRICS_PATHS, EnginePage
from tocsin_exporter.collectors.engine_dialects import DIALECTS
from tocsin_exporter.engine_access import EngineAccess, EngineClient, Reply
from tocsin_exporter.http import BadAnswer, httpx
from tocsin_exporter.slices import in_slices
from tocsin_exporter.tasks import task_group

UNNAMED = "openai"


@dataclass(frozen=True, slots=True)
class EngineIdentity:
    """`kind` is the name of a dialect, or `openai` for another engine with OpenAI's API; `model`
    the first of its list of models, else of its metrics, "" when it shows none."""

    kind: str
    model: str = ""


async def identify(access: EngineAccess, timeout_s: float) -> EngineIdentity | None:
    """What answers there, None when it is a stranger or nothing.

    A stranger's metrics and health pages prove nothing: many a server answers 401 to the one and
    200 to the other. It is an engine by its metrics, by its list of models, or by refusing that
    list in OpenAI's own words.
    """
    client = EngineClient(access)
    try:
        async with asyncio.timeout(timeout_s):
            async with task_group() as group:
                asked = group.create_task(_metrics(client)), group.create_task(_models(client))
            page, models = asked[0].result(), asked[1].result()
            kind = page.dialect.name if page.dialect else _served_by(models)
            model = next(iter(answers.models(models) or ()), "")
            if page.dialect and not model:
                lines = await in_slices(engine_text.read(page.text))
                model = await in_slices(answers.first_model(lines))
    except (TimeoutError, httpx.HTTPError, httpx.InvalidURL, OSError):
        return None
    finally:
        await client.aclose()
    return EngineIdentity(kind, model) if kind else None


async def _metrics(client: EngineClient) -> EnginePage:
    page = EnginePage(0)
    for path in METRICS_PATHS:
        try:
            page = await in_slices(answers.page(await client.metrics(path)))
        except BadAnswer:
            continue
        if page.dialect is not None:
            break
    return page


async def _models(client: EngineClient) -> Reply:
    try:
        return await client.get("/v1/models")
    except BadAnswer:
        return Reply(0)


def _served_by(models: Reply) -> str:
    if answers.models(models) is None and not answers.is_openai_error(models):
        return ""
    owner = answers.owner(models)
    return owner if owner in DIALECTS else UNNAMED
