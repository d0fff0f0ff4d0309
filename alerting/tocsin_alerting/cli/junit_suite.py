"""What a file of tests came to, which a report can be made of; without the XML of the report."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tocsin_alerting.incident_test.file_run import FileOutcome


@dataclass(frozen=True, slots=True)
class JUnitSuite:
    """A file, what came of it, and when its tests began, in Unix seconds."""

    path: str
    outcome: "FileOutcome"
    began_s: float
