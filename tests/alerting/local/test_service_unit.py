"""The unit, as systemd itself reads it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.other_user import open_to_others
from tocsin_alerting.local import ports, service_unit

TOCSIN = Path(sys.executable).parent / "tocsin"
NAMESPACED = (  # each gives the service mounts of its own, or hides processes or devices
    *("ProtectSystem", "ProtectHome", "PrivateTmp", "PrivateMounts", "ProtectKernelTunables"),
    *("ProtectKernelModules", "ProtectKernelLogs", "ProtectControlGroups", "ProtectProc"),
    *("PrivateDevices", "ProtectClock", "DevicePolicy", "DeviceAllow", "PrivateUsers"),
    *("ReadWritePaths", "ReadOnlyPaths", "InaccessiblePaths", "TemporaryFileSystem", "BindPaths"),
    *("ProcSubset", "DynamicUser", "RootDirectory", "RootImage", "PrivateNetwork"),
)


def settings(text: str) -> dict[str, str]:
    lines = (line.partition("=") for line in text.splitlines() if line and line[0].isalpha())
    return {name: value for name, _, value in lines}


def of_the_machine(*arguments: str) -> str:
    return service_unit.unit_text(TOCSIN, "%E/tocsin/tocsin.yml", arguments, user=False)


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("user", [False, True])
def test_systemd_has_nothing_to_object_to(user: bool, tmp_path: Path) -> None:
    path = tmp_path / "tocsin.service"
    path.write_text(service_unit.unit_text(TOCSIN, "%E/tocsin/tocsin.yml", ["--load", "1"], user))
    done = analyze("verify", str(path))
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "tocsin" in line]
    assert (done.returncode, ours) == (0, [])


def test_systemd_objects_to_a_unit_that_is_wrong(tmp_path: Path) -> None:
    """So that the test above can fail."""
    path = tmp_path / "tocsin.service"
    path.write_text(of_the_machine().replace("WatchdogSec=2min", "WatchdogSec=soon"))
    assert "tocsin.service" in analyze("verify", str(path)).stderr


def test_how_exposed_it_is_is_printed_and_not_judged(tmp_path: Path) -> None:
    units = tmp_path / "etc" / "systemd" / "system"
    units.mkdir(parents=True)
    (units / "tocsin.service").write_text(of_the_machine())
    done = analyze("security", "--offline=true", f"--root={tmp_path}", "tocsin.service")
    print((done.stdout + done.stderr).splitlines()[-1])
    assert "xposure level" in done.stdout + done.stderr


def test_no_option_costs_a_metric() -> None:
    assert not set(settings(of_the_machine())) & set(NAMESPACED)


def test_it_has_what_keeps_it_up() -> None:
    held = settings(of_the_machine())
    assert (held["User"], held["OOMScoreAdjust"], held["Restart"]) == ("tocsin", "-900", "always")
    assert (held["Type"], held["WatchdogSec"]) == ("notify", "2min")
    assert held["StateDirectory"] == held["RuntimeDirectory"] == "tocsin"
    assert held["AmbientCapabilities"] == held["CapabilityBoundingSet"]
    of_a_user = settings(service_unit.unit_text(TOCSIN, "c", (), user=True))
    assert not {"User", "OOMScoreAdjust", "AmbientCapabilities"} & set(of_a_user)
    assert of_a_user["WantedBy"] == "default.target"


def test_arguments_reach_the_program_as_they_were_given(tmp_path: Path) -> None:
    """systemd expands % and $, and splits at blanks."""
    odd = ("--engine.url", "http://a:1/%41$HOME", "two words", 'a"b\\c', "")
    line = settings(of_the_machine(*odd))["ExecStart"]
    assert "http://a:1/%%41$$HOME" in line
    assert line.endswith(' "two words" "a\\"b\\\\c" ""')
    path = tmp_path / "tocsin.service"
    path.write_text(of_the_machine(*odd))
    assert analyze("verify", str(path)).returncode == 0


def test_a_directory_that_is_closed_to_others_is_found(tmp_path: Path) -> None:
    program = tmp_path / "home" / "bin" / "tocsin"
    program.parent.mkdir(parents=True)
    program.write_text("")
    program.chmod(0o755)
    open_to_others(tmp_path)
    assert service_unit.unreadable_part(program) is None
    program.parent.parent.chmod(0o750)
    assert service_unit.unreadable_part(program) == program.parent.parent


def test_what_systemds_program_says_is_told() -> None:
    assert service_unit.run_systemd("echo", "yes") == "yes\n"
    with pytest.raises(service_unit.SystemdRefused, match="sh -c .*: no such unit"):
        service_unit.run_systemd("sh", "-c", "echo no such unit >&2; exit 5")
    with pytest.raises(service_unit.SystemdRefused, match="nothing-of-this-name"):
        service_unit.run_systemd("nothing-of-this-name")


def test_whether_systemd_runs_the_machine(tmp_path: Path) -> None:
    assert service_unit.systemd_runs(tmp_path) and not service_unit.systemd_runs(tmp_path / "none")


def test_whoever_installs_it_has_engines_that_are_found() -> None:
    unit = service_unit.unit_text(TOCSIN, "c", (), user=False, installer="1000")
    assert settings(unit)["Environment"] == "TOCSIN_INSTALLED_BY=1000"
    for installer in ("", "1000\nUser=root"):
        assert "Environment" not in settings(
            service_unit.unit_text(TOCSIN, "c", (), False, installer)
        )
    allowed = frozenset({7})
    trusted = ports.trusted_users(allowed, {service_unit.INSTALLED_BY: "1000"})
    assert trusted == {0, 7, 1000, os.geteuid()}
    assert ports.trusted_users(allowed, {service_unit.INSTALLED_BY: "alice"}) == trusted - {1000}
