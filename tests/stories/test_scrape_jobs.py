"""An agent and a Prometheus with the same `scrape_configs`: the same series with the same values;
and targets that come and go by a file and by a reload."""

import base64
import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from support.agent_process import AgentProcess
from support.prometheus import Prometheus, running_prometheus
from support.story import until

PLAIN = r"""# HELP jobs_total Jobs.
# TYPE jobs_total counter
jobs_total{queue="a",instance="mine",zone="theirs"} 7
jobs_total{queue="b\"\\\n"} 8.5e3
# TYPE wait_seconds histogram
wait_seconds_bucket{le="0.5"} 1
wait_seconds_bucket{le="+Inf"} 3
wait_seconds_sum 2.25
wait_seconds_count 3
untyped_thing NaN
untyped_thing_2{a=""} +Inf
their_load 17
"""
OPEN = """# TYPE things counter
things_total{a="1"} 4.0 # {trace_id="x"} 1.0
things_created{a="1"} 1.0
# EOF
"""
FEDERATED = """up{job="elsewhere",instance="far:1"} 1
load{job="elsewhere",instance="far:1",zone="theirs"} 2
load{instance=""} 3
"""
PAGES = {"/metrics": PLAIN, "/open": OPEN, "/federate": FEDERATED, "/bad": PLAIN + "no page\n",
         "/twice": 'a{b="1",b="2"} 1\nc 1\n', "/like": 'a{b="x=y,b=z",c="=b="} 1\n',
         "/html": "<html>hello</html>", "/cut": PLAIN[:-4], "/empty": ""}  # fmt: skip


