"""`POST /api/v1/channels/NAME/test`: one real message through a receiver, and what was said."""

from collections.abc import Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tocsin_alerting.api.http.envelope import ApiError, success
from tocsin_alerting.api.http.guard import Guard
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome
from tocsin_alerting.notify.channel import Channel
from tocsin_alerting.notify.channel_test import channel_test_notification
from tocsin_alerting.yaml_document import did_you_mean


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
        sent = channel_test_notification(name, contact, now_ms(), external_url)
        outcome = await channels[name].send(sent, now_ms(), transcript)
        return success(outcome_json(outcome, transcript))

    return [Route("/api/v1/channels/{name:path}/test", test, methods=["POST"])]


def outcome_json(outcome: Outcome, transcript: list[str]) -> dict[str, object]:
    delivered = isinstance(outcome, Delivered)
    why = outcome.detail if isinstance(outcome, Delivered) else outcome.error
    return {"delivered": delivered, "detail": why, "transcript": transcript}
