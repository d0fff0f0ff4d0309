"""From the command line to a checked setup: what wins, and what is said when it cannot start."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.request import urlopen

import pytest
from _pytest.mark import ParameterSet

from support.agent_process import BIN, free_port
from tocsin_alerting.cli.commands import up
from tocsin_alerting.config.config import Config
from tocsin_alerting.config.reading import rule_patterns
from tocsin_alerting.listeners import CannotStart
from tocsin_alerting.local.discovery import USUAL_PORTS
from tocsin_alerting.startup import (
    UpOptions,
    connection_limits,
    flags,
    instance_name,
    load_config,
    rule_files,
)
from tocsin_alerting.yaml_document import InvalidDocument

CONFIG = """
storage: {path: there}
web: {listen_address: "127.0.0.1:1", token_file: token}
worker: {device: cuda, port: 9000}
engines: [{url: "http://h:1"}]
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "token").write_text("hunter2")
    path = tmp_path / "tocsin.yml"
    path.write_text(CONFIG)
    return path


def test_the_file_alone(config: Path) -> None:
    found = load_config(UpOptions(config_file=config))
    assert (found.storage.path, found.web.listen_address) == ("there", "127.0.0.1:1")
    assert (found.worker.enabled, found.worker.device) == (True, "cuda")
    assert [engine.url for engine in found.engines] == ["http://h:1"]


def test_flags_win_over_the_file_and_leave_the_rest(config: Path) -> None:
    flags = UpOptions(
        config, "here", ("127.0.0.1:2",), ("http://a:1", "http://b:1"), no_worker=True
    )
    found = load_config(flags)
    assert (found.storage.path, found.web.listen_address) == ("here", "127.0.0.1:2")
    assert found.web.token_file == config.parent / "token"
    assert (found.worker.enabled, found.worker.device, found.worker.port) == (False, "cuda", 9000)
    assert [engine.url for engine in found.engines] == ["http://a:1", "http://b:1"]
    assert load_config(UpOptions(config, worker_device="cpu")).worker.device == "cpu"
    assert load_config(UpOptions(config)).promql.semantics == 3
    assert load_config(UpOptions(config, promql_semantics=2)).promql.semantics == 2


def test_an_engine_that_is_named_twice_is_watched_once(config: Path) -> None:
    urls = ("http://h:80/", "http://H", "http://h/a", "http://h./a")
    found = load_config(UpOptions(config, engine_urls=urls)).engines
    assert [engine.access.target for engine in found] == ["h:80", "h:80/a"]


def test_every_flag_is_told_with_what_holds_and_without_passwords(config: Path) -> None:
    options = UpOptions(config, engine_urls=("http://li:hunter2@a:1",), no_worker=True)
    told = flags(options, load_config(options), "debug", "json")
    assert told.keys() == {name.removeprefix("--") for one in up.params for name in one.opts}
    assert told["config.file"] == str(config)
    assert told["engine.url"] == "http://<secret>@a:1"
    assert told["engine.port"] == ",".join(map(str, USUAL_PORTS))
    assert (told["log.level"], told["log.format"], told["load"]) == ("debug", "json", "")
    assert (told["no-worker"], told["worker.device"]) == ("true", "cuda")
    assert (told["storage.path"], told["web.listen-address"]) == ("there", "127.0.0.1:1")


def test_rules_are_read_as_the_promql_that_is_configured(tmp_path: Path) -> None:
    (tmp_path / "mine.yml").write_text(
        "groups: [{name: g, rules: [{record: a, expr: 'limitk(1, up)'}]}]"
    )
    path = tmp_path / "tocsin.yml"
    path.write_text("rule_files: [mine.yml]")
    assert len(rule_files(load_config(UpOptions(path)))) == 1
    with pytest.raises(InvalidDocument, match="unknown function with name"):
        rule_files(load_config(UpOptions(path, promql_semantics=2)))
    path.write_text("{rule_files: [mine.yml], promql: {semantics: 2}, evaluation_interval: 0}")
    with pytest.raises(InvalidDocument, match="unknown function with name"):
        load_config(UpOptions(path))


def test_an_engine_that_is_no_url() -> None:
    with pytest.raises(CannotStart, match=r"^--engine.url nonsense: not a URL like http://"):
        load_config(UpOptions(engine_urls=("nonsense",)))


def test_a_url_with_a_fragment() -> None:
    with pytest.raises(
        CannotStart, match=r"^--engine.url http://h:1/q: a server never sees what follo"
    ):
        load_config(UpOptions(engine_urls=("http://h:1/q#hunter2",)))


