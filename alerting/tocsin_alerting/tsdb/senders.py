"""Who sends over remote write, and what each has brought."""

from collections import Counter
from typing import NamedTuple


class Sender(NamedTuple):
    """Who connects: its address, and the product that it says it is. On one machine several send
    from one address; but a product is easily made up, so an address as a whole has a share too."""

    address: str
    product: str

    def __str__(self) -> str:
        return f"{self.address} ({self.product})" if self.product else self.address


UNKNOWN = Sender("", "")


class SenderUsage:
    """How much of something that is limited each sender has; `total` is all of it."""

    def __init__(self) -> None:
        self.total = 0
        self._used: Counter[Sender | str] = Counter()

    def add(self, sender: Sender, count: int) -> None:
        self.total += count
        for user in (sender, sender.address):
            self._used[user] += count
            if not self._used[user]:
                del self._used[user]

    def used_by(self, who: Sender | str) -> int:
        """What a sender has, or all of an address together."""
        return self._used[who]

    def over_share(self, sender: Sender, used: int, most: int) -> bool:
        """Whether it has its share of `most`, of which `used` are in use: no more than is free, so
        that any number of senders leave room for another, and three quarters for an address."""
        return (
            self.used_by(sender) >= most - used or self.used_by(sender.address) >= most - most // 4
        )
