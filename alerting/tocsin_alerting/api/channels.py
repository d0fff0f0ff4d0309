"""`POST /api/v1/channels/NAME/test`: one real message through a receiver, and what was said."""

from collections.abc import Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tocsin_alerting.api.answers import ApiError, success
from tocsin_alerting.api.guard import Guard
from tocsin_alerting.document import did_you_mean
from tocsin_alerting.incidents.outcome import Done, Outcome
from tocsin_alerting.notify.channel import Channel
from tocsin_alerting.notify.trial import trial


def routes(
    channels: Mapping[str, Channel],
    guard: Guard,
    now_ms: Callable[[], int],
    external_url: str = "",
) -> list[Route]:
    async def test(request: Request) -> Response:
        guard(request)
        name = request.path_params["name"]
        if name not in channels:
            hint = did_you_mean(name, channels)
            raise ApiError("not_found", f'no receiver is called "{name}"{hint}')
        transcript: list[str] = []
        contact = request.query_params.get("contact", "")
        sent = trial(name, contact, now_ms(), external_url)
        outcome = await channels[name].send(sent, now_ms(), transcript)
        return success(told(outcome, transcript))

    return [Route("/api/v1/channels/{name:path}/test", test, methods=["POST"])]


def told(outcome: Outcome, transcript: list[str]) -> dict[str, object]:
    delivered = isinstance(outcome, Done)
    why = outcome.detail if isinstance(outcome, Done) else outcome.error
    return {"delivered": delivered, "detail": why, "transcript": transcript}
