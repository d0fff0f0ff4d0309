"""`--junit` writes what the schemas of JUnit XML ask for; `--run` picks tests by their names."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from support.command_line import alertctl
from tocsin_alerting.cli.junit import junit_xml
from tocsin_alerting.incident_test.file_run import CaseOutcome, FileOutcome, JUnitSuite

# As Ant's schema has them (JUnit.xsd), which allows no others; all are required.
SUITE = {"name", "package", "id", "timestamp", "hostname", "tests", "failures", "errors", "time"}
CASE = {"name", "classname", "time"}
INSIDE = ["properties", "testcase", "system-out", "system-err"]
TESTS = """
tests:
- {name: adds up, promql_expr_test: [{expr: 1 + 1, eval_time: 0, exp_samples: [{value: 2}]}]}
- {name: does not, promql_expr_test: [{expr: 1 + 1, eval_time: 0, exp_samples: [{value: 3}]}]}
- {promql_expr_test: [{expr: 1, eval_time: 0, exp_samples: [{value: 1}]}]}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "sums.test.yml"
    path.write_text(TESTS)
    return path


def check_schema(root: ElementTree.Element) -> None:
    assert root.tag == "testsuites" and not root.attrib
    for number, suite in enumerate(root):
        assert suite.tag == "testsuite" and set(suite.attrib) == SUITE
        assert suite.get("id") == str(number)
        order = [INSIDE.index(child.tag) for child in suite]
        assert order == sorted(order) and {*order} >= {0, 2, 3}
        cases = suite.findall("testcase")
        assert suite.get("tests") == str(len(cases))
        assert suite.get("failures") == str(len(suite.findall("testcase/failure")))
        assert suite.get("errors") == str(len(suite.findall("testcase/error")))
        for case in cases:
            assert set(case.attrib) == CASE and len(case) <= 1
            assert all(set(one.attrib) == {"message", "type"} for one in case)


def test_the_results_of_each_file_are_a_suite(file: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.yml").write_text("tests: [{nme: 1}]")
    written = tmp_path / "out.xml"
    ended = alertctl("test", "--junit", str(written), str(file), str(tmp_path / "bad.yml"))
    assert ended.code == 1
    root = ElementTree.parse(written).getroot()
    check_schema(root)
    sums, bad = root
    assert (sums.get("name"), sums.get("package")) == (str(file), str(tmp_path))
    assert [case.get("name") for case in sums.iter("testcase")] == [
        "adds up",
        "does not",
        "unnamed#2",
    ]
    right, wrong, _ = sums.iter("testcase")
    assert len(right) == 0 and float(right.get("time") or "-1") >= 0
    (failure,) = wrong
    assert "exp: {} 3E+00" in (failure.text or "")
    assert (failure.get("message") or "").startswith('expr: "1 + 1", time: 0s')
    (error,) = bad.iter("error")
    assert 'unknown key "nme"' in (error.get("message") or "")


def test_what_xml_cannot_hold_is_replaced() -> None:
    case = CaseOutcome('a <b> "c" \x00 \ud800', ("first & \x1b\n\nsecond",), 0.25)
    outcome = FileOutcome((case,), unmatched=("none*.yml",))
    root = ElementTree.fromstring(junit_xml([JUnitSuite("t.yml", outcome, 1e9)], "gpu-1"))
    check_schema(root)
    (suite,) = root
    assert (suite.get("timestamp"), suite.get("hostname")) == ("2001-09-09T01:46:40", "gpu-1")
    assert (suite.get("time"), suite.get("package")) == ("0.250", ".")
    assert suite.findtext("system-err") == "no file match pattern none*.yml"
    (found,) = suite.iter("testcase")
    assert found.get("name") == 'a <b> "c" \ufffd \ufffd'
    assert found.findtext("failure") == "first & \ufffd\n\nsecond"


def test_a_file_that_cannot_be_written_fails(file: Path) -> None:
    ended = alertctl("test", "--run", "adds", "--junit", "/nosuch/out.xml", str(file))
    assert (ended.code, ended.err) == (
        1,
        "cannot write /nosuch/out.xml: No such file or directory\n",
    )


@pytest.mark.parametrize(
    ("patterns", "code"),
    [(["adds"], 0), (["^adds up$"], 0), (["does"], 1), (["adds", "does"], 1), (["^$"], 0)],
)
def test_tests_are_picked_by_their_names(file: Path, patterns: list[str], code: int) -> None:
    words = [word for pattern in patterns for word in ("--run", pattern)]
    ended = alertctl("test", *words, str(file))
    assert ended.code == code
    assert (code == 1) is ("3E+00" in ended.err)


def test_a_name_that_no_test_has_is_no_success(file: Path) -> None:
    ended = alertctl("test", "--run", "ads", "--run", "dos", str(file))
    assert (ended.code, ended.err) == (1, "no test has a name that matches ads, dos\n")
    assert alertctl("test", "--run", "ads", str(file), str(file)).code == 1


def test_what_is_no_pattern_is_wrong_usage(file: Path) -> None:
    ended = alertctl("test", "--run", "(", str(file))
    assert ended.code == 2 and "not a regular expression" in ended.err
