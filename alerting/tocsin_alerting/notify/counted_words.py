"""What a message about many incidents says of them, in the reader's words: how many there are, by
severity and by label."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tocsin_alerting.incidents.notification import Notification

_MOST_NUMBERS = 20


def storm_context(
    n: Notification, label: Mapping[str, str], text: Callable[[str], str]
) -> dict[str, Any]:
    """What stands in the place of the alert of a storm, which says nothing by itself; `text` makes
    what others wrote fit for a line."""
    counts = n.counts
    comma = label["comma"]
    severities = comma.join(f"{name} {count}" for name, count in counts["severities"])
    what = label["storm"] % (counts["incidents"], severities)
    rows = [(label["storm_firing"], label["of"] % (counts["firing"], counts["incidents"]))]
    rows += [(text(one["name"]), _values(one, label, text)) for one in counts["labels"]]
    rows.append((label["storm_numbers"], _numbers(n.incidents, comma)))
    return {"what": what, "short": what, "alerts": [], "more": 0, "others_firing": 0, "rows": rows}


_TAG_BY_REASON = {
    "fired_and_resolved": "resolved",
    "resolved": "resolved",
    "given_up": "given_up",
    "unwatched": "unwatched",
    "unknown": "unknown",
    "acked": "acked",
}


def digest_context(
    n: Notification,
    label: Mapping[str, str],
    tags: Mapping[str, str],
    text: Callable[[str], str],
    clock: Callable[[int], str],
) -> dict[str, Any]:
    """A line for each incident: `[P3] Slow fires (#12), since 10:02`, `[P3 resolved] ..., from
    10:02 to 10:05`."""
    items = []
    for one in n.counts["digest"]:
        tag = tags[_TAG_BY_REASON.get(one["reason"], "firing")]
        since = label["digest_since"] % clock(one["since_ms"])
        if one["reason"] in ("resolved", "fired_and_resolved", "given_up", "unwatched"):
            since = label["digest_span"] % (clock(one["since_ms"]), clock(one["at_ms"]))
        items.append(f"[{one['severity']}{tag}] {text(one['text'])} (#{one['incident']}){since}")
    firing, over = n.counts["items"] - n.counts["over"], n.counts["over"]
    what = label["digest"] % (firing, over)
    more = n.counts["items"] - len(items)
    # nothing of the first one, whose message it was
    of_one = dict.fromkeys(
        ("machine", "model", "engine", "gpu", "value", "limit", "since", "chart"), ""
    )
    shown = {**of_one, "what": what, "short": what, "alerts": [], "others_firing": 0, "times": 0}
    return {**shown, "numbers_then": [], "items": items, "more": more, "rows": []}


def _values(one: Mapping[str, Any], label: Mapping[str, str], text: Callable[[str], str]) -> str:
    values = label["comma"].join(f"{text(value)} ({count})" for value, count in one["values"])
    return values + (label["others"] % one["others"] if one["others"] else "")


def _numbers(numbers: Sequence[int], comma: str) -> str:
    more = f"{comma}…" if len(numbers) > _MOST_NUMBERS else ""
    return comma.join(f"#{number}" for number in numbers[:_MOST_NUMBERS]) + more
