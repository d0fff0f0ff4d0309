"""`tocsin import`: the targets of the result are those of the Prometheus configuration."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from support.prometheus import running_prometheus
from tocsin_alerting.cli.import_config import converted
from tocsin_alerting.config.load import load
from tocsin_exporter.scrape_job import job_targets

KEYS = ("global", "scrape_configs", "rule_files", "alerting", "remote_write")
TOCSIN = Path(sys.executable).with_name("tocsin")
WHOLE = """\
global:
  {scrape_interval: 15s, scrape_timeout: 5s, evaluation_interval: 30s, external_labels: {site: a}}
rule_files: ["r/*.yml"]
alerting:
  alertmanagers: [{scheme: https, path_prefix: /am, static_configs: [{targets: ["am:9093"]}]}]
scrape_configs:
- job_name: node
  static_configs: [{targets: ["a:9100", "b:9100"], labels: {team: gpu}}]
  relabel_configs: [{source_labels: [__address__], regex: '(.*):.*', target_label: instance}]
- job_name: found
  scrape_interval: 1m
  file_sd_configs: [{files: ["sd/*.json"]}]
  basic_auth: {username: u, password_file: secret}
remote_write: [{url: "http://x/api"}]
"""
LEFT_OUT = """\
scrape_configs:
- job_name: k8s
  kubernetes_sd_configs: [{role: pod}]
  honor_timestamps: true
  basic_auth: {username: u, password: hunter2}
  static_configs: [{targets: ["a:1"]}]
tracing: {endpoint: "x:1"}
"""


def run(file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([TOCSIN, "import", file], capture_output=True, text=True, timeout=60)


def test_its_targets_are_those_of_prometheus(tmp_path: Path) -> None:
    (tmp_path / "sd").mkdir()
    (tmp_path / "sd" / "a.json").write_text('[{"targets": ["c:1"], "labels": {"x": "y"}}]')
    (tmp_path / "secret").write_text("s3cret")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "whole.yml").write_text(WHOLE)
    # its end would wait for a receiver that is not there
    with running_prometheus(tmp_path, config=WHOLE.partition("remote_write")[0]) as server:
        theirs = server.targets()["activeTargets"]
    done = run(tmp_path / "whole.yml")
    assert (done.returncode, done.stderr) == (0, "")
    (elsewhere / "tocsin.yml").write_text(done.stdout)
    config = load(elsewhere / "tocsin.yml")
    made = [
        (target.url, target.interval, target.timeout, dict(target.labels))
        for section in config.scrape_configs
        for target in job_targets(section.job(), section.job().static).active
    ]
    seen = [
        (t["scrapeUrl"], {"15s": 15, "1m": 60}[t["scrapeInterval"]], 5, t["labels"])
        for t in theirs
        if t["scrapePool"] == "node"
    ]
    assert sorted(made, key=str) == sorted(seen, key=str) and len(made) == 2
    found = config.scrape_configs[1]
    assert [str(file) for file in found.file_sd_configs[0].files] == [f"{tmp_path}/sd/*.json"]
    assert found.basic_auth is not None and found.basic_auth.password_file == tmp_path / "secret"
    assert found.scrape_interval == 60_000 and found.scrape_timeout == 5_000
    assert config.rule_files[-1] == f"{tmp_path}/r/*.yml" and "bundled" in config.rule_files
    assert config.alertmanagers[0].url == "https://am:9093/am"
    assert config.remote_write[0].url == "http://x/api"
    assert (config.external_labels, config.evaluation_interval) == ({"site": "a"}, 30_000)


def test_what_is_not_taken_is_named(tmp_path: Path) -> None:
    file = tmp_path / "prometheus.yml"
    file.write_text(LEFT_OUT)
    done = run(file)
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        "not taken: job k8s: kubernetes_sd_configs",
        "not taken: job k8s: honor_timestamps (each sample gets the time of its scrape)",
        "not taken: job k8s: basic_auth.password (write the secret into a file, and name it:"
        " basic_auth.password_file)",
        "not taken: tracing",
    ]
    assert "hunter2" not in done.stdout + done.stderr
    assert "# not taken: tracing" in done.stdout


def test_a_job_may_have_what_global_has_not(tmp_path: Path) -> None:
    file = tmp_path / "prometheus.yml"
    file.write_text(
        "scrape_configs: [{job_name: x, scrape_timeout: 2s, static_configs: [{targets: ['a:1']}]}]"
    )
    done = run(file)
    assert done.returncode == 0 and "scrape_timeout: 2s" in done.stdout


@pytest.mark.parametrize("odd", ["x", "[x]", "{x: y}", "[[x]]", "7", "null", "[{x: [y]}]"])
@pytest.mark.parametrize(
    "key", ["global", "scrape_configs", "rule_files", "alerting", "remote_write"]
)
def test_what_prometheus_would_refuse_too_is_no_traceback(key: str, odd: str) -> None:
    notes: list[str] = []
    data = {key: yaml.safe_load(odd)}
    if key == "alerting":
        data = {key: {"alertmanagers": data[key]}}
    assert isinstance(converted(data, Path("/d"), notes), dict)


@pytest.mark.parametrize(
    ("common", "job", "times"),
    [
        ("{}", "{scrape_interval: 20s}", ("20s", "10s")),
        ("{}", "{scrape_timeout: 4s}", ("1m", "4s")),
        ("{scrape_interval: 30s}", "{}", ("30s", "10s")),
        ("{scrape_interval: 30s, scrape_timeout: 10s}", "{scrape_interval: 5s}", ("5s", "5s")),
    ],
)
def test_times_are_those_that_prometheus_takes(
    tmp_path: Path, common: str, job: str, times: tuple[str, str]
) -> None:
    targets = "static_configs: [{targets: ['127.0.0.1:1']}]"
    text = f"global: {common}\nscrape_configs: [{{job_name: 7, {targets}, {job[1:-1]}}}]\n"
    with running_prometheus(tmp_path, config=text) as server:
        theirs = server.targets()["activeTargets"][0]
        done = run(tmp_path / "prometheus.yml")
    assert (theirs["scrapeInterval"], theirs["scrapeTimeout"]) == times
    assert (done.returncode, done.stderr) == (0, "")
    (tmp_path / "tocsin.yml").write_text(done.stdout)
    made = load(tmp_path / "tocsin.yml").scrape_configs[0].job()
    in_seconds = {"4s": 4, "5s": 5, "10s": 10, "20s": 20, "30s": 30, "1m": 60}
    assert (made.interval, made.timeout) == tuple(in_seconds[one] for one in times)
    assert (made.name, theirs["scrapePool"]) == ("7", "7")


def test_a_password_in_a_url_and_a_key_are_not_copied(tmp_path: Path) -> None:
    file = tmp_path / "prometheus.yml"
    file.write_text(
        'remote_write: [{url: "http://u:hunter2@h/x"}]\n'
        "scrape_configs: [{job_name: a, tls_config: {key: hunter3}}]\n"
    )
    done = run(file)
    assert done.returncode == 0 and "http://h/x" in done.stdout
    assert "not taken: remote_write 1: the password in url" in done.stderr
    assert "hunter" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("scrape_configs: [", "prometheus.yml:2:1: not YAML"),
        ("scrape_configs: [{job_name: x, static_configs: [{targets: ['a/b']}]}]", "not HOST:PORT"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "prometheus.yml"
    file.write_text(text)
    done = run(file)
    assert done.returncode == 1 and said in done.stderr
