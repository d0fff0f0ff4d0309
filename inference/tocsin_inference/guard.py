"""The bearer key, where API_KEYS asks for one. Health, metrics and documentation stay open."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from tocsin_inference.errors import Outcome, Unauthorized
from tocsin_inference.responses import JsonResponse

_GUARDED = ("/v1/", "/generate", "/batch_generate", "/thinking")


class Guard:
    """Answers 401 in place of `app` unless the request carries one of `keys`."""

    def __init__(
        self, app: ASGIApp, keys: Sequence[str], refuse: Callable[[Outcome], None]
    ) -> None:
        self._app = app
        self._keys = [key.encode() for key in keys]
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(_GUARDED):
            await self._app(scope, receive, send)
        elif self._knows(Headers(scope=scope).get("authorization", "")):
            await self._app(scope, receive, send)
        else:
            error = Unauthorized("this worker needs a key: Authorization: Bearer <key>")
            if scope["method"] == "POST":
                self._refuse(error.outcome)
            headers = {"www-authenticate": "Bearer"}
            answer = JsonResponse(error.body(), status_code=error.status, headers=headers)
            await answer(scope, receive, send)

    def _knows(self, header: str) -> bool:
        scheme, _, key = header.partition(" ")
        given = key.strip().encode("utf-8", "surrogateescape")
        # every key is compared, in constant time, so that time says nothing about them
        matches = [hmac.compare_digest(given, known) for known in self._keys]
        return scheme.lower() == "bearer" and any(matches)
