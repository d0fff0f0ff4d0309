"""Clients, senders, web pages and rules that want more than their share, at one agent that pages.

In each trial a fault is raised, and its P0 arrives; memory, answers and the loop have bounds.
"""

import asyncio
import signal
import threading
import time
import urllib.parse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from socket import create_connection

import pytest

from support.fuzz_bodies import nested, protobuf_bomb, request, snappy_bomb
from support.fuzzing import FORM, raw_status
from support.greedy_clients import QUERIES, GreedyClients
from support.hostile_clients import asking_again
from support.neighbourhood import RULES, Neighbourhood
from support.remote_write import write_request

CROWD = 300
JSON = {"Content-Type": "application/json"}
HOSTILE_RULES = (
    RULES
    + """\
- name: careless
  rules:
  - alert: Wide
    expr: vector(1)
    annotations: {summary: '{{ printf "%999999999d" 1 }}'}
  - alert: Endless
    expr: vector(1)
    annotations:
      summary: '{{ range query "up" }}{{ range query "{__name__=~\\".+\\"}" }}{{ range query
        "{__name__=~\\".+\\"}" }}{{ .Value }}{{ end }}{{ end }}{{ end }}'
  - alert: Steers
    expr: vector(1)
    labels: {who: "\\e]0;owned\\a\\u009b2J\\u202e\\n#999 P0 FORGED"}
    annotations: {summary: "{{ $labels.who }}"}
"""
)

MANY_RULES = (
    RULES
    + "- name: many\n  interval: 1m\n  rules:\n"
    + "".join(
        f"  - {{alert: A{number}, expr: 'vector({number}) < 0', annotations: {{summary: text}}}}\n"
        for number in range(600)
    )
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Neighbourhood]:
    with Neighbourhood(tmp_path_factory.mktemp("neighbours")) as one:
        yield one


@pytest.fixture(scope="module")
def careless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Neighbourhood]:
    """Its rules are hostile all the time."""
    with Neighbourhood(tmp_path_factory.mktemp("careless"), HOSTILE_RULES) as one:
        yield one


@pytest.fixture(scope="module")
def ruled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Neighbourhood]:
    """Its page of rules takes milliseconds to make."""
    with Neighbourhood(tmp_path_factory.mktemp("ruled"), MANY_RULES) as one:
        yield one


def joined() -> str:
    query = "up"
    for _ in range(27):
        query = f'label_join({query}, "job", "", "job", "job")'
    return query


def test_a_query_whose_labels_double_27_times(place: Neighbourhood) -> None:
    """87 MB became 2.6 GB, and stayed."""
    form = urllib.parse.urlencode({"query": joined()}).encode()

    def trial() -> None:
        for _ in range(4):
            status, said = place.ask("POST", "/api/v1/query", form, FORM)
            assert status == 422, said[:300]

    place.pages_during(trial)


def test_a_flood_of_heavy_queries(place: Neighbourhood) -> None:
    with GreedyClients(place.agent.url) as clients:
        place.pages_during(lambda: threading.Event().wait(4), growth_mib=600)
    assert set(clients.answers()) <= {"200", "400", "422", "503", "0"}


def test_selectors_that_take_long_to_compare(place: Neighbourhood) -> None:
    """One of them held the store, and with it the pager, for two minutes."""
    at_ms = time.time_ns() // 10**6
    names = [
        (("__name__", f"big_{n % 50}"), ("instance", "big"), ("job", "big"), ("n", str(n)))
        for n in range(8000)
    ]
    assert place.write(write_request([(one, [(at_ms, 1.0)]) for one in names]), "big/1") == 204
    unequal = ",".join(f'a!="{number}"' for number in range(850))
    query = urllib.parse.urlencode({"query": f'{{__name__!="",{unequal}}}', "timeout": "8s"})
    many = "&".join(f'match[]={{a!="{number}",job!=""}}' for number in range(4000))
    form = f"{many}&timeout=8s".encode()

    def trial() -> None:
        with ThreadPoolExecutor(4) as pool:
            queries = [pool.submit(place.ask, "POST", "/api/v1/query", query.encode(), FORM)]
            for path in ("/api/v1/labels", "/api/v1/series"):
                queries.append(pool.submit(place.ask, "POST", path, form, FORM))
            assert {one.result()[0] for one in queries} <= {200, 503}

    place.pages_during(trial, growth_mib=600)


