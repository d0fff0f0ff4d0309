"""What hostile neighbours say, as hypothesis strategies of the bytes that go over the wire."""

import json
from collections.abc import Sequence
from random import Random
from typing import Any

from hypothesis import strategies as st

from support import write_requests
from support.neighbourhood import PART, SOUND_HOOK, SOUND_MAIL
from support.query_generator import QueryGenerator
from support.write_requests import Series

Bytes = st.SearchStrategy[bytes]
AGENT_PATHS = (
    "/ /metrics /metrics/ /federate /-/healthy /-/ready /runbooks/HostMemoryHigh /runbooks/.."
    " /api/v1/query /api/v1/query_range /api/v1/query_exemplars"
    " /probe /api/v1/format_query /api/v1/parse_query"
    " /api/v1/series /api/v1/labels /api/v1/label/job/values /api/v1/label/U__x_2e_/values"
    " /api/v1/metadata /api/v1/targets /api/v1/targets/metadata /api/v1/status/tsdb"
    " /api/v1/rules /api/v1/alerts /api/v1/scrape_pools /api/v1/alertmanagers"
    " /api/v1/status/buildinfo /api/v1/status/runtimeinfo /api/v1/status/flags"
    " /api/v1/status/config /api/v1/status/tocsin /api/v1/incidents /api/v1/incidents/1"
    " /api/v1/incidents/1/ack /api/v1/incidents/1/snooze /api/v1/incidents/1/resolve"
    " /api/v1/incidents/bulk /api/v1/overview /api/v1/log /api/v1/stats"
    " /api/v1/receivers /api/v1/receivers/none/test /api/v1/receivers/none/preview"
    " /api/v1/drill /api/v1/heartbeat/x /api/v1/heartbeats"
    " /api/v1/heartbeats/x /api/v1/heartbeats/x/forget"
    " /api/v1/tokens /api/v1/tokens/x /api/v1/tokens/x/revoke"
    " /api/v1/incidents/1/why /api/v1/incidents/1/record"
    " /api/v1/silences /api/v1/silences/1 /api/v1/silences/preview /api/v1/silences/1/extend"
    " /api/v1/silences/1/expire /api/v1/maintenance /api/v1/maintenance/1/end"
    " /api/v1/engines /api/v1/engines/127.0.0.1:1/forget /api/v1/write"
    " /api/v1/otlp/v1/metrics /api/v1/read"
    " /api/v1/channels/none/test /api/v1/channels/none/preview"
    " /api/v1/oncall /api/v1/oncall/overrides /api/v1/oncall/primary /api/v1/policies"
    " /api/v1/oncall/overrides/x/remove /api/v1/route"
    " /api/v2/alerts /api/v2/alerts/groups /api/v2/receivers /api/v2/status"
    " /api/v1/alertmanager/webhook /api/v1/openapi.json"
    " /api/v2/silences /api/v2/silence/4f4d7c2e-0000-4000-8000-000000000000"
    " /links/x /links/x/runbook /links/x/call /-/reload"
).split()
METHODS = ("GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "PRI", "get")
PARAMETERS = (
    "query start end step time timeout limit lookback_delta stats match[] metric state scrapePool"
    " rule_name[] rule_group[] file[] type exclude_alerts group_limit group_next_token collect[]"
    " name[] matcher cursor order limit_per_metric match_target original at from until label since"
    " person severity rule q incident event language zone"
).split()
VALUES = (
    "", "0", "1", "-1", "1e400", "NaN", "Inf", "-Inf", "9" * 400, "1m", "-1h", "100y", "up",
    '{__name__=~".+"}', "{", "2026-11-28T00:00:00Z", "9999-99-99T00:00:00Z", "292277026596-12-04",
    "\x00", "\ud7ff", "%", "../../../etc/passwd", "true", "all", "\u202e", "9223372036854775807",
)  # fmt: skip
HEADERS = {
    "Host": ("127.0.0.1", "evil.example", "", "[::1", "a" * 300, "127.0.0.1:99999"),
    "Origin": ("null", "http://evil.example", "http://127.0.0.1", "http://[", "\xff"),
    "Content-Type": (
        "application/json",
        "application/x-www-form-urlencoded",
        "application/x-protobuf",
        "multipart/form-data; boundary=x",
        "text/plain;charset=\xff",
    ),
    "Content-Encoding": ("gzip", "snappy", "br", "zstd", "identity, gzip"),
    "Accept": ("*/*", "application/openmetrics-text;version=1.0.0;q=2", "q=;;,", "text/html"),
    "Accept-Encoding": ("gzip", "gzip;q=0", "br;q=\xff", "*"),
    "Authorization": ("Bearer only-for-friends", "Bearer \xff", "Basic Og==", "Bearer"),
    "Range": ("bytes=0-", "bytes=-1"),
    "X-Forwarded-For": ("127.0.0.1", "\x01"),
    "Expect": ("100-continue", "wonders"),
    "Upgrade": ("websocket", "h2c"),
    "Transfer-Encoding": ("chunked", "gzip, chunked", "x"),
    "X-Prometheus-Scrape-Timeout-Seconds": ("0", "-1", "NaN", "1e999"),
}
AGENT_BODIES = (
    b"", b"{}", b"[]", b"null", b'{"by":1}', b'{"by":"\\ud83d"}', b'{"until":"1e999"}', b"\xff" * 9,
    b"[" * 100_000, b'{"by":"li","note":"' + b"x" * 5000 + b'"}', b'{"step":99999999999999999999}',
    b'[{"labels":{"alertname":"\\ud800"},"startsAt":"9999-99-99"}]', b'[{"labels":{"a":""}},null]',
    b'{"by":"li","request_id":{}}', b'{"until":"2262-04-11T23:47:17Z"}', b'{"step":NaN}',
)  # fmt: skip


def _quoted(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode("utf-8", "surrogatepass"))


def request(
    method: str, target: str, headers: Sequence[tuple[str, str]], body: bytes, length: int | None
) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    lines.append(f"Content-Length: {len(body) if length is None else length}")
    lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + body


@st.composite
def http_requests(
    draw: st.DrawFn, paths: Sequence[str] = AGENT_PATHS, bodies: Bytes | None = None
) -> bytes:
    pairs = st.tuples(st.sampled_from(PARAMETERS), st.sampled_from(VALUES) | st.text(max_size=20))
    query = "&".join(
        f"{name}={_quoted(value)}" for name, value in draw(st.lists(pairs, max_size=4))
    )
    path = draw(st.sampled_from(list(paths))) + draw(
        st.sampled_from(["", "", "", "/", "%00", "%ff"])
    )
    names = draw(st.lists(st.sampled_from(sorted(HEADERS)), max_size=4))
    headers = [(name, draw(st.sampled_from(HEADERS[name]))) for name in names]
    if "Host" not in names and draw(st.integers(0, 9)):
        headers.insert(0, ("Host", "127.0.0.1"))
    body = draw(
        bodies if bodies is not None else st.sampled_from(AGENT_BODIES) | st.binary(max_size=60)
    )
    method = draw(st.sampled_from(METHODS))
    if method == "POST" and query and draw(st.booleans()):
        headers.append(("Content-Type", "application/x-www-form-urlencoded"))
        body, query = query.encode(), ""
    target = f"{path}?{query}" if query else path
    length = draw(st.sampled_from([None, None, None, None, 0, 10**20, -1]))
    raw = request(method, target, headers, body, length)
    return draw(_spoilt(raw)) if draw(st.integers(0, 9)) == 0 else raw


@st.composite
def _spoilt(draw: st.DrawFn, raw: bytes) -> bytes:
    """A few bytes replaced, put in, repeated or taken out."""
    content = bytearray(raw)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        width = draw(st.sampled_from([0, 1, 1, 4, 64]))
        content[at : at + width] = draw(
            st.binary(max_size=8) | st.just(bytes(content[at : at + width]) * 3)
        )
    return bytes(content)


NAMES = (
    "vllm:num_requests_running vllm:num_requests_waiting vllm:kv_cache_usage_perc"
    " vllm:generation_tokens_total vllm:time_to_first_token_seconds_bucket"
    " vllm:request_success_total sglang:num_running_reqs tgi_queue_size"
    " llamacpp:requests_processing llm_engine_up process_start_time_seconds x"
).split()
NUMBERS = "0 1 -1 1e308 1e999 NaN +Inf -Inf 0x1p3 1_000 ١ nan(1) 1e-400 .".split() + ["9" * 500, ""]
LABELS = ("model_name", "engine", "le", "finished_reason", "__name__", "target", "9", "a b", "é")
LABEL_TEXTS = ("m", "0", "+Inf", "stop", "\\n", '\\"', "\\", '"', "}", "\x00", "\u2028", "x" * 5000)


@st.composite
def engine_pages(draw: st.DrawFn) -> bytes:
    """A page of valid, nearly valid and hostile lines, under a head that may not be true of it."""
    pairs = st.tuples(st.sampled_from(LABELS), st.sampled_from(LABEL_TEXTS) | st.text(max_size=8))
    lines = []
    for _ in range(draw(st.integers(0, 12))):
        name = draw(st.sampled_from(NAMES))
        labels = ",".join(f'{key}="{text}"' for key, text in draw(st.lists(pairs, max_size=4)))
        number = draw(st.sampled_from(NUMBERS))
        tail = draw(st.sampled_from(["", "", "", " 1700000000000", ' # {a="b"} 1', " x y z"]))
        lines += [
            f"# TYPE {name} {draw(st.sampled_from(['gauge', 'counter', 'histogram', 'odd']))}",
            f"{name}{{{labels}}} {number}{tail}",
        ]
    page = "\n".join([*lines, ""]).encode("utf-8", "replace")
    if draw(st.booleans()):
        page = draw(_spoilt(page or b"x"))
    page *= draw(st.sampled_from([1, 1, 1, 1, 50, 5000 if len(page) < 200 else 1]))
    status = draw(st.sampled_from([200, 200, 200, 200, 204, 301, 401, 404, 500, 503, 999]))
    kind = draw(st.sampled_from(["text/plain", "text/html", "application/json", "\xff"]))
    more = draw(
        st.sampled_from(
            ["", "", "", "Content-Encoding: gzip\r\n", "Content-Length: 5\r\n",
             "Content-Length: 99999999\r\n", "Transfer-Encoding: chunked\r\n",
             "Location: /metrics\r\n", "A: " + "x" * 70_000 + "\r\n"]
        )
    )  # fmt: skip
    head = f"HTTP/1.1 {status} said\r\nContent-Type: {kind}\r\n{more}Connection: close\r\n\r\n"
    return head.encode("latin-1") + page


@st.composite
def remote_writes(draw: st.DrawFn) -> bytes:
    names = st.sampled_from([b"__name__", b"job", b"instance", b"", b"\xff", b"a.b", b"trial"])
    texts = st.sampled_from([b"up", b"x", b"", b"\xf0\x9f", b"y" * 3000]) | st.binary(max_size=6)
    times = st.sampled_from([0, -1, 1, 2**63 - 1, -(2**63), 1_780_000_000_000]) | st.integers(
        -(2**63), 2**63 - 1
    )
    bits = st.sampled_from([0, 1, 0x7FF0000000000002]) | st.integers(-(2**63), 2**63 - 1)
    series = st.builds(
        Series,
        st.lists(st.tuples(names, texts), max_size=5),
        st.lists(st.tuples(times, bits), max_size=5),
        st.integers(0, 2),
    )
    written = draw(st.lists(series, max_size=5))
    random = Random(draw(st.integers(0, 2**32)))
    message = write_requests.odd(written, random) if draw(st.booleans()) else write_requests.plain(
        written
    )  # fmt: skip
    match draw(st.integers(0, 5)):
        case 0:
            return draw(_spoilt(write_requests.body(message)))
        case 1:
            return write_requests.body(draw(_spoilt(message or b"x")))
        case 2:
            return draw(st.binary(max_size=200))
        case 3:
            return write_requests.number(draw(st.sampled_from([2**31, 2**32 - 1, 2**40]))) + (
                b"\xfe\x01\x00" * draw(st.integers(0, 300))
            )
    return write_requests.body(message)


def _query(seed: int) -> str:
    return QueryGenerator(seed, ("node_load1", "up"), ("node_cpu_seconds_total", "trial")).query()


ODD_QUERIES = st.sampled_from(
    [
        "(" * 5000,
        "-" * 5000 + "1",
        "1" + "+1" * 9000,
        '{__name__=~"(a+)+$"}',
        "up[1s:1ms]",
        "'\\x",
        "label_join(" * 27 + "up" + ',"a","","a","a")' * 27,
        "sum(" * 99 + "up" + ")" * 99,
        "up @ 1e300",
        'label_replace(up, "a", "$1", "b", "((((.*)*)*)*)")',
        "rate(up[100y])",
        "up offset -100y",
        "{}",
        'count_values("a", {__name__=~".+"})',
        "topk(1e300, up)",
        "quantile(NaN, up)",
        "\u202eup",
        "🙂",
        'max_over_time({__name__=~".+"}[5m:1ms])',
        "9" * 10_000,
        "0x" + "f" * 4000,
        "1e99999",
        "up == up" * 300,
    ]
)


@st.composite
def queries(draw: st.DrawFn) -> bytes:
    plain = st.integers(0, 2**32).map(_query)
    text = draw(plain | ODD_QUERIES | st.text(max_size=40))
    if draw(st.integers(0, 3)) == 0:
        return draw(_spoilt(text.encode("utf-8", "replace") or b"x"))
    return text.encode("utf-8", "replace")


LINES = st.sampled_from(
    [
        b"250 fine\r\n",
        b"250-more\r\n250 end\r\n",
        b"250-" * 5000,
        b"421 bye\r\n",
        b"450 later\r\n",
        b"535 who\r\n",
        b"550 5.1.1 nobody\r\n",
        b"554 no\r\n",
        b"354 go on\r\n",
        b"999 odd\r\n",
        b"\x00\xff\r\n",
        b"25",
        b"",
        b"250 " + b"x" * 200_000 + b"\r\n",
        b"250\r\n250\r\n",
        b"220-\r\n" * 5000,
        b"-1 a\r\n",
        b"250-AUTH PLAIN\r\n250-STARTTLS\r\n250 SIZE 1\r\n",
        b"250 \xe2\x80\xae\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
    ]
)


@st.composite
def mail_answers(draw: st.DrawFn) -> bytes:
    parts = SOUND_MAIL.split(PART)
    for at in draw(st.lists(st.integers(0, 5), min_size=1, max_size=3)):
        parts[at] = draw(LINES | st.binary(max_size=30))
    return PART.join(parts)


HOOK_ANSWERS = (
    SOUND_HOOK,
    b"",
    b"\x00\xff",
    b"HTTP/1.1 200",
    b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 5000,
    b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\nx",
    b"HTTP/1.1 429 x\r\nRetry-After: 1e999\r\n\r\n",
    b"HTTP/1.1 503 x\r\nRetry-After: -5\r\n\r\n",
    b"HTTP/1.1 410 gone\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 301 x\r\nLocation: http://127.0.0.1:1/\r\n\r\n",
    b"HTTP/1.1 100 go on\r\n\r\n" * 2000,
    b"HTTP/1.1 429 x\r\nRetry-After: Fri, 31 Dec 9999 23:59:59 GMT\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
    b"SSH-2.0-x\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + b"[" * 60_000,
    b"HTTP/1.1 400 \xe2\x80\xae\x1b[2J\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/9.9 200 OK\r\n\r\n",
)


@st.composite
def hook_answers(draw: st.DrawFn) -> bytes:
    answer = draw(st.sampled_from(HOOK_ANSWERS))
    return draw(_spoilt(answer)) if answer and draw(st.booleans()) else answer


# What a schema of OpenAPI allows, nearly allows and does not

ODD_JSON: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 0, -1, 2**63, 1e308, "", "x", "\ud83d", [], {}, [[]], "x" * 3000, [1] * 300]
)


