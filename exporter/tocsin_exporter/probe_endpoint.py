"""`/probe?target=...&module=...`: blackbox_exporter's endpoint.

Targets that are configured are for whoever may scrape; any other one takes what `refusal` says, for
a probe reaches what the asker may not.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from urllib.parse import unquote_plus

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from tocsin_exporter.exposition import rendered
from tocsin_exporter.negotiation import negotiate
from tocsin_exporter.probes.loop import ProbeLoop
from tocsin_exporter.probes.modules import HttpProbe, ProbeModule, TcpProbe
from tocsin_exporter.probes.prober import NotProbed, ProbeResult
from tocsin_exporter.slices import at_once
from tocsin_exporter.snapshot import LayoutCache, Snapshot, Source

TIMEOUT_OFFSET = 0.5  # so much earlier than the asker gives up
_DEFAULT_SECONDS = 120.0
_DEFAULT_MODULE = "http_2xx"
_LONGEST_TARGET = 2048
MOST_ASKED = 40
_FOREIGN = "a page of another site may not have anything probed"


@dataclass(frozen=True, slots=True)
class ProbeTargets:
    """What may be asked for: the modules by name, and pairs of target and module that are free."""

    modules: Mapping[str, ProbeModule]
    configured: Collection[tuple[str, str]] = ()


class ProbeEndpoint:
    """`targets` gives what is configured now; `refusal` an answer for whoever may not choose a
    target."""

    def __init__(
        self,
        loop: ProbeLoop,
        targets: Callable[[], ProbeTargets],
        refusal: Callable[[Request], Response | None],
    ) -> None:
        self._loop, self._targets, self._refusal = loop, targets, refusal
        self._asked = 0

    async def answer(self, request: Request) -> Response:
        """200 with the metrics, whatever the probe found; 400 and 500 as blackbox_exporter, 403 for
        a target that the asker may not choose, 503 for too many at once."""
        try:
            target, module = self._wanted(request)
            seconds = probe_seconds(_asker_seconds(request), module.timeout)
        except _BadRequest as error:
            return PlainTextResponse(f"{error}\n", error.status)
        if not self._is_free(request, target, module.name):
            refused = _foreign(request) or self._refusal(request)
            if refused is not None:
                return refused
        if self._asked >= MOST_ASKED:
            return PlainTextResponse(f"Limit of concurrent probes reached ({MOST_ASKED})\n", 503)
        return await self._probed(request, target, module, seconds)

    async def _probed(
        self, request: Request, target: str, module: ProbeModule, seconds: float
    ) -> Response:
        self._asked += 1
        try:
            result = await self._loop.probe(target, module, seconds)
        except NotProbed as error:
            return PlainTextResponse(f"not probed: {error}\n", 503)
        finally:
            self._asked -= 1
        if _wants_debug(request):
            return PlainTextResponse(_debug(result, module))
        wanted = negotiate(request.headers.get("accept", ""))
        page = at_once(rendered([snapshot_of(result)], wanted.format))
        return Response(page.body, media_type=wanted.content_type)

    def _wanted(self, request: Request) -> tuple[str, ProbeModule]:
        name = request.query_params.get("module") or _DEFAULT_MODULE
        module = self._targets().modules.get(name)
        if module is None:
            raise _BadRequest(f'Unknown module "{name[:100]}"')
        target = request.query_params.get("target", "")
        if not target:
            raise _BadRequest("Target parameter is missing")
        target = unquote_plus(target)
        if len(target) > _LONGEST_TARGET or not target.isprintable():
            raise _BadRequest("Target is too long, or has characters that nobody sees")
        return target, _with_host(module, request.query_params.get("hostname", ""))

    def _is_free(self, request: Request, target: str, module: str) -> bool:
        plain = not request.query_params.get("hostname") and not _wants_debug(request)
        return plain and (target, module) in self._targets().configured


class _BadRequest(Exception):
    def __init__(self, words: str, status: int = 400) -> None:
        super().__init__(words)
        self.status = status


def _wants_debug(request: Request) -> bool:
    return request.query_params.get("debug") == "true"


def _foreign(request: Request) -> Response | None:
    """Any page can make a browser ask; it would not see the answer, and the request goes out."""
    site = request.headers.get("sec-fetch-site", "none")
    if site in ("none", "same-origin") and "origin" not in request.headers:
        return None
    return PlainTextResponse(f"{_FOREIGN}\n", 403)


def _with_host(module: ProbeModule, hostname: str) -> ProbeModule:
    """`hostname` is the Host header of HTTP, and the name that a certificate must be for."""
    probe = module.probe
    if hostname and isinstance(probe, HttpProbe):
        headers = {k: v for k, v in probe.headers.items() if k.lower() == "host"}
        if any(value != hostname for value in headers.values()):
            raise _BadRequest("the module has a Host header, and hostname is another")
        named = {**probe.headers, "Host": hostname}
        return replace(module, probe=replace(probe, headers=named))
    if hostname and isinstance(probe, TcpProbe) and not probe.tls.server_name:
        tls = replace(probe.tls, server_name=hostname)
        return replace(module, probe=replace(probe, tls=tls))
    return module


def _asker_seconds(request: Request) -> float:
    """How long the asker waits, 0 where it does not say."""
    text = request.headers.get("x-prometheus-scrape-timeout-seconds", "")
    try:
        seconds = float(text or 0)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 86400:
        raise _BadRequest("Failed to parse timeout from Prometheus header", 500)
    return seconds


def probe_seconds(asker: float, own: float, offset: float = TIMEOUT_OFFSET) -> float:
    """The time of a probe: the asker's less the offset, or the module's own where that is less, or
    where nothing would be left."""
    most = (asker or _DEFAULT_SECONDS) - offset
    if 0 < own < most or (most <= 0 and own > 0):
        return own
    return most if most > 0 else offset


def snapshot_of(result: ProbeResult) -> Snapshot:
    layout, values = LayoutCache().build(result.samples)
    return Snapshot(Source("", ""), 0, True, layout, values)


def _debug(result: ProbeResult, module: ProbeModule) -> str:
    page = at_once(rendered([snapshot_of(result)], "text"))
    log = "\n".join(result.lines)
    return (
        f"Logs for the probe:\n{log}\n\n\nMetrics that would have been returned:\n"
        f"{page.body.decode()}\n\n\nModule configuration:\n{module.shown}"
    )
