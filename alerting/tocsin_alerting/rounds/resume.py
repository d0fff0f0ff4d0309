"""What the agent counts by itself goes on after a restart: its last samples are in the store."""

import logging
from collections.abc import Collection, Iterable, Iterator

from tocsin_alerting.promql.engine import Engine
from tocsin_alerting.promql.quoting import quote
from tocsin_alerting.promql.result import InstantVector
from tocsin_alerting.store.store import Store
from tocsin_exporter.snapshot import Last, Remembering, Source

log = logging.getLogger(__name__)

LOOK_BACK = "1h"  # before a source's end: a GPU that hung until then has no newer samples


def resume(store: Store, engine: Engine, collectors: Iterable[tuple[Source, object]]) -> None:
    """A collector that cannot go on begins anew: the pager starts, whatever lies in the store."""
    for source, one in collectors:
        at_ms = store.newest_ms(source)
        if at_ms is None or not isinstance(one, Remembering):
            continue
        try:
            one.resume(_last(engine, source, one.remembered, at_ms), at_ms / 1000)
        except Exception:  # why: see above
            log.exception("counters begin anew", extra={"collector": one.name})


def warn_of_lost_journal(last_eval_ms: int | None, history_ms: int | None) -> None:
    """A journal that is new beside a store that is not: it was lost, or moved away."""
    if last_eval_ms is None and history_ms is not None:
        log.warning(
            "the journal is new, though samples of an earlier run are here: incidents of before"
            " are not known, and what still fires is told again"
        )


def _last(engine: Engine, source: Source, names: Collection[str], at_ms: int) -> Iterator[Last]:
    """The last sample of each series of these names."""
    wanted = (
        f"__name__=~{quote('|'.join(sorted(names)))}",
        f"job={quote(source.job)}",
        f"instance={quote(source.instance)}",
    )
    query = f"last_over_time({{{', '.join(wanted)}}}[{LOOK_BACK}])"
    found = engine.evaluate(query, at_ms).value
    assert isinstance(found, InstantVector)
    for labels, value in found:
        named = dict(labels)
        yield Last(named.pop("__name__"), named, float(value))