class Pages(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        wants_login = path == "/login"
        login = "Basic " + base64.b64encode(b"u:s3cret").decode()
        if wants_login and self.headers.get("Authorization") != login:
            return self._answer(401, b"")
        if path == "/moved":
            return self._answer(302, b"", Location="/metrics")
        page = PAGES.get("/metrics" if wants_login or path == "/packed" else path)
        if page is None:
            return self._answer(404, b"not here")
        media = "application/openmetrics-text; version=1.0.0" if path == "/open" else "text/plain"
        packed = {"Content-Encoding": "gzip"} if path == "/packed" else {}
        body = gzip.compress(page.encode()) if packed else page.encode()
        self._answer(200, body, **{"Content-Type": media}, **packed)

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@contextmanager
def pages() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    thread = threading.Thread(target=server.serve_forever, args=[0.05], daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def jobs(address: str, folder: Path) -> list[dict[str, Any]]:
    def job(name: str, path: str = "/metrics", **keys: Any) -> dict[str, Any]:
        labels = {"zone": "ours", "kind": name}
        static = [{"targets": [address], "labels": labels}]
        return {"job_name": name, "metrics_path": path, "static_configs": static, **keys}

    relabel = [
        {"source_labels": ["__name__"], "regex": "wait_.*", "action": "drop"},
        {"source_labels": ["queue"], "regex": "(.)[^x]*", "target_label": "first"},
        {"regex": "zone", "action": "labeldrop"},
        {"source_labels": ["__name__"], "regex": "their_load", "target_label": "__name__",
         "replacement": "our_load"},
    ]  # fmt: skip
    return [
        job("plain"),
        job("open", "/open"),
        job("packed", "/packed"),
        job("moved", "/moved"),
        job("stays", "/moved", follow_redirects=False),
        job("login", "/login", basic_auth={"username": "u", "password_file": "secret"}),
        job("no-login", "/login"),
        job("honoured", honor_labels=True),
        job("federated", "/federate", honor_labels=True),
        job("relabelled", metric_relabel_configs=relabel),
        job("few", sample_limit=3),
        job("enough", sample_limit=9),
        job("short", label_value_length_limit=4),
        job("bad", "/bad"),
        job("html", "/html"),
        job("twice", "/twice"),
        job("like", "/like"),
        job("empty", "/empty"),
        job("missing", "/missing"),
        job("dead", static_configs=[{"targets": ["127.0.0.1:1"]}]),
        job("large", body_size_limit="20B"),
        job("files", static_configs=[], file_sd_configs=[{"files": [str(folder / "sd-*.json")]}]),
    ]


def listed(folder: Path, *targets: str) -> None:
    group = [{"targets": list(targets), "labels": {"found": "yes"}}] if targets else []
    (folder / "sd-new.json").write_text(json.dumps(group))
    (folder / "sd-new.json").rename(folder / "sd-a.json")


def config(folder: Path, jobs: list[dict[str, Any]]) -> None:
    areas = dict.fromkeys(("host", "engines", "gpu", "processes"), "0s")
    quiet = {"worker": {"enabled": False}, "rule_files": [], "promql": {"semantics": 2}}
    whole = {
        **quiet,
        "collect": areas,
        "scrape_configs": [{"scrape_interval": "1s", **job} for job in jobs],
    }
    (folder / "tocsin.yml").write_text(json.dumps(whole))


Instant = dict[tuple[tuple[str, str], ...], str]


def kept(answer: Any) -> Instant:
    """Of all series their labels and values; without what takes the time of a scrape, and how far a
    page was read that failed."""
    series = [(one["metric"], one["value"][1]) for one in answer["result"]]
    up = {m["job"]: value for m, value in series if m.get("__name__") == "up"}
    return {
        tuple(sorted(metric.items())): value
        for metric, value in series
        if metric["__name__"] not in ("scrape_duration_seconds", "scrape_series_added")
        and not (metric["__name__"].startswith("scrape_samples_") and up[metric["job"]] == "0")
    }


QUERY = (
    '{job=~"plain|open|packed|moved|stays|login|no-login|honoured|federated|elsewhere|relabelled'
)
QUERY += '|few|enough|short|bad|html|twice|like|empty|missing|dead|large|files"}'


def of_agent(agent: AgentProcess) -> Instant:
    return kept(agent.get("/api/v1/query?" + urlencode({"query": QUERY})))


def of_prometheus(server: Prometheus) -> Instant:
    return kept(server.get("query", query=QUERY)["data"])


async def test_the_same_jobs_keep_the_same_series(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cret\n")
    with pages() as address:
        own = jobs(address, tmp_path)
        listed(tmp_path, address)
        config(tmp_path, own)
        theirs = json.dumps(
            {"scrape_configs": [{"scrape_interval": "1s", **job} for job in own]}
        )  # JSON is YAML
        agent = AgentProcess(tmp_path, "--config.file=tocsin.yml")
        with running_prometheus(tmp_path, config=theirs) as server, agent:
            await until(lambda: len(ups(of_prometheus(server))) == len(own), 30)
            await until(lambda: of_agent(agent) == of_prometheus(server), 30)
            both = of_agent(agent)
            assert len(both) > 100 and sum(map(float, ups(both).values())) == 12
            errors = {one["scrapePool"]: one["lastError"] for one in active(agent)}
            assert errors["bad"] == "line 13 is not a sample: 'no page'"
            assert errors["missing"] == "server returned HTTP status 404"
            assert "sample_limit exceeded: 9 samples, 3 allowed" in errors["few"]
            assert errors["plain"] == errors["enough"] == ""
            assert "s3cret" not in agent.said() + json.dumps(active(agent))
            # by a file, and by a reload
            listed(tmp_path, address, "127.0.0.1:1")
            await until(lambda: of("files", agent) == {address: "1", "127.0.0.1:1": "0"}, 20)
            listed(tmp_path)
            await until(lambda: of("files", agent) == {}, 20)
            config(tmp_path, [job for job in own if job["job_name"] != "plain"])
            assert agent.alertctl("reload").returncode == 0
            await until(
                lambda: of("plain", agent) == {} and of("packed", agent) == {address: "1"}, 20
            )


def active(agent: AgentProcess) -> list[dict[str, Any]]:
    return [*agent.get("/api/v1/targets")["activeTargets"]]


def ups(series: Instant) -> dict[str, str]:
    found = ((dict(labels), value) for labels, value in series.items())
    return {
        labels["job"]: value
        for labels, value in found
        if labels["__name__"] == "up" and labels["job"] != "elsewhere"
    }


def of(job: str, agent: AgentProcess) -> dict[str, str]:
    found = agent.get("/api/v1/query?" + urlencode({"query": f'up{{job="{job}"}}'}))["result"]
    return {one["metric"]["instance"]: one["value"][1] for one in found}