def test_forms_of_very_many_fields(place: Neighbourhood) -> None:
    """They were read on the loop: 20 of them held a page up for 7 s."""
    many = [one * ((1 << 20) // len(one)) for one in (b"a&", b"a=b&")]
    long = [b"query=" + one * 300_000 for one in (b"%zz", b"%ff", b"%41")]

    def trial() -> None:
        with ThreadPoolExecutor(20) as pool:
            asked = [
                pool.submit(place.ask, "POST", "/api/v1/query", one, FORM)
                for one in (*many, *long) * 8
            ]
            assert {one.result()[0] for one in asked} <= {200, 400, 503}

    place.pages_during(trial, growth_mib=600)


def test_clients_that_ask_for_much_and_read_none_of_it(place: Neighbourhood) -> None:
    """Two of them held all other queries up for 118 s."""
    asked = urllib.parse.urlencode(
        {"query": QUERIES[0], "start": "1", "end": "10999", "step": "1", "timeout": "2m"}
    )
    head = f"GET /api/v1/query_range?{asked} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()

    def trial() -> None:
        others = [create_connection(("127.0.0.1", place.agent.port)) for _ in range(8)]
        try:
            for one in others:
                one.sendall(head * 20)
            status, _ = place.ask("GET", "/api/v1/query?query=vector(1)", within=20)
            assert status == 200
        finally:
            for one in others:
                one.close()

    place.pages_during(trial)


def bombs() -> list[bytes]:
    return [snappy_bomb(2), snappy_bomb(3), protobuf_bomb(4_000_000), nested(5_000), nested(3)]


def test_bombs_of_snappy_and_of_protobuf(place: Neighbourhood) -> None:
    def trial() -> None:
        assert {place.write(one) for one in bombs()} <= {204, 400, 413}

    place.pages_during(trial)


def test_a_sender_of_thousands_of_sources_and_its_limit(place: Neighbourhood) -> None:
    """After them every source that was new was refused, without a word: now a newcomer still finds
    room, and pages."""
    instances = [f"many-{number}" for number in range(12_000)]
    names = [(("__name__", "many"), ("instance", one), ("job", "many")) for one in instances]
    at_ms = 10**3 * int(place.data("/api/v1/query?query=time()")["result"][0])

    def trial() -> None:
        body = write_request([(labels, [(at_ms, 1.0)]) for labels in names])
        assert place.write(body, "flood/1") == 400

    place.pages_during(trial)
    assert place.metric("tocsin_store_series_refused_total") > 0
    place.page_seconds(source="newcomer")


def test_a_flood_of_new_series(place: Neighbourhood) -> None:
    """The write that raised a fault waited half a minute behind those before it."""
    at_ms = time.time_ns() // 10**6
    names = [(("__name__", "new"), ("job", "new"), ("n", str(n))) for n in range(2500)]
    bodies = [
        write_request([((*one, ("instance", str(of))), [(at_ms, 1.0)]) for one in names])
        for of in range(40)
    ]

    def trial() -> None:
        with ThreadPoolExecutor(40) as pool:
            senders = [f"new-{of}/1" for of in range(40)]
            assert set(pool.map(place.write, bodies, senders)) <= {204, 400, 503}

    place.pages_during(trial, growth_mib=600)


def test_rules_that_would_take_all_time_and_memory(careless: Neighbourhood) -> None:
    """Texts of 4.9 GB and of 47 s; their alerts fire all the same."""
    careless.pages_during(lambda: None)
    deadline = time.monotonic() + 30
    alerts: dict[str, dict[str, dict[str, str]]] = {}
    while not {"Wide", "Endless", "Steers"} <= set(alerts):
        assert time.monotonic() < deadline, alerts
        listed = careless.data("/api/v1/alerts")["alerts"]
        alerts = {one["labels"]["alertname"]: one for one in listed}
    assert all(len(str(one["annotations"])) < 200_000 for one in alerts.values())


def test_names_that_would_steer_a_terminal_are_shown(careless: Neighbourhood) -> None:
    for words in (["alerts"], ["incidents"]):
        done = careless.agent.alertctl(*words)
        assert done.returncode in (0, 1), done.stderr
        assert not set("\x1b\x07\x9b\u202e") & set(done.stdout + done.stderr)
        assert not any(line.startswith("#999") for line in done.stdout.splitlines())
    assert not set("\x1b\x07\x9b\u202e") & set(careless.agent.said())


STRANGERS: dict[str, tuple[str, str, dict[str, str], bytes]] = {
    "a form of another page": (
        "POST", "/api/v1/incidents/1/ack", {**FORM, "Origin": "http://evil.example"}, b"by=x"
    ),
    "a simple body of another page": (
        "POST", "/api/v1/incidents/1/ack", {"Content-Type": "text/plain"}, b"{}"
    ),
    "a page that has rebound its name": (
        "POST", "/api/v1/incidents/1/ack", {**JSON, "Host": "evil.example"}, b"{}"
    ),
    "a proxy on this machine": (
        "POST", "/api/v1/incidents/1/ack", {**JSON, "X-Forwarded-For": "127.0.0.1"}, b"{}"
    ),
    "another user of this machine": ("POST", "/api/v1/incidents/1/ack", JSON, b"{}"),
    "who has a wrong token": (
        "POST", "/api/v1/incidents/1/ack", {**JSON, "Authorization": "Bearer x"}, b"{}"
    ),
    "a sender without the token": (
        "POST", "/api/v1/write", {"Content-Type": "application/x-protobuf"}, write_request([])
    ),
    "who forgets engines": ("POST", "/api/v1/engines/127.0.0.1:1/forget", JSON, b"{}"),
    "who tries channels": ("POST", "/api/v1/channels/pager/test", JSON, b"{}"),
    "a rebound page that reads incidents": (
        "GET", "/api/v1/incidents", {"Host": "evil.example"}, b""
    ),
    "a rebound page that reads settings": (
        "GET", "/api/v1/status/config", {"Host": "evil.example"}, b""
    ),
}  # fmt: skip


@pytest.mark.parametrize("who", STRANGERS)
def test_strangers_change_nothing_and_read_no_incident(who: str, place: Neighbourhood) -> None:
    method, path, headers, body = STRANGERS[who]
    told = len(place.pager.bodies)
    status, said = place.ask(method, path, body, headers)
    assert status in (401, 403, 415), said
    assert "Access-Control-Allow-Origin" not in said.decode()
    assert len(place.pager.bodies) == told or b"trial" in place.pager.bodies[-1][1]


def test_no_other_page_reads_settings_and_no_redirect_names_a_host(place: Neighbourhood) -> None:
    def head_of(path: str, host: str) -> bytes:
        raw = request("GET", path, [("Host", host), ("Origin", "http://evil.example")], b"", None)
        with create_connection(("127.0.0.1", place.agent.port), timeout=20) as connection:
            connection.sendall(raw)
            answer = b""
            while b"\r\n\r\n" not in answer and (piece := connection.recv(65536)):
                answer += piece
        return answer.partition(b"\r\n\r\n")[0].lower()

    for path in ("/api/v1/status/config", "/api/v1/incidents", "/api/v1/targets"):
        assert b"access-control" not in head_of(path, "127.0.0.1")
    assert b"evil.example" not in head_of("/metrics/", "evil.example")


def test_a_crowd_that_asks_at_once(place: Neighbourhood) -> None:
    """They do not wait for each other; each gets an answer, or a limit's own."""
    targets = ["/metrics", "/api/v1/rules", "/api/v1/query?query=up", "/api/v1/incidents"]
    raws = [request("GET", target, [("Host", "127.0.0.1")], b"", None) for target in targets]

    def trial() -> None:
        with ThreadPoolExecutor(32) as pool:
            ports = [place.agent.port] * CROWD
            answers = set(pool.map(raw_status, ports, islice(cycle(raws), CROWD), [40.0] * CROWD))
        assert answers <= {200, 503}, answers

    place.pages_during(trial, growth_mib=600)


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/rules",
        *(
            pytest.param(one, marks=pytest.mark.long)
            for one in ("/metrics", "/api/v1/incidents", "/-/healthy", "/api/v1/nothing")
        ),
    ],
)
def test_a_crowd_that_asks_again_and_again(path: str, ruled: Neighbourhood) -> None:
    """All of them in each turn of the loop: a page took 17 s."""

    def trial() -> None:
        answers = asyncio.run(asking_again(ruled.agent.port, path, 200, 8.0))
        assert sum(answers.values()) > 200
        assert set(answers) <= {b"200", b"404", b"503"}, answers

    ruled.pages_during(trial, growth_mib=600)


def test_the_lag_says_what_a_request_waits(place: Neighbourhood) -> None:
    """It said 0.44 s while requests waited for 7.5 s. Stopped for two seconds, it must be more."""
    assert place.agent.process is not None
    place.agent.process.send_signal(signal.SIGSTOP)
    threading.Event().wait(2)
    place.agent.process.send_signal(signal.SIGCONT)
    threading.Event().wait(0.5)
    lags = [place.metric("tocsin_loop_lag_seconds") for _ in range(3)]
    assert max(lags) > 1.0
