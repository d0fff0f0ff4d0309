"""`promqltest [--semantics 2] FILE...`: prints each failing evaluation, then how many passed,
failed and were skipped."""

import argparse
import sys
from pathlib import Path

from support.promqltest.run import Bench, Outcome
from support.promqltest.script import parse_script


def main() -> int:
    parser = argparse.ArgumentParser(prog="promqltest", description=__doc__)
    parser.add_argument("--semantics", type=int, choices=(2, 3), default=3)
    parser.add_argument("files", nargs="+", metavar="FILE")
    asked = parser.parse_args()
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for file in asked.files:
        try:
            for outcome in Bench(asked.semantics).run(parse_script(Path(file).read_text())):
                kind = "skipped" if outcome.skipped else "failed" if outcome.faults else "passed"
                counts[kind] += 1
                if kind == "failed":
                    _print(file, outcome)
        except (OSError, ValueError) as error:  # the rest of this script cannot be run
            counts["failed"] += 1
            print(f"{file}:{error}")
    print(", ".join(f"{count} {kind}" for kind, count in counts.items()))
    return 1 if counts["failed"] else 0


def _print(file: str, outcome: Outcome) -> None:
    print(f"{file}:{outcome.command.line}: {outcome.command.query}")
    for fault in outcome.faults:
        print(f"    {fault}")


sys.exit(main())
