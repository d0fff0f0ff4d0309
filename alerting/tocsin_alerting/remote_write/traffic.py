"""What came in over remote write since the start, in numbers."""

from collections import Counter
from dataclasses import dataclass, field

from tocsin_alerting.remote_write.receipt import Receipt


@dataclass(slots=True)
class Traffic:
    """`requests` by HTTP status, `samples` that were taken, `refused` ones by reason."""

    requests: Counter[int] = field(default_factory=Counter)
    samples: int = 0
    refused: Counter[str] = field(default_factory=Counter)

    def add(self, receipt: Receipt) -> None:
        self.samples += receipt.taken
        if receipt.refused:
            self.refused.update(receipt.refused)