BROKEN = [
    *("http://u:hunter2@h:99999", "http://u:hun/ter2@h", "u:hunter2@h"),
    *("http://h:99999/q?key=hunter2", "http://tok@h:1/q#hunter2", "h?hunter2", "h#hunter2"),
]


@pytest.mark.parametrize("url", BROKEN)
def test_a_broken_url_shows_no_password(url: str) -> None:
    with pytest.raises(CannotStart) as error:
        load_config(UpOptions(engine_urls=(url,)))
    assert "ter2" not in str(error.value)


def test_the_bundled_rules_stand_for_their_files(tmp_path: Path) -> None:
    (tmp_path / "mine.yml").write_text("groups: []")
    path = tmp_path / "tocsin.yml"
    path.write_text("rule_files: [bundled, mine.yml, bundled/vllm]")
    found = load_config(UpOptions(config_file=path))
    assert rule_patterns(found)[1] == str(tmp_path / "mine.yml")
    names = [Path(file.path).name for file in rule_files(found)]
    names_of_packs = "baseline gpu host inference logs probes tocsin".split()
    bundled = [f"{name}.yml" for name in names_of_packs]
    assert names == [*bundled, "mine.yml", "vllm.yml"]


def test_meta_alerts_among_the_bundled_rules_are_switched_and_as_bad_as_they_are_said_to_be(
    tmp_path: Path,
) -> None:
    def severities(text: str) -> dict[str, set[str]]:
        own = tmp_path / "own.yml"
        own.write_text("groups: [{name: g, rules: [{alert: CollectorFailing, expr: up == 0}]}]")
        (tmp_path / "t.yml").write_text(f"rule_files: [bundled, own.yml]\n{text}")
        found = rule_files(load_config(UpOptions(config_file=tmp_path / "t.yml")))
        rules = [rule for file in found for group in file.groups for rule in group.rules]
        names = ("CollectorFailing", "ClockStepped")
        return {
            name: {dict(rule.labels).get("severity", "") for rule in rules if rule.name == name}
            for name in names
        }

    assert severities("") == {"CollectorFailing": {"", "P2"}, "ClockStepped": {"P3"}}
    text = "meta_alerts: {CollectorFailing: {enabled: false}, ClockStepped: {severity: P1}}"
    assert severities(text) == {"CollectorFailing": {""}, "ClockStepped": {"P1"}}


def test_a_broken_rule_file_is_told_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "mine.yml").write_text("groups: 5")
    path = tmp_path / "tocsin.yml"
    path.write_text("rule_files: [mine.yml]")
    with pytest.raises(InvalidDocument, match="mine.yml:1:9: "):
        rule_files(load_config(UpOptions(config_file=path)))


def rarely(*case: object) -> ParameterSet:
    """Another example of what a case beside it holds: each costs a second to start."""
    return pytest.param(*case, marks=pytest.mark.long)


