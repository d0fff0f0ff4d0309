"""What follows from an engine's `llm_*` and is said by few engines themselves.

Only sums and products of what the page has: where one of them is absent, so is what follows.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from tocsin_exporter.catalogue.table import Table
from tocsin_exporter.snapshot import Labels, Sample

_ABOUT = ("model_name", "engine", "target")
_TOKENS = {"llm_prompt_tokens_total": "input", "llm_generation_tokens_total": "output"}
_WANTED = frozenset(
    (
        *_TOKENS,
        "llm_tokens_total",
        "llm_prefix_cache_hits_total",
        "llm_prefix_cache_queries_total",
        "llm_kv_cache_blocks",
        "llm_kv_cache_block_size_tokens",
        "llm_kv_cache_capacity_tokens",
        "llm_kv_cache_usage_ratio",
        "llm_kv_cache_used_bytes",
        "llm_memory_bytes",
        "llm_memory_source_info",
    )
)
_Rows = Mapping[str, Mapping[Labels, float]]


def derived(samples: Sequence[Sample], families: Table, memory_source: str) -> Iterator[Sample]:
    """Samples to add to those of one engine. `memory_source` is who says its `llm_memory_bytes`:
    sdk, log or upstream."""
    rows = _rows(samples)
    cached = _of_type(rows, "cached")
    for name, kind in _TOKENS.items():
        for about, value in rows[name].items():
            if about not in _of_type(rows, kind):
                yield Sample(families["llm_tokens_total"], value, _with(about, type=kind))
    for about, value in cached.items():
        yield from _looked_up(rows, families, about, value)
    for about, blocks in rows["llm_kv_cache_blocks"].items():
        size = rows["llm_kv_cache_block_size_tokens"].get(about)
        if size is not None and about not in rows["llm_kv_cache_capacity_tokens"]:
            yield Sample(families["llm_kv_cache_capacity_tokens"], blocks * size, about)
    yield from _memory(rows, families, memory_source)


def _looked_up(rows: _Rows, families: Table, about: Labels, cached: float) -> Iterator[Sample]:
    """An engine that counts cached tokens and no look-ups looks each prompt token up once."""
    hits, queries = "llm_prefix_cache_hits_total", "llm_prefix_cache_queries_total"
    prompt = rows["llm_prompt_tokens_total"].get(about)
    if about not in rows[hits] and about not in rows[queries] and prompt is not None:
        yield Sample(families[hits], cached, about)
        yield Sample(families[queries], prompt, about)


def _memory(rows: _Rows, families: Table, source: str) -> Iterator[Sample]:
    kv: defaultdict[Labels, float] = defaultdict(float)
    models: dict[Labels, None] = {}
    for labels, value in rows["llm_memory_bytes"].items():
        models[_about(labels)] = None
        if ("component", "kv_cache") in labels:
            kv[_about(labels)] += value
    for about, size in kv.items():
        usage = rows["llm_kv_cache_usage_ratio"].get(about)
        if usage is not None and about not in rows["llm_kv_cache_used_bytes"]:
            yield Sample(families["llm_kv_cache_used_bytes"], size * usage, about)
    if not rows["llm_memory_source_info"]:
        info = families["llm_memory_source_info"]
        yield from (Sample(info, 1.0, _with(about, source=source)) for about in models)


def _rows(samples: Sequence[Sample]) -> _Rows:
    rows: defaultdict[str, dict[Labels, float]] = defaultdict(dict)
    for family, value, labels, _ in samples:
        if family.name in _WANTED:
            rows[family.name][labels] = value
    return rows


def _of_type(rows: _Rows, kind: str) -> Mapping[Labels, float]:
    tokens = rows["llm_tokens_total"].items()
    return {_about(labels): value for labels, value in tokens if ("type", kind) in labels}


def _about(labels: Labels) -> Labels:
    return tuple(pair for pair in labels if pair[0] in _ABOUT)


def _with(labels: Labels, **more: str) -> Labels:
    return tuple(sorted((*labels, *more.items())))
