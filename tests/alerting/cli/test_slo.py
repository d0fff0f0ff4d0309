"""`alertctl slo generate`: what it writes is right by promtool's word and by ours."""

import re
import subprocess
from pathlib import Path

import pytest

from support.command_line import alertctl
from support.promtool import needs_promtool, run_tests

PAGE = (Path(__file__).parents[3] / "docs" / "slo.md").read_text("utf-8")
ONE = "slos: [{name: a, objective: 99.9, good: 'm{code=\"200\"}', total: m}]\n"


def made(folder: Path, text: str) -> tuple[Path, Path]:
    (folder / "slo.yml").write_text(text)
    (folder / "tests").mkdir()
    rules, tests = folder / "rules.yml", folder / "tests" / "slo.test.yml"
    ended = alertctl(
        "slo", "generate", str(folder / "slo.yml"), "-o", str(rules), "--tests", str(tests)
    )
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines() == [f"wrote {rules}", f"wrote {tests}"]
    return rules, tests


@needs_promtool
def test_the_page_s_example_passes_its_tests(tmp_path: Path) -> None:
    (example,) = re.findall(r"(?s)```yaml\n(# slo.yml\n.*?)```", PAGE)
    rules, tests = made(tmp_path, example)
    command = ["promtool", "check", "rules", "--lint-fatal", str(rules)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert alertctl("check", str(rules), str(tests)).code == 0
    passed, said = run_tests(tests)
    assert passed, said
    ended = alertctl("test", "--run", "availability", str(tests))
    assert ended.code == 0, ended.err
    assert {name for name in re.findall(r"record: (\S+)", rules.read_text())} >= {
        *re.findall(r"`(slo:\w+:\w+|sloth_slo_info)`", PAGE)
    }


BROKEN = {
    "one failure at night pages": (">= 3", ">= 0"),
    "the wrong share is compared": ("14.4 * 0.001", "0.144 * 0.001"),
    "failures are not seen": ('good{ok="yes"}', "good"),
    "a slow burn is not seen": ("> 1 * 0.001", "> 2.5 * 0.001"),
    "no tier for six times": ("> 6 * 0.001", "> 9 * 0.001"),
}


@needs_promtool
def test_its_tests_fail_where_a_rule_is_wrong(tmp_path: Path) -> None:
    text = "slos: [{name: a, objective: 99.9, good: 'good{ok=\"yes\"}', total: good}]\n"
    rules, tests = made(tmp_path, text)
    right = rules.read_text()
    assert run_tests(tests)[0]
    for what, (one, other) in BROKEN.items():
        assert one in right, what
        rules.write_text(right.replace(one, other))
        assert not run_tests(tests)[0], what


def test_without_a_file_the_rules_go_to_standard_output(tmp_path: Path) -> None:
    (tmp_path / "slo.yml").write_text(ONE)
    ended = alertctl("slo", "generate", str(tmp_path / "slo.yml"))
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("# Written by `alertctl slo generate slo.yml`")
    assert "alert: ABudgetBurn" in ended.out


def test_what_is_wrong_has_its_place(tmp_path: Path) -> None:
    file = tmp_path / "slo.yml"
    file.write_text(ONE.replace("total", "totl"))
    ended = alertctl("slo", "generate", str(file))
    assert ended.code == 1
    assert f'{file}:1:58: unknown key "totl" in an objective; did you mean "total"?' in ended.err
    ended = alertctl("slo", "generate", str(file), "--tests", str(tmp_path / "t.yml"))
    assert ended.code == 2 and "--tests needs --output" in ended.err
    file.write_text(ONE)
    ended = alertctl("slo", "generate", str(file), "-o", str(tmp_path / "none" / "rules.yml"))
    assert ended.code == 1 and "No such file or directory" in ended.err


@pytest.mark.parametrize("word", ["generate", "--help"])
def test_it_says_what_it_takes(word: str) -> None:
    ended = alertctl("slo", word, *(["--help"] if word == "generate" else []))
    assert ended.code == 0 and "objectives" in ended.out
