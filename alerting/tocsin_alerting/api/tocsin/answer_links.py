"""`/links/TOKEN`: the page by which the addressee of a message answers from a phone.

The link is the credential, bound to one incident and naming its addressee, so that it needs no
other and is served where the rest is not. A GET changes nothing, whoever follows links; a POST acts
if it carries what the page's own form does. Whatever is wrong with a link is answered alike.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import tzinfo
from pathlib import Path
from urllib.parse import quote, urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from tocsin_alerting.api.http.body import read_body
from tocsin_alerting.api.http.envelope import ApiError
from tocsin_alerting.api.http.roles import Role, RoleRoute
from tocsin_alerting.api.tocsin.answer_chart import AnswerChart, svg
from tocsin_alerting.api.tocsin.answer_form import (
    LinkReader,
    NotDone,
    action_of,
    form_fields,
)
from tocsin_alerting.api.tocsin.answer_page import AnswerPages, AnswerView
from tocsin_alerting.api.tocsin.answer_words import PageWords, reader_language
from tocsin_alerting.api.tocsin.why import rule_of
from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.incidents.errors import IncidentError, NoSuchIncident
from tocsin_alerting.incidents.incident import IncidentState
from tocsin_alerting.incidents.notification import worst_first
from tocsin_alerting.incidents.records import IncidentTimeline
from tocsin_alerting.notify.signed_links import LinkTarget, SignedLinks
from tocsin_alerting.promql.parser.printer import print_expr
from tocsin_alerting.rules.state import GroupState
from tocsin_alerting.rules.threshold import comparison
from tocsin_exporter.basic_auth import FailureLimit
from tocsin_exporter.connections import counted_address

log = logging.getLogger(__name__)

_MAX_BODY_BYTES = 16 << 10
_FORM_TYPE = "application/x-www-form-urlencoded"
_RUNBOOK = re.compile(r"[A-Za-z0-9_]{1,80}")
_PORTS = {"http": 80, "https": 443}
_NOT_FOUND = "no such link, or it is not valid any more\n"
_TOO_MANY = "too many wrong links from this address; try again later\n"
_FOREIGN = "answers from a page of another origin are refused\n"


@dataclass(frozen=True, slots=True)
class Answering:
    """What the page needs. `contacts` and `receivers` are those of the configuration: a link to one
    who is gone ends. `language` is for readers whose browser asks for none of ours; `external_url`
    is where the page is reached through a proxy."""

    dispatcher: Dispatcher
    links: SignedLinks
    groups: Callable[[], Sequence[GroupState]]
    chart: AnswerChart
    now_ms: Callable[[], int]
    monotonic: Callable[[], float]
    zone: tzinfo
    language: str
    contacts: Collection[str]
    receivers: Collection[str]
    external_url: str
    runbooks: Callable[[], Path]


def routes(about: Answering) -> list[Route]:
    endpoint = _AnswerEndpoint(about)
    return [
        RoleRoute("/links/{token}", endpoint.answer, Role.HEALTH, ["GET", "POST"]),
        RoleRoute("/links/{token}/runbook", endpoint.runbook, Role.HEALTH, ["GET"]),
    ]


class _AnswerEndpoint:
    def __init__(self, about: Answering) -> None:
        self._about = about
        self._pages = AnswerPages()
        self._wrong = FailureLimit(about.monotonic)
        self._headers = _headers(self._pages.style_source)

    async def answer(self, request: Request) -> Response:
        response = await self._answer(request)
        response.headers.update(self._headers)
        return response

    async def runbook(self, request: Request) -> Response:
        response = await self._runbook(request)
        response.headers.update(self._headers)
        return response

    async def _answer(self, request: Request) -> Response:
        posts = request.method == "POST"
        if posts and not self._is_ours(request):
            return Response(_FOREIGN, 403, media_type="text/plain")
        token = request.path_params["token"]
        target = self._target(token)
        if target is None:
            return self._refused(request)
        words = self._words(request)
        story = await self._story(target)
        if story is None:
            return HTMLResponse(self._pages.over(words), 403 if posts else 200)
        said = request.query_params.get("who", "")
        view = AnswerView(
            story=story,
            config=self._about.dispatcher.working.config,
            reader=LinkReader.of(target, said),
            words=words,
            now_ms=self._about.now_ms(),
            zone=self._about.zone,
            form=self._about.links.form(token, self._about.now_ms()),
            contacts=sorted(self._about.contacts),
            is_over=story.incident.state is IncidentState.CLOSED,
            link_name=token,
        )
        if posts:
            return await self._act(request, view, target)
        if done := request.query_params.get("done", ""):
            view = replace(view, said=_said(words, f"done_{done}", "good"))
        return await self._shown(view, bare=request.method == "HEAD")

    def _target(self, token: str) -> LinkTarget | None:
        """None for one that is not of us, and for one whose addressee is not there any more."""
        target = self._about.links.target(token)
        if target is None:
            return None
        known = self._about.contacts if target.contact else self._about.receivers
        return target if (target.contact or target.receiver) in known else None

    def _refused(self, request: Request) -> Response:
        """Whoever has a right one is never asked for how often others were wrong."""
        address = counted_address(request.client)
        if self._wrong.exceeded(address):
            headers = {"retry-after": "1"}
            return Response(_TOO_MANY, 429, headers, media_type="text/plain")
        log.warning("wrong link refused", extra={"client": address})
        return Response(_NOT_FOUND, 404, media_type="text/plain")

    def _is_ours(self, request: Request) -> bool:
        """A browser says where a form was. Behind a proxy that is `external_url`, and without a
        referrer it may be "null"; the form itself carries what only the page knows."""
        if request.headers.get("sec-fetch-site", "same-origin") == "cross-site":
            return False
        origin = request.headers.get("origin", "null")
        if origin == "null":
            return True
        asked = f"{request.url.scheme}://{request.headers.get('host', '')}"
        return _origin(origin) in (_origin(self._about.external_url), _origin(asked))

    async def _story(self, target: LinkTarget) -> IncidentTimeline | None:
        """None where it is no longer known, or its number is another one's."""
        try:
            story = await self._about.dispatcher.timeline(target.incident)
        except NoSuchIncident:
            return None
        return story if story.incident.uid == target.uid else None

    def _words(self, request: Request) -> PageWords:
        header = request.headers.get("accept-language", "")
        return PageWords(reader_language(header, self._about.language))

    async def _act(self, request: Request, view: AnswerView, target: LinkTarget) -> Response:
        about, incident = self._about, view.incident
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        try:
            body = await read_body(request, _MAX_BODY_BYTES)
        except ApiError as error:
            return Response(f"{error}\n", 413 if error.type == "too_large" else 408)
        try:
            if view.is_over:
                raise NotDone("failed_over")
            if kind != _FORM_TYPE:
                raise NotDone("failed_form")
            sent = form_fields(body)
            view = replace(view, reader=LinkReader.of(target, sent.get("who", "")))
            nonce = about.links.form_nonce(view.link_name, sent.get("form", ""), view.now_ms)
            if not nonce:
                raise NotDone("failed_old" if sent.get("form") else "failed_form")
            action = action_of(sent, incident, view.reader, nonce, view.now_ms)
            await about.dispatcher.act(action, about.now_ms())
        except NotDone as error:
            return await self._not_done(view, error)
        except IncidentError:
            return await self._not_done(view, NotDone("failed_state"))
        who = f"&who={quote(view.reader.name, safe='')}" if view.reader.asked else ""
        # Relative: it stays below whatever path a proxy has put before ours.
        return Response(status_code=303, headers={"location": f"?done={action.verb}{who}"})

    async def _not_done(self, view: AnswerView, error: NotDone) -> Response:
        """The page as things stand now, which says why nothing was done."""
        status = {"failed_over": 403, "failed_form": 400, "failed_confirm": 200}
        story = await self._about.dispatcher.timeline(view.incident.number)
        said = ("bad", view.words.fill(error.words, error.about))
        confirm = error.words == "failed_confirm"
        shown = replace(view, story=story, said=said, confirm=confirm)
        return await self._shown(shown, status=status.get(error.words, 409))

    async def _shown(self, view: AnswerView, status: int = 200, bare: bool = False) -> Response:
        writer = self._about.dispatcher.writer
        worst = next(iter(worst_first(view.incident, view.config, 1)), None)
        recorded = not writer.incident_waits(view.incident.number)
        view = replace(view, worst=worst, recorded=recorded)
        if not bare:
            view = await self._with_chart(view)
        await asyncio.sleep(0)
        return HTMLResponse(self._pages.page(view), status)

    async def _with_chart(self, view: AnswerView) -> AnswerView:
        """Of the hour until now, or until it was over; what was closed by hand goes on."""
        worst = view.worst
        found = worst and rule_of(worst, self._about.groups())
        if worst is None or not found:
            return view
        rule, labels = found[1], dict(worst.alert.labels)
        over = not view.incident.is_open and not view.incident.closed_by_hand
        ended_ms = view.incident.resolved_at_ms if over else None
        hour = await self._about.chart.hour(rule, labels, ended_ms or view.now_ms)
        if hour is None:
            return replace(view, rule=rule)
        drawn = svg(hour, print_expr(comparison(rule.query).measured), view.clock)
        newest = next((points[-1][1] for points in hour.lines if points), None)
        return replace(view, rule=rule, chart=drawn, value=newest)

    async def _runbook(self, request: Request) -> Response:
        token = request.path_params["token"]
        target = self._target(token)
        if target is None:
            return self._refused(request)
        words, story = self._words(request), await self._story(target)
        name = self._pages.runbook_name(story, self._about.dispatcher.working.config)
        page = self._about.runbooks() / f"{name}.md"
        if not _RUNBOOK.fullmatch(name) or not page.is_file():
            return Response(_NOT_FOUND, 404, media_type="text/plain")
        text = page.read_text(encoding="utf-8")
        return HTMLResponse(self._pages.text(words, name, text, f"../{token}"))


def _said(words: PageWords, name: str, tone: str) -> tuple[str, str] | None:
    """Only what the page says anyway: the address of a page is no place for texts of others."""
    return (tone, words[name]) if name in words else None


def _origin(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port; of what is no URL, none that another could equal."""
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname or url, parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return "", url, None


def _headers(style_source: str) -> dict[str, str]:
    """No script, nothing from elsewhere, in no frame, kept nowhere, and the address told nobody."""
    policy = (
        f"default-src 'none'; style-src {style_source}; form-action 'self';"
        " base-uri 'none'; frame-ancestors 'none'"
    )
    return {
        "cache-control": "no-store",
        "content-security-policy": policy,
        "referrer-policy": "no-referrer",
        "vary": "Accept-Language",
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "x-robots-tag": "noindex, nofollow",
    }
