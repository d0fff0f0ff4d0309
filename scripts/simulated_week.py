"""scripts/simulated_week.py: the bundled rules over a simulated week, without and with faults.

Of each pack: how often a rule fired without a fault, pages by severity and the noise; and of each
fault whether the rule that should tell of it did, and after how long.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from measuring.table import table

from support.simulated_week import SimulatedBox, drifts, faults
from support.week_replay import BASELINE_DAYS, PACKS, SLOWER, fired_after, known_to
from tocsin_alerting.backtest.run import BacktestResult
from tocsin_alerting.cli.test import quiet_logs


def quiet(name: str, result: BacktestResult) -> list[str]:
    pages = Counter(page.severity for page in result.log.pages)
    fired = sum(report.fired for report in result.reports)
    noise = max((report.noise or 0.0 for report in result.reports), default=0.0)
    told = [
        f"{name}: {report.rule} fired {report.fired}, noise {report.noise or 0:.2f}"
        for report in result.reports
        if report.fired
    ]
    print("\n".join(told))
    return [name, str(fired), *(str(pages[f"P{n}"]) for n in range(4)), f"{noise:.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/simulated_week", description=__doc__)
    parser.add_argument("--days", type=int, default=7)
    parser.add_argument("--every", type=int, default=60, help="seconds between scrapes")
    parser.add_argument("--pack", choices=PACKS, action="append")
    parser.add_argument("--seed", type=int, default=4911)
    parser.add_argument(
        "--slower",
        action="store_true",
        help=f"{BASELINE_DAYS} days, on the last two of which an engine becomes slower: by the"
        " baseline, and with targets set",
    )
    options = parser.parse_args()
    quiet_logs()
    packs, wrong = PACKS, faults(options.days)
    if options.slower:
        options.days, packs = BASELINE_DAYS, SLOWER
        wrong = drifts(options.days)
    still = SimulatedBox(options.days, options.every, (), options.seed)
    broken = SimulatedBox(options.days, options.every, wrong, options.seed)
    rows: list[list[str]] = []
    found: list[list[str]] = []
    for name in packs if options.slower else options.pack or packs:
        pack = packs[name]
        rows.append(quiet(name, pack.replay(still, (), options.every)))
        result = pack.replay(broken, wrong, options.every)
        for fault in wrong:
            if known_to(result, fault):
                after = fired_after(result, fault)
                told = "never" if after is None else f"{after / 60:.0f} min"
                found.append([name, fault.what, fault.alertname, told])
        for report in result.reports:
            if report.false_alarms:
                print(f"{name}, with faults: {report.rule} was false {report.false_alarms} times")
    print(table(("without a fault", "fired", "P0", "P1", "P2", "P3", "noise"), rows))
    print(table(("with faults", "what", "alert", "after"), found))


if __name__ == "__main__":
    main()