def tocsin(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / "tocsin", *words], cwd=folder, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("part", ["up", "exporter"])
def test_a_taken_address_is_named_with_its_owner(tmp_path: Path, part: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = tocsin(tmp_path, part, f"--web.listen-address={address}")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"{address} is in use by ")
    assert f"(pid {os.getpid()})" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["up", "--config.file=."], ".:1:1: cannot read this file: "),
        (["up", "--config.file=wrong.yml"], "wrong.yml:1:1: unknown key "),
        (["up", "--web.listen-address=203.0.113.7:4911"], "cannot listen on 203.0.113.7:4911: "),
    ],
)
def test_why_it_cannot_start_is_one_line(tmp_path: Path, words: Sequence[str], said: str) -> None:
    (tmp_path / "wrong.yml").write_text("nonsense: 1")
    done = tocsin(tmp_path, *words)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["up", "--config.file=none.yml"], "--config.file none.yml: no such file"),
        rarely(["up", "--engine.url=nonsense"], "--engine.url nonsense: not a URL"),
        (["up", "--web.listen-address=here"], "--web.listen-address: 'here' is not HOST:PORT"),
        rarely(
            ["up", "--web.listen-address=:99999"], "--web.listen-address: ':99999': '99999' is "
        ),
        rarely(
            ["up", "--engine.url=http://a:1", "--engine.port=1"], "--engine.port looks for engines"
        ),
        (["up", "--config.file=e.yml", "--engine.port=1"], "--engine.port looks for engines"),
        (["up", "--no-worker", "--worker.device=cpu"], "--worker.device is for the demo worker"),
        rarely(
            ["exporter", "--web.listen-address=here"], "--web.listen-address: 'here' is not HOST"
        ),
        (["exporter", "--engine.url=nonsense"], "--engine.url nonsense: not a URL"),
    ],
)
def test_a_flag_of_the_wrong_value_is_wrong_usage(
    tmp_path: Path, words: Sequence[str], said: str
) -> None:
    (tmp_path / "e.yml").write_text('engines: [{url: "http://a:1"}]')
    done = tocsin(tmp_path, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("part", [["up", "--no-worker", "--storage.path=data"], ["exporter"]])
def test_it_listens_on_every_address_that_is_given(tmp_path: Path, part: list[str]) -> None:
    ports = free_port(), free_port()
    listening = [f"--web.listen-address=127.0.0.1:{port}" for port in ports]
    command = [str(BIN / "tocsin"), *part, *listening, "--web.max-requests=1"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
    try:
        for port in ports:
            assert "tocsin_build_info" in answer(f"http://127.0.0.1:{port}/metrics")
    finally:
        process.terminate()
        assert process.wait(20) == 0


JOBS = {
    "--no-collector.host": "node",
    "--no-collector.gpu": "dcgm",
    "--no-collector.process": "process",
}


@pytest.mark.parametrize("off", [(), *map(rarely, ((flag,) for flag in JOBS)), tuple(JOBS)])
def test_an_exporter_without_an_area_reads_nothing_of_it(
    tmp_path: Path, off: tuple[str, ...]
) -> None:
    port = free_port()
    listen = f"--web.listen-address=127.0.0.1:{port}"
    command = [str(BIN / "tocsin"), "exporter", listen, "--web.max-connections=7", *off]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
    try:
        page = answer(f"http://127.0.0.1:{port}/metrics")
    finally:
        process.terminate()
        assert process.wait(20) == 0
    jobs = set(re.findall(r'tocsin_sampling_rounds_total\{job="(\w+)"', page))
    assert jobs == {"tocsin", *(job for flag, job in JOBS.items() if flag not in off)}
    assert "\ntocsin_http_connections_max 7\n" in page


def answer(url: str) -> str:
    deadline = time.monotonic() + 30
    while True:
        try:
            with urlopen(url, timeout=5) as page:
                return str(page.read().decode())
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_no_address_is_held_when_another_is_taken(tmp_path: Path) -> None:
    port = free_port()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        other = f"127.0.0.1:{taken.getsockname()[1]}"
        addresses = [f"--web.listen-address=127.0.0.1:{port}", f"--web.listen-address={other}"]
        done = tocsin(tmp_path, "up", *addresses)
    assert (done.returncode, done.stderr.split(" ")[0]) == (1, other)


@pytest.mark.parametrize("hosts", [("", "127.0.0.1"), ("127.0.0.1", ""), ("localhost",) * 2])
def test_an_address_of_our_own_is_no_other_process(tmp_path: Path, hosts: tuple[str, str]) -> None:
    port = free_port()
    addresses = [f"--web.listen-address={host}:{port}" for host in hosts]
    done = tocsin(tmp_path, "exporter", *addresses)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{hosts[1]}:{port} is given twice: another --web.listen")


def test_another_process_on_the_port_of_our_first_address_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.2", 0))
        taken.listen()
        port = taken.getsockname()[1]
        addresses = [f"--web.listen-address=127.0.0.{last}:{port}" for last in (1, 2)]
        done = tocsin(tmp_path, "exporter", *addresses)
    assert f"(pid {os.getpid()})" in done.stderr


STRANGE = {
    "GPU_COLLECT_INTERVAL": "hunter2",
    "METRICS_PORT": "hunter2",
    "PORT": "hunter2",
    "API_KEYS": "hunter2",
    "MODEL_PATH": "hunter2",
    "ALERT_WEBHOOK_URL": "http://127.0.0.1:9/hunter2",
}
WEBHOOK = "receivers: {r: {type: webhook, url_env: ALERT_WEBHOOK_URL}}"


@pytest.mark.parametrize(
    ("words", "unread"),
    [
        (["exporter"], set(STRANGE)),
        rarely(["up", "--no-worker"], set(STRANGE)),
        rarely(["up", "--engine.url=http://a:1"], set(STRANGE)),
        (["up"], set(STRANGE) - {"API_KEYS", "MODEL_PATH"}),
        (["up", "--config.file=hook.yml", "--no-worker"], set(STRANGE) - {"ALERT_WEBHOOK_URL"}),
        (["up", "--config.file=model.yml"], set(STRANGE) - {"API_KEYS"}),
    ],
)
def test_a_variable_that_does_nothing_is_said_without_its_value(
    tmp_path: Path, words: Sequence[str], unread: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hook.yml").write_text(WEBHOOK)
    (tmp_path / "model.yml").write_text("worker: {model_path: /m}")
    for name, value in STRANGE.items():
        monkeypatch.setenv(name, value)
    done = tocsin(tmp_path, *words, "--web.listen-address=203.0.113.7:4911")
    said = re.findall(r"environment variable (\w+) has no effect here: \w+", done.stderr)
    assert sorted(said) == sorted(unread)
    assert "hunter2" not in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["up", "--load=0"],
        ["up", "--worker.device=tpu"],
        ["up", "--log.level=loud"],
        ["up", "--nonsense"],
        ["up", "--storage.path=a", "--storage.path", "b"],
        ["up", "--web.max-requests=-1"],
        ["exporter", "--log.level=info", "--log.level=debug"],
        ["exporter", "here"],
        ["nonsense"],
    ],
)
def test_wrong_usage_ends_with_2(tmp_path: Path, words: Sequence[str]) -> None:
    assert tocsin(tmp_path, *words).returncode == 2


@pytest.mark.parametrize(
    ("host", "configured_as", "name", "warned"),
    [
        ("gpu7", "", "gpu7", False),
        ("gpu7", "rack 3", "rack 3", False),
        ("3f2a9c01b7de", "", "3f2a9c01b7de", True),
        ("3f2a9c01b7de", "gpu7", "gpu7", False),
        ("", "", "localhost", False),
    ],
)
def test_the_machine_has_its_configured_name_or_the_hosts(
    host: str, configured_as: str, name: str, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    assert instance_name(Config(instance=configured_as), host) == name
    assert ("looks like a container id" in caplog.text) == warned


@pytest.mark.parametrize("name", [" gpu7", "a\nb", "a\x1b[1m", "x" * 254])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="printable"):
        Config(instance=name)


def test_a_mail_server_that_is_not_up_yet_does_not_keep_the_pager_down(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """`alertctl check` refuses it where nothing listens on port 25; the agent says so."""
    path = tmp_path / "tocsin.yml"
    path.write_text("contacts: {me: {email: me@example.invalid}}\n")
    config = load_config(UpOptions(config_file=path))
    assert config.receivers["mail"].type == "email"
    if caplog.records:  # unless this machine has a mail server that takes it
        assert "cannot send mail to contacts" in caplog.text


def test_the_connections_are_those_of_flag_and_configuration(tmp_path: Path) -> None:
    file = tmp_path / "tocsin.yml"
    file.write_text("web: {trusted_proxies: [10.0.0.7, 10.1.2.3/16, '::1']}\n")
    options = UpOptions(file, max_connections=10)
    limits = connection_limits(options, load_config(options))
    assert (limits.connections, limits.per_address) == (10, 5)
    assert [str(one) for one in limits.exempt] == ["10.0.0.7/32", "10.1.0.0/16", "::1/128"]
    for proxy, wrong in (
        ("proxy.example", "not an address or network like 10.0.0.7"),
        ("'::ffff:10.0.0.7'", "write it as one of IPv4, like 10.0.0.7"),
    ):
        file.write_text(f"web: {{trusted_proxies: [{proxy}]}}\n")
        with pytest.raises(InvalidDocument, match=wrong):
            load_config(options)


NO_THREADS = """
import sys, threading
from tocsin_alerting.startup import UpOptions, run
begin, left = threading.Thread.start, [int(sys.argv[1])]
def limited(self):
    if left[0] <= 0:
        raise RuntimeError("can't start new thread")
    left[0] -= 1
    begin(self)
threading.Thread.start = limited
sys.exit(run(UpOptions(storage_path="data", listen_addresses=["127.0.0.1:0"]), "warn", "logfmt"))
"""


@pytest.mark.parametrize("room", [0, 10, 30])
def test_without_room_for_the_threads_that_pages_need_it_refuses_in_words(
    tmp_path: Path, room: int
) -> None:
    """It started, said that it was ready, and paged nobody."""
    command = [sys.executable, "-c", NO_THREADS, str(room)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    said = done.stderr.splitlines()[-1]
    assert "more threads, and pages need at least" in said and "TasksMax" in said
