"""A client of the query API, on one kept-alive connection, without compression on either side."""

import http.client
import json
import math
import time
from typing import Any
from urllib.parse import urlencode

Form = dict[str, str]


class Client:
    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)

    def ask(self, path: str, form: Form) -> tuple[float, bytes]:
        """Milliseconds from the request to the last byte of the answer, and the answer."""
        began = time.perf_counter()
        self._connection.request("GET", f"/api/v1/{path}?{urlencode(form)}")
        response = self._connection.getresponse()
        body = response.read()
        took = (time.perf_counter() - began) * 1000
        if response.status != 200:
            raise SystemExit(f"{path} answered {response.status}: {body[:500]!r}")
        return took, body

    def close(self) -> None:
        self._connection.close()


def difference(ours: bytes, theirs: bytes) -> str:
    """What the first difference of two answers is; empty when they say the same."""
    mine, peers = (_comparable(json.loads(one)["data"]) for one in (ours, theirs))
    if mine.keys() != peers.keys():
        lacking, extra = len(peers.keys() - mine.keys()), len(mine.keys() - peers.keys())
        return f"{lacking} series or names are missing, {extra} too many"
    for key, samples in mine.items():
        if not _same(samples, peers[key]):
            return f"the samples of {key} differ"
    return ""


def entries(answer: bytes) -> int:
    """How many series or names an answer has."""
    return len(_comparable(json.loads(answer)["data"]))


def _comparable(data: Any) -> dict[Any, list[Any]]:
    """Samples by labels; names and label sets with none."""
    if isinstance(data, dict):
        return {
            tuple(sorted(one["metric"].items())): one.get("values") or [one["value"]]
            for one in data["result"]
        }
    return {tuple(sorted(one.items())) if isinstance(one, dict) else one: [] for one in data}


def _same(ours: list[Any], theirs: list[Any]) -> bool:
    if len(ours) != len(theirs):
        return False
    return all(
        abs(float(a[0]) - float(b[0])) < 0.001
        and (a[1] == b[1] or math.isclose(float(a[1]), float(b[1]), rel_tol=1e-9))
        for a, b in zip(ours, theirs, strict=True)
    )
