"""`/links/TOKEN/call`: the key that somebody pressed in a call, as the telephone service tells it.

Two things must be right: the service's signature, without which nothing is said of the link, and
the link, which names the incident and whom the call was for. A request that comes a second time
does nothing.
"""

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tocsin_alerting.api.http.body import read_body
from tocsin_alerting.api.http.envelope import ApiError
from tocsin_alerting.api.http.roles import Role, RoleRoute
from tocsin_alerting.incidents.actions import Action, Verb
from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.incidents.errors import NoSuchIncident
from tocsin_alerting.notify.channel import Channel
from tocsin_alerting.notify.contact_ways import masked_number
from tocsin_alerting.notify.signed_links import LinkTarget, SignedLinks
from tocsin_alerting.notify.twilio.voice import CALL_PATH, TwilioVoice
from tocsin_exporter.basic_auth import FailureLimit
from tocsin_exporter.connections import counted_address

log = logging.getLogger(__name__)

_MAX_BODY_BYTES, _MOST_FIELDS = 16 << 10, 100
_MOST_REMEMBERED = 1000
_ACKNOWLEDGES = "1"
_TOO_MANY = "too many wrong requests from this address; try again later\n"
_NOT_FOUND = "not signed by the telephone service, or no such link; nothing is done\n"
_REPEATED = "this call has answered already; nothing is done a second time\n"

_BAD_SIGNATURE = (
    "wrong signature; external_url must be the address that the service asks, and the auth token"
    " that of its account"
)

Fields = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class CallAnswering:
    """`answer` does what somebody wants and gives the sentence that tells it; `over` is the one for
    an incident of which nothing is left to do. `phones` are the numbers of contacts by their names,
    `external_url` is where the service reaches us."""

    channels: Mapping[str, Channel]
    links: SignedLinks
    dispatcher: Dispatcher
    answer: Callable[[Action], Awaitable[str]]
    over: str
    phones: Mapping[str, str]
    contacts: Collection[str]
    external_url: str
    monotonic: Callable[[], float]


def routes(about: CallAnswering) -> list[Route]:
    endpoint = _CallEndpoint(about)
    return [RoleRoute(f"/links/{{token}}/{CALL_PATH}", endpoint.answer, Role.HEALTH, ["POST"])]


class _CallEndpoint:
    def __init__(self, about: CallAnswering) -> None:
        self._about = about
        self._wrong = FailureLimit(about.monotonic)
        self._answered: OrderedDict[tuple[str, str], None] = OrderedDict()

    async def answer(self, request: Request) -> Response:
        try:
            body = await read_body(request, _MAX_BODY_BYTES)
            fields = _fields(body)
        except ApiError as error:
            return PlainTextResponse(f"{error}\n", 413 if error.type == "too_large" else 408)
        except ValueError:
            return self._refused(request, 404, "no form")
        sent = dict(fields)
        channel = self._signed_for(request, fields, sent)
        if channel is None:
            return self._refused(request, 404, _BAD_SIGNATURE)
        target = self._about.links.target(request.path_params["token"])
        if target is None or not self._is_known(target):
            return self._refused(request, 404, "no such link")
        if sent.get("Digits") != _ACKNOWLEDGES:
            return _spoken(channel.twiml.ask_again(self._url(request)))
        call = (sent.get("CallSid", ""), request.path_params["token"])
        if not call[0] or call in self._answered:
            return self._refused(request, 403, "repeated", _REPEATED)
        self._remember(call)
        said = await self._acknowledge(request, target, sent)
        return _spoken(channel.twiml.reply(said))

    def _url(self, request: Request) -> str:
        """As the service asked for it: a proxy may have changed the host that we see."""
        query = f"?{request.url.query}" if request.url.query else ""
        return f"{self._about.external_url.rstrip('/')}{request.url.path}{query}"

    def _signed_for(
        self, request: Request, fields: Fields, sent: Mapping[str, str]
    ) -> TwilioVoice | None:
        given, url = request.headers.get("x-twilio-signature", ""), self._url(request)
        account = sent.get("AccountSid", "")
        calls = [one for one in self._about.channels.values() if isinstance(one, TwilioVoice)]
        own = (one for one in calls if one.is_from(account))
        return next((one for one in own if one.is_signed(url, fields, given)), None)

    def _refused(
        self, request: Request, status: int, why: str, words: str = _NOT_FOUND
    ) -> Response:
        """What is wrong stands in the log alone: a stranger learns nothing."""
        address = counted_address(request.client)
        if self._wrong.exceeded(address):
            return PlainTextResponse(_TOO_MANY, 429, {"retry-after": "1"})
        log.warning("answer by a call refused: %s", why, extra={"client": address})
        return PlainTextResponse(words, status)

    def _is_known(self, target: LinkTarget) -> bool:
        if target.contact:
            return target.contact in self._about.contacts
        return target.receiver in self._about.channels

    def _remember(self, call: tuple[str, str]) -> None:
        self._answered[call] = None
        if len(self._answered) > _MOST_REMEMBERED:
            self._answered.popitem(last=False)

    async def _acknowledge(
        self, request: Request, target: LinkTarget, sent: Mapping[str, str]
    ) -> str:
        """Bound to the incident, to whom the call was for, and to what fired then: one that has
        reopened since is another matter."""
        try:
            incident = await self._about.dispatcher.incident(target.incident)
        except NoSuchIncident:
            return self._about.over
        generation = request.query_params.get("generation", "")
        told = int(generation) if generation.isascii() and generation.isdigit() else -1
        if incident.uid != target.uid or not incident.is_open or told < incident.cycle:
            return self._about.over
        return await self._about.answer(
            Action(
                Verb.ACK,
                target.incident,
                actor=target.contact or self._name_of(sent.get("To", "")),
                request_id=f"call/{sent['CallSid']}",
                via="call" if target.contact else f"call {target.receiver}",
            )
        )

    def _name_of(self, number: str) -> str:
        """Of the receiver's own numbers: the contact who has it, else its last digits."""
        owners = (name for name, phone in self._about.phones.items() if phone == number)
        return next(owners, f"phone {masked_number(number)}")


def _fields(body: bytes) -> Fields:
    """Raises ValueError for what is no form."""
    text = body.decode("utf-8")
    return parse_qsl(
        text, keep_blank_values=True, strict_parsing=bool(text), max_num_fields=_MOST_FIELDS
    )


def _spoken(twiml: str) -> Response:
    return Response(twiml, media_type="text/xml")
