"""A month of days, nights, weekends and noise, computed here: what is usual at an hour of the week
pages nobody, and a fault in it does. promtool evaluates it."""

import math
import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from support.promtool import needs_promtool, run_tests

RULES = Path(__file__).parents[2] / "rules"
STEP = 150  # seconds
DAY = 86_400 // STEP
DAYS = 22  # three weeks and a day, of which the last week is looked at
E2E = "llm_e2e_request_latency_seconds"
ALERTS = ("InferenceThroughputDropped", "InferenceLatencyHigh")


def _demand(step: int, chance: random.Random) -> float:
    """Requests in work: people by day, fewer at the weekend, nearly none at night, and noise."""
    day, hour = divmod(step / DAY * 24, 24)
    people = max(0.0, math.sin(math.pi * (hour - 7) / 14)) if 7 < hour < 21 else 0.0
    weekend = 0.35 if int(day) % 7 in (5, 6) else 1.0
    noise = chance.gauss(1.0, 0.06)
    return max(0.0, (0.05 + 24 * people * weekend) * noise)


class Engine:
    """Counters of an engine whose speed falls a little with its load; `day` scales its demand."""

    def __init__(self, name: str, size: float = 1.0) -> None:
        self.name, self.size = name, size
        self.chance = random.Random(name)
        self.tokens, self.running, self.fast, self.all = [0.0], [0.0], [0.0], [0.0]

    def step(self, demand: float, speed: float = 1.0, slow: float = 0.0) -> None:
        """`speed` is the share of its usual tokens, `slow` that of requests that take long."""
        each = 45 / (1 + demand / 60) * self.chance.gauss(1.0, 0.03)
        done = round(demand * STEP / 8)
        self.tokens.append(self.tokens[-1] + demand * each * STEP * speed)
        self.running.append(demand)
        late = slow + (1 - slow) * min(1.0, max(0.0, self.chance.gauss(0.2, 0.05)))
        self.fast.append(self.fast[-1] + round(done * (1 - late)))
        self.all.append(self.all[-1] + done)

    def restart(self) -> None:
        """Five minutes of nothing; the counters begin again."""
        for values in (self.tokens, self.fast, self.all):
            values += [math.nan, math.nan, 0.0]
        self.running += [math.nan, math.nan, 0.0]

    def series(self) -> Iterator[dict[str, str]]:
        labels = f'target="{self.name}", model_name="m", engine="0"'
        for name, more, values in (
            ("llm_generation_tokens_total", "", self.tokens),
            ("llm_num_requests_running", "", self.running),
            (f"{E2E}_bucket", ', le="1.0"', self.fast),
            (f"{E2E}_bucket", ', le="2.5"', self.all),
            (f"{E2E}_bucket", ', le="+Inf"', self.all),
            (f"{E2E}_count", "", self.all),
        ):
            written = " ".join("_" if math.isnan(v) else f"{v:.6g}" for v in values)
            yield {"series": f"{name}{{{labels}{more}}}", "values": written}


def _month() -> Sequence[Engine]:
    usual, night, faulty = Engine("usual"), Engine("night"), Engine("faulty")
    for step in range(DAYS * DAY):
        day, hour = step // DAY, step % DAY * STEP / 3600
        demand = _demand(step, usual.chance)
        holiday = (
            0.4 if day == 16 else 1.5 if day == 18 else 1.0
        )  # and a day with half as many more
        usual.step(demand * holiday * (0.0 if day == 9 and 10 < hour < 15 else 1.0))
        if step == 17 * DAY + DAY // 2:
            usual.restart()
        night.step(_demand(step, night.chance) / 40)
        demand = _demand(step, faulty.chance)
        broken = day == 17 and 11 <= hour < 13
        faulty.step(demand * (1.3 if broken else 1.0), 0.3 if broken else 1.0, 0.9 * broken)
    return usual, night, faulty


def _rules() -> dict[str, Any]:
    """Those about what is usual, and the groups that they need."""
    files = [RULES / f"{name}.yml" for name in ("baseline", "inference")]
    documents = [yaml.safe_load(path.read_text("utf-8")) for path in files]
    groups = {group["name"]: group for document in documents for group in document["groups"]}
    wanted = [groups[f"inference-{name}"] for name in ("baseline", "throughput", "latency")]
    for group in wanted:
        group["rules"] = [
            rule for rule in group["rules"] if "record" in rule or rule["alert"] in ALERTS
        ]
    return {"groups": wanted}


@needs_promtool
def test_a_week_without_a_fault_is_quiet_and_one_with_a_fault_is_not(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(_rules()))
    fired = 'max by (alertname, severity, target) (max_over_time(ALERTS{alertstate="firing"}[8d]))'
    expected = [
        f'{{alertname="{name}", severity="{severity}", target="faulty"}}'
        for name, severities in zip(ALERTS, (("P0", "P1", "P2"), ("P3",)), strict=True)
        for severity in severities
    ]
    samples = [{"labels": labels, "value": 1} for labels in expected]
    file = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "20m",
        "group_eval_order": ["inference-baseline", "inference-throughput", "inference-latency"],
        "tests": [
            {
                "interval": f"{STEP}s",
                "input_series": [one for engine in _month() for one in engine.series()],
                "promql_expr_test": [
                    {"expr": fired, "eval_time": f"{DAYS - 1}d", "exp_samples": samples},
                    {
                        "expr": "count(target:llm_num_requests_running:hour_of_week_median)",
                        "eval_time": f"{DAYS - 1}d",
                        "exp_samples": [{"labels": "{}", "value": 3}],
                    },
                ],
            }
        ],
    }
    (tmp_path / "month.test.yml").write_text(yaml.safe_dump(file, width=10**9))
    passed, said = run_tests(tmp_path / "month.test.yml")
    assert passed, re.sub(r"(.{4000}).*", r"\1", said, flags=re.S)
