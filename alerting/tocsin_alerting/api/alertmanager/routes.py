"""The routes of Alertmanager's API v2."""

import platform
from importlib.metadata import version

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tocsin_alerting.api.alertmanager import silences
from tocsin_alerting.api.alertmanager.alerts import AlertView, Progress
from tocsin_alerting.api.alertmanager.endpoint import alertmanager_route, as_json, check_json
from tocsin_alerting.api.alertmanager.intake import AlertIntake
from tocsin_alerting.api.alertmanager.posted_alerts import read_alerts
from tocsin_alerting.api.alertmanager.routing_tree import alertmanager_yaml, receiver_names
from tocsin_alerting.api.alertmanager.webhook import take_webhook
from tocsin_alerting.api.http.guard import Guard
from tocsin_alerting.api.http.roles import Role, RoleRoute
from tocsin_alerting.time_format import rfc3339


def routes(
    intake: AlertIntake,
    groups: Progress,
    guard: Guard,
    started_ms: int,
    external_url: str = "",
) -> list[Route]:
    """Alerts, their groups, silences, receivers and the status; annotations that link to the agent
    link below `external_url`."""
    view = AlertView(intake, groups, external_url)
    working = intake.dispatcher.working

    async def post(request: Request) -> Response:
        check_json(request)
        guard(request)
        return await intake.take(request, read_alerts)

    async def webhook(request: Request) -> Response:
        guard(request)
        return await take_webhook(intake, request)

    async def receivers(request: Request) -> Response:
        return as_json([{"name": name} for name in receiver_names(working.config)])

    async def status(request: Request) -> Response:
        original = alertmanager_yaml(working.config, intake.resolve_timeout_ms)
        return as_json(
            {
                "cluster": {"status": "disabled", "peers": []},
                "config": {"original": original},
                "uptime": rfc3339(started_ms),
                "versionInfo": _version_info(),
            }
        )

    return [
        alertmanager_route("/alerts", {"GET": view.alerts, "POST": post}),
        alertmanager_route("/alerts/groups", {"GET": view.groups}),
        alertmanager_route("/receivers", {"GET": receivers}),
        alertmanager_route("/status", {"GET": status}),
        *silences.routes(intake.dispatcher, guard, intake.now_ms),
        RoleRoute("/api/v1/alertmanager/webhook", webhook, Role.RESPOND, ["POST"]),
    ]


def _version_info() -> dict[str, str]:
    """In Alertmanager's fields, all of which its clients expect."""
    return {
        "version": version("tocsin"),
        "revision": "",
        "branch": "",
        "buildUser": "",
        "buildDate": "",
        "goVersion": f"Python {platform.python_version()}",
    }
