"""Fuzzers for some minutes against a live agent and a live worker: `scripts/test --hostile`.

Run as a program: `fuzz.py [MINUTES [SEED]]`. The same seed says the same; what breaks something is
kept below tests/hostile/cases, and the exit code is 1.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from support.fuzzing import (
    FUZZERS,
    Tally,
    WorkerNeighbourhood,
    faults,
    fuzz,
    fuzz_worker,
    generated,
)
from support.neighbourhood import GROWTH_MIB, Neighbourhood

PLACES = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
SCHEMATHESIS = shutil.which("schemathesis", path=PLACES)  # of the extra `hostile`
CHECKS = "not_a_server_error"


def schemathesis(program: str, folder: Path, seconds: float, number: int) -> Tally:
    """Its own run over the worker's OpenAPI document, until its time is over; what it writes is in
    `folder`."""
    worker = WorkerNeighbourhood(folder)
    url = f"http://127.0.0.1:{worker.port}/openapi.json"
    options = ["--checks", CHECKS, "--seed", str(number), "--max-examples", "10000", "--no-color"]
    options += ["--max-time", str(round(seconds)), "--request-timeout", "60"]
    command = [program, "run", url, *options]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        worker.healthy_within(20)
        said = done.stdout + done.stderr
        print("\n".join(said.splitlines()[-30:]))
        kept = [said[-5000:]] if done.returncode else []
        return Tally(examples=generated(said), kept=kept)
    finally:
        worker.close()


def tallies(folder: Path, minutes: float, number: int) -> Iterator[tuple[str, Tally]]:
    share = minutes * 60 / (len(FUZZERS) + (2 if SCHEMATHESIS else 1))
    (folder / "agent").mkdir()
    with Neighbourhood(folder / "agent") as place:
        for kind in FUZZERS:
            yield kind, fuzz(place, kind, share, number, GROWTH_MIB)
    for name in ("worker", "schemathesis"):
        (folder / name).mkdir()
    yield "worker", fuzz_worker(folder / "worker", share, number, GROWTH_MIB)
    if SCHEMATHESIS:
        ended = schemathesis(SCHEMATHESIS, folder / "schemathesis", share, number)
        yield "schemathesis", ended


def main(minutes: float, number: int) -> int:
    folder = Path(tempfile.mkdtemp(prefix="hostile-"))
    kept: list[str] = []
    print(f"{minutes:g} minutes, seed {number}; logs are in {folder}", flush=True)
    for kind, tally in tallies(folder, minutes, number):
        print(
            f"{kind}: {tally.examples} examples, an answer within {tally.answer_seconds:.2f} s,"
            f" a page within {tally.page_seconds:.2f} s, {tally.grown_mib:.0f} MiB grown,"
            f" {len(tally.kept)} kept",
            flush=True,
        )
        kept += faults(kind, tally)
    if not kept:
        shutil.rmtree(folder)
    print("\n".join(kept) or "nothing broke")
    return 1 if kept else 0


if __name__ == "__main__":
    given = [float(word) for word in sys.argv[1:]] + [4.0, time.time()][len(sys.argv) - 1 :]
    sys.exit(main(given[0], int(given[1])))