def of_schema(schema: dict[str, Any], whole: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values of a schema; one in some is of something else."""
    return st.integers(0, 5).flatmap(lambda n: ODD_JSON if n == 0 else _sound(schema, whole))


def _sound(schema: dict[str, Any], whole: dict[str, Any]) -> st.SearchStrategy[Any]:
    if "$ref" in schema:
        return of_schema(whole["components"]["schemas"][schema["$ref"].split("/")[-1]], whole)
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return st.one_of([of_schema(one, whole) for one in choices])
    if "enum" in schema or "const" in schema:
        return st.sampled_from(schema.get("enum") or [schema["const"]])
    match schema.get("type"):
        case "object":
            return _mapping(schema, whole)
        case "array":
            return st.lists(of_schema(schema.get("items", {}), whole), max_size=3)
        case "integer":
            return st.integers(schema.get("minimum", -2), schema.get("maximum", 20))
        case "number":
            return st.floats(schema.get("minimum", -2), schema.get("maximum", 3), allow_nan=False)
        case "boolean":
            return st.booleans()
        case "string":
            return st.text(max_size=12) | st.sampled_from(["user", "assistant", "system", "hello"])
        case "null":
            return st.none()
    return ODD_JSON


def _mapping(schema: dict[str, Any], whole: dict[str, Any]) -> st.SearchStrategy[Any]:
    properties: dict[str, Any] = schema.get("properties", {})
    required = set(schema.get("required", ()))
    known = {name: of_schema(one, whole) for name, one in properties.items()}
    return st.fixed_dictionaries(
        {name: known[name] for name in known if name in required},
        optional={name: known[name] for name in known if name not in required},
    )


@st.composite
def openapi_requests(draw: st.DrawFn, document: dict[str, Any]) -> bytes:
    path = draw(st.sampled_from(sorted(document["paths"])))
    method = draw(st.sampled_from(sorted(document["paths"][path])))
    content = document["paths"][path][method].get("requestBody", {}).get("content", {})
    schema = content.get("application/json", {}).get("schema", {})
    value = draw(of_schema(schema, document)) if schema else None
    if isinstance(value, dict) and "max_tokens" in value:
        value["max_tokens"] = draw(st.sampled_from([1, 2, 0, None, 10**9, "1"]))
    body = json.dumps(value).encode("utf-8", "surrogatepass") if schema else b""
    if draw(st.integers(0, 9)) == 0:
        body = draw(_spoilt(body or b"x"))
    kind = draw(st.sampled_from(["application/json", "application/json", "text/plain"]))
    host = ("Host", "127.0.0.1")
    return request(method.upper(), path, [host, ("Content-Type", kind)], body, None)


def worker_requests(document: dict[str, Any]) -> Bytes:
    return openapi_requests(document) | http_requests(paths=tuple(document["paths"]))


def snappy_bomb(gigabytes: int) -> bytes:
    """Says that it holds so much, and is some hundred kB of copies."""
    return write_requests.number(gigabytes << 30) + b"\x00x" + b"\xfe\x01\x00" * 100_000


def protobuf_bomb(series: int) -> bytes:
    """So many empty series, two bytes each before they are packed, each an object when read."""
    return write_requests.body(b"\x0a\x00" * series)


def nested(depth: int) -> bytes:
    content = b""
    for _ in range(depth):
        content = b"\x0a" + write_requests.number(len(content)) + content
    return write_requests.body(content)


STRATEGIES: dict[str, Bytes] = {
    "engine_page": engine_pages(),
    "remote_write": remote_writes(),
    "http": http_requests(),
    "promql": queries(),
    "smtp": mail_answers(),
    "webhook": hook_answers(),
}
