"""`tocsin service`: what it writes, what it refuses, what it asks of systemctl."""

import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tocsin_alerting.cli.commands import tocsin as main
from tocsin_alerting.cli.service import NOT_RUNNING, ServiceScope, _report, _start

SYSTEMCTL = """\
#!/bin/sh
echo "$(basename $0) $*" >> {calls}
case "$*" in *show*) printf 'ActiveState=%s\\nMainPID=4711\\nNRestarts=2\\n' {state};; esac
exit {code}
"""


def tocsin(*words: str) -> Result:
    return CliRunner().invoke(main, ["service", *words])


def tree(root: Path) -> set[str]:
    return {str(one.relative_to(root)) for one in root.rglob("*") if not one.is_dir()}


def test_an_image_gets_the_unit_its_user_and_its_link(tmp_path: Path) -> None:
    done = tocsin("install", "--root", str(tmp_path), "--program", "/opt/tocsin/bin/tocsin")
    assert done.exit_code == 0, done.output
    assert tree(tmp_path) == {
        "etc/systemd/system/tocsin.service",
        "etc/systemd/system/multi-user.target.wants/tocsin.service",
        "etc/sysusers.d/tocsin.conf",
        "etc/tocsin/tocsin.yml",
    }
    link = tmp_path / "etc/systemd/system/multi-user.target.wants/tocsin.service"
    unit = tmp_path / "etc/systemd/system/tocsin.service"
    assert link.resolve() == unit
    assert "ExecStart=/opt/tocsin/bin/tocsin up" in unit.read_text()
    assert "--no-worker" in unit.read_text()
    assert stat.S_IMODE(unit.stat().st_mode) == 0o644
    assert tocsin("status", "--root", str(tmp_path)).exit_code == NOT_RUNNING


def test_again_it_takes_new_arguments_and_leaves_the_configuration(tmp_path: Path) -> None:
    root = ("--root", str(tmp_path))
    assert tocsin("install", *root).exit_code == 0
    config = tmp_path / "etc/tocsin/tocsin.yml"
    config.write_text("version: 1\nlanguage: zh\n")
    assert tocsin("install", *root, "--with-worker", "--load", "2").exit_code == 0
    unit = (tmp_path / "etc/systemd/system/tocsin.service").read_text()
    assert "--load 2" in unit and "--no-worker" not in unit
    assert "zh" in config.read_text()


def test_removed_it_leaves_configuration_and_data(tmp_path: Path) -> None:
    root = ("--root", str(tmp_path))
    assert tocsin("install", *root).exit_code == 0
    for said in ("removed ", "nothing to remove: there is no "):
        done = tocsin("remove", *root)
        assert (done.exit_code, done.output.startswith(said)) == (0, True), done.output
        assert tree(tmp_path) == {"etc/tocsin/tocsin.yml"}
    assert "not installed" in tocsin("status", *root).output


def test_a_unit_that_somebody_wrote_is_neither_replaced_nor_removed(tmp_path: Path) -> None:
    unit = tmp_path / "etc/systemd/system/tocsin.service"
    unit.parent.mkdir(parents=True)
    unit.write_text("[Service]\nExecStart=/bin/true\n")
    for word in ("install", "remove"):
        done = tocsin(word, "--root", str(tmp_path))
        assert (done.exit_code, "was not written by" in done.output) == (1, True)
    assert unit.read_text() == "[Service]\nExecStart=/bin/true\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--nonsense"], "No such option"),
        (["--storage.path", "elsewhere"], "leave out --storage.path: systemd keeps"),
        (["--config.file=x.yml"], "leave out --config.file: the service reads "),
        (["--config.file", "x.yml"], "Usage: tocsin service install"),
        (["--with-worker", "--no-worker"], "--with-worker and --no-worker exclude each other"),
        (["--user"], "--user and --root cannot be used together"),
        (["--engine.url", "ftp://x"], "--engine.url ftp://x: not a URL like"),
        (["--web.listen-address", "127.0.0.1:80:1"], "is not HOST:PORT"),
        (["--engine.url", "http://a:1", "--engine.port", "9"], "give one of them"),
        (["--web.systemd-socket"], "needs a socket unit"),
        (["--worker.device", "cuda"], "which is not started with --no-worker"),
    ],
)
def test_what_could_not_start_is_not_installed(words: list[str], said: str, tmp_path: Path) -> None:
    done = tocsin("install", "--root", str(tmp_path), *words)
    assert (done.exit_code, said in done.output) == (2, True), done.output
    assert tree(tmp_path) == set()


