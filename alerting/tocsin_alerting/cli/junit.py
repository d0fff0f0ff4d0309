"""Results of tests as JUnit XML, which CI systems read: with all that the strictest schema in use
(that of Ant) asks for, which the others (that of Jenkins) allow."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import PurePath
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from tocsin_alerting.incident_test.file_run import JUnitSuite

if TYPE_CHECKING:
    from tocsin_alerting.incident_test.file_run import CaseOutcome

# What XML 1.0 cannot hold, escaped or not.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_WHOLE_FILE = "the file"


def junit_xml(files: Sequence[JUnitSuite], hostname: str) -> str:
    """A suite for each file, a case for each test. A file that could not be run is an error."""
    root = ElementTree.Element("testsuites")
    for number, file in enumerate(files):
        root.append(_suite(number, file, hostname))
    ElementTree.indent(root)
    text: str = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _suite(number: int, file: JUnitSuite, hostname: str) -> ElementTree.Element:
    cases, error = file.outcome.outcomes, file.outcome.error
    seconds = sum(case.seconds for case in cases)
    suite = ElementTree.Element(
        "testsuite",
        {
            "name": _xml_text(file.path),
            "package": _xml_text(str(PurePath(file.path).parent)),
            "id": str(number),
            "timestamp": f"{datetime.fromtimestamp(file.began_s, UTC):%Y-%m-%dT%H:%M:%S}",
            "hostname": _xml_text(hostname),
            "tests": str(len(cases) + bool(error)),
            "failures": str(sum(bool(case.failures) for case in cases)),
            "errors": str(int(bool(error))),
            "time": f"{seconds:.3f}",
        },
    )
    ElementTree.SubElement(suite, "properties")
    for case in cases:
        _case(suite, file.path, case)
    if error:
        _trouble(_named(suite, file.path, _WHOLE_FILE, 0.0), "error", error)
    ElementTree.SubElement(suite, "system-out")
    warnings = ElementTree.SubElement(suite, "system-err")
    lines = [f"no file match pattern {pattern}" for pattern in file.outcome.unmatched]
    warnings.text = _xml_text("\n".join(lines)) or None
    return suite


def _case(suite: ElementTree.Element, path: str, case: "CaseOutcome") -> None:
    element = _named(suite, path, case.name, case.seconds)
    if case.failures:
        _trouble(element, "failure", "\n\n".join(case.failures))


def _named(suite: ElementTree.Element, path: str, name: str, seconds: float) -> ElementTree.Element:
    attributes = {"name": name, "classname": path, "time": f"{seconds:.3f}"}
    shown = {key: _xml_text(value) for key, value in attributes.items()}
    return ElementTree.SubElement(suite, "testcase", shown)


def _trouble(case: ElementTree.Element, kind: str, text: str) -> None:
    first = text.strip().partition("\n")[0]
    attributes = {"message": _xml_text(first), "type": kind}
    ElementTree.SubElement(case, kind, attributes).text = _xml_text(text)


def _xml_text(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
