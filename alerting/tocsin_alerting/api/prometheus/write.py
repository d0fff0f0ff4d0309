"""`POST /api/v1/write`: samples of other collectors, over Prometheus's remote write 1.0 and 2.0.

Protocol: https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/. A sender drops what is
answered with 4xx and sends again what is answered with 5xx; it logs the first line of the text.
"""

import asyncio
import re
from collections.abc import Callable
from concurrent.futures import Executor, Future
from email.message import Message

from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tocsin_alerting.api.http.envelope import HTTP_STATUS, ApiError
from tocsin_alerting.api.http.guard import Guard
from tocsin_alerting.api.http.roles import Role, RoleRoute, plainly
from tocsin_alerting.remote_write.group_commit import GroupCommit, Receive
from tocsin_alerting.remote_write.prompb import Malformed, RequestTooLarge
from tocsin_alerting.remote_write.receiver import Busy, Receiver
from tocsin_alerting.remote_write.result import ReceiveResult
from tocsin_alerting.tsdb.senders import Sender
from tocsin_exporter.connections import counted_address

BODIES = ("application/x-protobuf",)
MAX_BODY_BYTES = 16 << 20
MAX_WAITING_BYTES = 64 << 20  # of all requests together
BODY_SECONDS = 30.0  # as long as a Prometheus waits for our answer
_PRODUCT = re.compile(r"[A-Za-z0-9._+-]{1,40}")
_MESSAGE, _MESSAGE_V2 = "prometheus.WriteRequest", "io.prometheus.write.v2.Request"
_UNDERSTOOD = f"send remote write: {BODIES[0]};proto={_MESSAGE} (or {_MESSAGE_V2}), in snappy"
_WRITTEN = "X-Prometheus-Remote-Write-{}-Written"


class RemoteWriteEndpoint:
    """Takes requests one after the other, off the loop, so that nothing else waits for them.

    `executor` has one thread; `now_ms` gives Unix milliseconds; at most `most_bytes` of bodies
    wait at a time, and none is waited for longer than `body_seconds`. `logged` is done when what
    was taken so far would outlive the process; only then the sender is told, if that takes no
    longer than some seconds. Without it samples are kept in memory alone.
    """

    def __init__(
        self,
        receiver: Receiver,
        executor: Executor,
        now_ms: Callable[[], int],
        most_bytes: int = MAX_WAITING_BYTES,
        body_seconds: float = BODY_SECONDS,
        logged: "Callable[[], Future[None]] | None" = None,
    ) -> None:
        self._commits = GroupCommit(receiver.receive, executor, logged)
        self._receive_v2 = receiver.receive_v2
        self._now_ms = now_ms
        self._free_bytes, self._body_seconds = most_bytes, body_seconds
        self.requests = receiver.counters.requests

    async def handle(self, request: Request) -> Response:
        """The answer to one request of remote write. Raises ApiError."""
        if _message(request) == _MESSAGE:
            return _told(await self.take(request))
        result = await self.take(request, self._receive_v2)
        answer = _told(result)
        written = {"Samples": result.accepted, "Histograms": 0, "Exemplars": 0}
        for kind, count in written.items():
            answer.headers[_WRITTEN.format(kind)] = str(count)
        return answer

    async def take(self, request: Request, receive: Receive | None = None) -> ReceiveResult:
        """What became of a request that `receive` reads, in its turn. Raises ApiError."""
        body = bytearray()
        try:
            async with asyncio.timeout(self._body_seconds):
                async for chunk in request.stream():
                    self._add_chunk(body, chunk)
            taken = bytes(body), self._now_ms(), sender_of(request)
            return await self._commits.commit(*taken, receive)
        except Malformed as error:
            raise ApiError("bad_data", str(error)) from None
        except RequestTooLarge as error:
            raise ApiError("too_large", str(error)) from None
        except TimeoutError:
            why = f"request body not received within {self._body_seconds:g} s; send it again"
            raise ApiError("unavailable", why) from None
        except ClientDisconnect:
            raise ApiError("bad_data", "the sender disconnected") from None
        except Busy as error:
            raise ApiError("unavailable", str(error)) from None
        finally:
            self._free_bytes += len(body)

    def _add_chunk(self, body: bytearray, chunk: bytes) -> None:
        if len(body) + len(chunk) > MAX_BODY_BYTES:
            raise RequestTooLarge(f"request body is longer than {MAX_BODY_BYTES >> 20} MiB")
        if len(chunk) > self._free_bytes:
            raise ApiError("unavailable", "too many requests are waiting; send it again")
        self._free_bytes -= len(chunk)
        body += chunk


def sender_of(request: Request) -> Sender:
    """Who sends: the address, and the product that `User-Agent` names, without its version."""
    product = _PRODUCT.match(request.headers.get("user-agent", ""))
    return Sender(counted_address(request.client), product[0] if product else "")


def routes(intake: RemoteWriteEndpoint, guard: Guard) -> list[Route]:
    """`guard` lets bodies of BODIES pass."""

    async def write(request: Request) -> Response:
        status = 500
        try:
            answer = await _answer(request, intake, guard)
            status = answer.status_code
        finally:
            intake.requests[status] += 1
        return answer

    def refused(error: ApiError) -> Response:
        intake.requests[HTTP_STATUS[error.type]] += 1
        return plainly(error)

    return [RoleRoute("/api/v1/write", write, Role.RESPOND, ["POST"], refused)]


async def _answer(request: Request, intake: RemoteWriteEndpoint, guard: Guard) -> Response:
    try:
        guard(request)
        _check_protocol(request)
        return await intake.handle(request)
    except ApiError as error:
        return plainly(error)


def _told(result: ReceiveResult) -> Response:
    if result.refused:
        return PlainTextResponse(f"{result.message}\n", 400)
    return Response(status_code=204)


def _message(request: Request) -> str:
    """What the body is said to be."""
    if request.headers["content-type"] == BODIES[0]:
        return _MESSAGE
    kind = Message()
    kind["content-type"] = request.headers["content-type"]
    return str(kind.get_param("proto", _MESSAGE))


def _check_protocol(request: Request) -> None:
    """Raises ApiError for another message than ours, or another compression."""
    message = _message(request)
    if message not in (_MESSAGE, _MESSAGE_V2):
        raise ApiError("unsupported_media_type", f"{message} is not supported; {_UNDERSTOOD}")
    # As for Prometheus, a request that names no compression is in snappy: it always was.
    encoding = request.headers.get("content-encoding", "snappy").strip().lower()
    if encoding != "snappy":
        raise ApiError("unsupported_media_type", f"{encoding} is not supported; {_UNDERSTOOD}")