def test_arguments_and_configuration_must_go_together(tmp_path: Path) -> None:
    config = tmp_path / "etc/tocsin/tocsin.yml"
    config.parent.mkdir(parents=True)
    config.write_text('engines: [{url: "http://a:1"}]')
    done = tocsin("install", "--root", str(tmp_path), "--engine.port", "9")
    assert (done.exit_code, "leave out one of them" in done.output) == (2, True), done.output
    assert tree(tmp_path) == {"etc/tocsin/tocsin.yml"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nonsense: 1", ":1:1: unknown key "),
        ("rule_files: [none.yml]", "there is no file none.yml"),
        ("rule_files: [wrong.yml]", "wrong.yml:1:9: "),
    ],
)
def test_a_wrong_configuration_keeps_the_service_that_runs(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    config = tmp_path / "tocsin/tocsin.yml"
    config.parent.mkdir()
    config.write_text(text)
    (config.parent / "wrong.yml").write_text("groups: 5")
    done = tocsin("install", "--user")
    assert (done.exit_code, said in done.output) == (1, True), done.output
    assert not (tmp_path / "systemd").exists()


def test_of_an_image_a_wrong_configuration_is_only_said(tmp_path: Path) -> None:
    config = tmp_path / "etc/tocsin/tocsin.yml"
    config.parent.mkdir(parents=True)
    config.write_text("web: {token_file: /etc/tocsin/token-of-the-image}")
    done = tocsin("install", "--root", str(tmp_path))
    assert (done.exit_code, "cannot read /etc/tocsin/token" in done.output) == (0, True)


def test_the_installers_own_environment_is_not_the_services(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOCSIN_WEB_LISTEN_ADDRESS", "nonsense")
    assert tocsin("install", "--root", str(tmp_path)).exit_code == 0


def test_a_user_has_a_service_without_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert tocsin("install", "--user").exit_code == 0
    assert tree(tmp_path) == {
        "systemd/user/tocsin.service",
        "systemd/user/default.target.wants/tocsin.service",
        "tocsin/tocsin.yml",
    }


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return systemctl(tmp_path, monkeypatch)


def systemctl(
    folder: Path, monkeypatch: pytest.MonkeyPatch, state: str = "active", code: int = 0
) -> Path:
    """In place of systemd's programs, one that writes down how it is called."""
    calls = folder / "calls"
    for name in ("systemctl", "systemd-sysusers"):
        program = folder / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(SYSTEMCTL.format(calls=calls, state=state, code=code))
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:/usr/bin:/bin")
    return calls


def test_the_user_is_made_before_the_service_is_started(calls: Path) -> None:
    _start(ServiceScope(user=False, root=None))
    assert calls.read_text().splitlines() == [
        "systemd-sysusers /etc/sysusers.d/tocsin.conf",
        "systemctl daemon-reload",
        "systemctl enable tocsin.service",
        "systemctl restart tocsin.service",
    ]


def test_the_service_of_a_user_is_started_by_that_users_systemd(calls: Path) -> None:
    _start(ServiceScope(user=True, root=None))
    assert all(line.startswith("systemctl --user ") for line in calls.read_text().splitlines())


def test_the_report_is_systemds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    systemctl(tmp_path, monkeypatch, "active")
    assert _report(ServiceScope(user=False, root=None)) == 0
    assert "pid       4711, restarted 2 times" in capsys.readouterr().out
    systemctl(tmp_path, monkeypatch, "failed")
    assert _report(ServiceScope(user=False, root=None)) == NOT_RUNNING


def test_why_it_did_not_start_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    systemctl(tmp_path, monkeypatch, code=1)
    with pytest.raises(SystemExit):
        _start(ServiceScope(user=False, root=None))
    assert "journalctl -u tocsin" in capsys.readouterr().err
