"""`scrape_configs` as Prometheus reads it: the same files pass, with the same targets."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.prometheus import running_prometheus
from tocsin_alerting.config.config import Config
from tocsin_alerting.config.load import load
from tocsin_alerting.yaml_document import InvalidDocument
from tocsin_exporter.scrape_job import JobTargets, job_targets

T = {"static_configs": [{"targets": ["a:1"]}]}
GOOD: list[dict[str, Any]] = [
    {},
    {"scrape_interval": "5s", "scrape_timeout": "5s"},
    {"metrics_path": "/m", "scheme": "https", "params": {"x": ["1", "2"]}},
    {"honor_labels": True, "honor_timestamps": False, "follow_redirects": False},
    {"basic_auth": {"username": "u", "password_file": "secret"}},
    {"authorization": {"credentials_file": "secret"}},
    {"bearer_token_file": "secret"},
    {"tls_config": {"insecure_skip_verify": True, "server_name": "x"}},
    {"sample_limit": 5, "label_limit": 5, "target_limit": 5, "body_size_limit": "10MB"},
    {"label_name_length_limit": 5, "label_value_length_limit": 6},
    {"file_sd_configs": [{"files": ["x/*.yml", "y.json"], "refresh_interval": "1m"}]},
    {"dns_sd_configs": [{"names": ["a.b"], "type": "A", "port": 9100}, {"names": ["_x._tcp"]}]},
    {"relabel_configs": [{"source_labels": ["a"], "regex": 80, "target_label": "b"}]},
    {"relabel_configs": [{"action": "Keep", "regex": "x"}]},
    {"relabel_configs": [{"action": "hashmod", "modulus": 8, "target_label": "m"}]},
    {"relabel_configs": [{"action": "labelmap", "regex": "__meta_(.+)"}]},
    {"relabel_configs": [{"action": "labelmap", "regex": "(.)", "replacement": "x_$1"}]},
    {"relabel_configs": [{"target_label": "${1}x", "replacement": "y"}]},
    {"metric_relabel_configs": [{"action": "labeldrop", "regex": "x.*"}]},
    {"metric_relabel_configs": [{"action": "uppercase", "target_label": "x"}]},
]
NOTHING = ("static_configs", "file_sd_configs", "dns_sd_configs", "relabel_configs", "params",
           "metric_relabel_configs", "metrics_path", "scheme", "scrape_interval", "sample_limit",
           "body_size_limit", "honor_labels", "honor_timestamps", "tls_config", "oauth2",
           "proxy_url")  # fmt: skip
GOOD += [
    dict.fromkeys(NOTHING),
    {"static_configs": [{"targets": None, "labels": None}, {"targets": [9100, 1.5, True]}]},
    {"static_configs": [{"targets": ["a:1"], "labels": {"x": None, "y": 1}}]},
    {"file_sd_configs": [{"files": ["x.json"], "refresh_interval": None}]},
    {"dns_sd_configs": [{"names": [1], "port": 1}]},
    {"relabel_configs": [{"source_labels": None, "target_label": "b", "regex": None}]},
    {"relabel_configs": [{"target_label": "b", "separator": None, "replacement": None}]},
    {"params": {"x": None}, "metrics_path": 5, "sample_limit": 1.0, "body_size_limit": "1.5MB"},
    {"metrics_path": "", "scrape_interval": "0s", "enable_http2": False, "http_sd_configs": []},
]
BAD: list[dict[str, Any]] = [
    {"static_configs": [None]},
    {"relabel_configs": [None]},
    {"relabel_configs": [{"source_labels": [1], "target_label": "b"}]},
    {"scrape_interval": "5s", "scrape_timeout": "6s"},
    {"scrape_interval": "soon"},
    {"honor_label": True},
    {"basic_auth": {"username": "u", "password_file": "secret"}, "bearer_token_file": "secret"},
    {"static_configs": [{"targets": ["http://a:1"]}]},
    {"static_configs": [{"targets": ["a:1"], "labels": {"a-b": "x"}}]},
    {"static_configs": [{"target": ["a:1"]}]},
    {"file_sd_configs": [{"files": ["x.txt"]}]},
    {"file_sd_configs": [{"files": []}]},
    {"file_sd_configs": [{"files": ["*/x.yml"]}]},
    {"dns_sd_configs": [{"names": ["a"], "type": "A"}]},
    {"dns_sd_configs": [{"names": [], "type": "SRV"}]},
    {"dns_sd_configs": [{"names": ["a"], "type": "TXT", "port": 1}]},
    {"body_size_limit": "ten"},
    {"relabel_configs": [{"regex": "("}]},
    {"relabel_configs": [{"action": "rename", "target_label": "x"}]},
    {"relabel_configs": [{"source_labels": ["a"]}]},
    {"relabel_configs": [{"action": "hashmod", "target_label": "m"}]},
    {"relabel_configs": [{"action": "hashmod", "modulus": 2}]},
    {"relabel_configs": [{"action": "labeldrop", "source_labels": ["a"], "regex": "x"}]},
    {"relabel_configs": [{"action": "labelkeep", "regex": "x", "target_label": "y"}]},
    {"relabel_configs": [{"action": "lowercase", "source_labels": ["a"]}]},
    {"relabel_configs": [{"action": "labelmap", "replacement": "a-b"}]},
    {"relabel_configs": [{"target_label": "a-b"}]},
]


def written(folder: Path, jobs: list[dict[str, Any]]) -> Path:
    (folder / "secret").write_text("s3cret\n")
    file = folder / "tocsin.yml"
    file.write_text(yaml.safe_dump({"scrape_configs": jobs}))
    return file


def of_prometheus(folder: Path, job: dict[str, Any]) -> bool:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")
    file = written(folder, [job])
    command = ["promtool", "check", "config", str(file)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("keys", GOOD, ids=json.dumps)
def test_what_promtool_takes_is_taken(tmp_path: Path, keys: dict[str, Any]) -> None:
    job = {"job_name": "x", **T, **keys}
    assert of_prometheus(tmp_path, job)
    assert load(written(tmp_path, [job])).scrape_configs[0].job().name == "x"


@pytest.mark.parametrize("keys", BAD, ids=json.dumps)
def test_what_promtool_refuses_is_refused_where_it_stands(
    tmp_path: Path, keys: dict[str, Any]
) -> None:
    job = {"job_name": "x", **T, **keys}
    assert not of_prometheus(tmp_path, job)
    with pytest.raises(InvalidDocument, match=r"tocsin.yml:\d+:\d+: "):
        load(written(tmp_path, [job]))


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"kubernetes_sd_configs": [{"role": "pod"}]}, "write the targets to a file of file_sd"),
        ({"oauth2": {"client_id": "x"}}, "oauth2 is not provided; leave it out"),
        ({"honor_timestamps": True}, "each sample gets the time of its scrape"),
        ({"basic_auth": {"username": "u", "password": "p4ss"}}, "a secret has no place"),
        ({"authorization": {"credentials": "p4ss", "credentials_file": "s"}}, "no place"),
        ({"bearer_token_file": "nowhere"}, "cannot read .*nowhere"),
        ({"scrape_intervall": "5s"}, "scrape_interval"),
        ({"scheme": "ftp"}, "'http' or 'https'"),
    ],
)
def test_what_we_lack_is_refused_in_words(tmp_path: Path, keys: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidDocument, match=why) as error:
        load(written(tmp_path, [{"job_name": "x", **T, **keys}]))
    assert "p4ss" not in str(error.value)


def test_a_job_has_a_name_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(InvalidDocument, match="the job 'x' stands here twice"):
        load(written(tmp_path, [{"job_name": "x", **T}, {"job_name": "x", **T}]))
    assert Config().scrape_configs == ()


RELABELLED: list[list[dict[str, Any]]] = [
    [],
    [{"source_labels": ["__address__"], "regex": "(.*):.*", "target_label": "instance"}],
    [{"source_labels": ["team", "zone"], "target_label": "both"}],
    [{"source_labels": ["team", "zone"], "separator": "/", "target_label": "both"}],
    [{"source_labels": ["team"], "regex": "g(.)u", "target_label": "l_$1", "replacement": "$1$1"}],
    [{"source_labels": ["team"], "regex": "(?P<x>.)pu", "target_label": "n", "replacement": "$x"}],
    [{"source_labels": ["team"], "regex": "nomatch", "target_label": "n", "replacement": "y"}],
    [{"source_labels": ["team"], "target_label": "n", "replacement": "$1x"}],
    [{"source_labels": ["team"], "target_label": "n", "replacement": "${1}x$$"}],
    [{"source_labels": ["nothing"], "target_label": "team"}],
    [{"source_labels": ["team"], "regex": "gpu", "action": "keep"}],
    [{"source_labels": ["team"], "regex": "gp", "action": "keep"}],
    [{"source_labels": ["team"], "regex": "g.u", "action": "drop"}],
    [{"source_labels": ["team"], "target_label": "same", "action": "keepequal"}],
    [{"source_labels": ["team"], "target_label": "zone", "action": "keepequal"}],
    [{"source_labels": ["team"], "target_label": "same", "action": "dropequal"}],
    [{"source_labels": ["zone"], "modulus": 1000, "target_label": "m", "action": "hashmod"}],
    [{"regex": "z(.*)", "replacement": "y$1", "action": "labelmap"}],
    [{"regex": "team|zone", "action": "labeldrop"}],
    [{"regex": "__.*|job|zone", "action": "labelkeep"}],
    [{"source_labels": ["Mixed"], "target_label": "low", "action": "lowercase"}],
    [{"source_labels": ["Mixed"], "target_label": "up", "action": "uppercase"}],
    [{"target_label": "__address__", "replacement": "other:9"}],
    [{"target_label": "__metrics_path__", "replacement": "/m"}],
    [{"target_label": "__scheme__", "replacement": "https"}],
    [{"target_label": "__param_x", "replacement": "9"}],
    [{"target_label": "__param_new", "replacement": "9"}],
    [{"target_label": "job", "replacement": "renamed"}],
    [{"target_label": "__scrape_interval__", "replacement": "2m"}],
    [{"target_label": "__scrape_timeout__", "replacement": "3s"}],
    [{"target_label": "__tmp", "replacement": "x"}, {"source_labels": ["__tmp"],
                                                    "target_label": "of_tmp"}],
    [{"regex": "instance", "action": "labeldrop"}],
    [{"target_label": "instance", "replacement": ""}],
]  # fmt: skip


def relabelled_jobs() -> list[dict[str, Any]]:
    labels = {"team": "gpu", "zone": "z1", "same": "gpu", "Mixed": "AbC"}
    return [
        {
            "job_name": f"j{number}",
            "params": {"x": ["1", "2"], "y": ["&"]},
            "static_configs": [{"targets": ["127.0.0.1:1", "[::1]:2"], "labels": labels}],
            "relabel_configs": rules,
        }
        for number, rules in enumerate(RELABELLED)
    ]


def ours(config: Config) -> dict[str, JobTargets]:
    jobs = (section.job() for section in config.scrape_configs)
    return {job.name: job_targets(job, job.static) for job in jobs}


def test_relabelling_makes_prometheus_targets(tmp_path: Path) -> None:
    jobs = relabelled_jobs()
    own = ours(load(written(tmp_path, jobs)))
    with running_prometheus(tmp_path, config=yaml.safe_dump({"scrape_configs": jobs})) as server:
        found = server.targets()
    active, dropped = found["activeTargets"], found["droppedTargets"]
    seen = {
        (one["scrapePool"], one["scrapeUrl"], json.dumps(one["labels"], sort_keys=True))
        for one in active
    }
    made = {
        (name, target.url, json.dumps(dict(target.labels), sort_keys=True))
        for name, targets in own.items()
        for target in targets.active
    }
    assert made == seen
    intervals = {one["scrapePool"]: (one["scrapeInterval"], one["scrapeTimeout"]) for one in active}
    assert intervals["j28"] == ("2m", "10s") and intervals["j29"] == ("1m", "3s")
    for name, (interval, timeout) in intervals.items():
        seconds = [(one.interval, one.timeout) for one in own[name].active]
        assert set(seconds) == {(60 * int(interval[:-1]), int(timeout[:-1]))}
    left_out = sum(len(targets.dropped) for targets in own.values())
    assert left_out == len(dropped) > 0
