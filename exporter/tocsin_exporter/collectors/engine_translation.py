"""An engine's page, in its own words, into samples in ours: `llm_*` with `target`."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from tocsin_exporter.catalogue.table import Table
from tocsin_exporter.collectors import engine_text
from tocsin_exporter.collectors.engine_dialects import Dialect, Meaning
from tocsin_exporter.collectors.engine_text import EnginePageText
from tocsin_exporter.slices import NEW, SLICE, Work, parts
from tocsin_exporter.snapshot import Exemplar, Family, Labels, Sample, SeriesKey

# Values that one label may have on a page; what is more is `_other`, a bucket more is left out.
MOST_VALUES = {"model_name": 64, "engine": 256, "le": 512}
MOST_OTHER_VALUES = 64
OTHER = "_other"
_PARTS = ("_bucket", "_sum", "_count")
_COUNTS = ("_bucket", "_count")  # whose values have no unit
_ABOUT = ("llm_engine_", "llm_target_")  # what the collector says
_UNNAMED = ("", "undefined")  # TensorRT-LLM says the latter
_A_SLICE = 4_000  # samples


_Key = tuple[Family, str, Labels]  # family, suffix, labels


@dataclass(frozen=True, slots=True)
class _SeriesMapping:
    """Where one upstream series goes, worked out once.

    `key` lacks model_name where the series did, and `model` is "" then. Aliases are series that
    mean the same: they have one `claim`, and the one of the lowest `rank` on a page stands for all.
    `limited`: a label had too many values; `left_out`: it has no place for that.
    """

    key: _Key
    model: str
    factor: float
    largest: bool
    claim: int
    rank: int
    limited: bool
    left_out: bool = False
    constant: float | None = None
    observed: float = 1.0  # the factor of what a bucket has counted


class Translator:
    """Remembers what each series of one engine means; `families` are ours by name.

    `model` names the model for engines that do not say it on their series. `limited` counts the
    series of the last page that a label with too many values has cost their own place; `dropped`
    counts them by family, each when it is new.
    """

    def __init__(
        self,
        dialect: Dialect,
        target: str,
        families: Table,
        model: str = "",
        dropped: Counter[str] | None = None,
    ) -> None:
        self.dialect = dialect
        self.model = model
        self.limited = 0
        self.exemplars: dict[SeriesKey, Exemplar] = {}  # of the last page
        self._dropped = Counter[str]() if dropped is None else dropped
        self._target = target
        self._families = families
        self._ranks = {name: rank for rank, name in enumerate(dialect.words)}
        self._places: dict[str, tuple[_SeriesMapping, ...]] = {}
        self._claims: dict[tuple[str, Labels], int] = {}
        self._values: dict[str, set[str]] = {}

    def samples(self, page: EnginePageText, now_ms: int = 0) -> Work[list[Sample]]:
        """Our samples, in the order in which the page first named them.

        Upstream series that differ only in labels we do not keep become one: summed, or the largest
        for ratios. Of several names of one thing one is taken. A series that names no model is
        about the only one; where there are several it is the engine's, and has no model_name.
        `now_ms` is the time of exemplars that have none.
        """
        mapped = yield from self._mapped(page)
        best: dict[int, int] = {}
        models: set[str] = set()
        for part in parts(mapped, _A_SLICE):
            for place, _ in part:
                best[place.claim] = min(place.rank, best.get(place.claim, place.rank))
                models.add(place.model)
            yield
        only = self._only_model(models)
        merged = yield from self._merged(mapped, best, only)
        self.exemplars = dict(self._exemplars(page, best, only, now_ms))
        self.limited = page.left_out + sum(place.limited for place, _ in mapped)
        self._forget_old(page)
        samples: list[Sample] = []
        for rows in parts(list(merged.items()), _A_SLICE):
            samples += (Sample(f, value, labels, suffix) for (f, suffix, labels), value in rows)
            yield
        return samples

    def _exemplars(
        self, page: EnginePageText, best: Mapping[int, int], only: str, now_ms: int
    ) -> Iterator[tuple[SeriesKey, Exemplar]]:
        """Of buckets alone: an exemplar is an example of what was observed."""
        for text, raw in page.exemplars.items():
            for place in self._places.get(text, ()):
                family, suffix, _ = place.key
                shown = suffix == "_bucket" and place.rank == best.get(place.claim)
                example = engine_text.exemplar(raw, now_ms) if shown else None
                if example is not None and not place.left_out:
                    key = place.key if place.model or not only else _with_model(place.key, only)
                    value = example.value * place.observed
                    yield (family.name + suffix, key[2]), replace(example, value=value)

    def _merged(
        self, mapped: list[tuple[_SeriesMapping, float]], best: Mapping[int, int], only: str
    ) -> Work[dict[_Key, float]]:
        merged: dict[_Key, float] = {}
        for part in parts(mapped, _A_SLICE):
            for place, value in part:
                if place.rank == best[place.claim] and not place.left_out:
                    key = place.key if place.model or not only else _with_model(place.key, only)
                    _merge(merged, place, key, value)
            yield
        return merged

    def _mapped(self, page: EnginePageText) -> Work[list[tuple[_SeriesMapping, float]]]:
        """Each series once: some engines repeat one, and Prometheus takes the first."""
        seen: set[str] = set()
        mapped: list[tuple[_SeriesMapping, float]] = []
        cost = 0
        for text, value in zip(page.texts, page.values, strict=True):
            if text in seen:
                continue
            seen.add(text)
            places = self._places.get(text)
            if places is None:
                places = self._places[text] = tuple(self._read(text))
                cost += NEW + len(text)
            for place in places:
                mapped.append((place, value))
            cost += 2
            if cost > SLICE:
                cost = 0
                yield
        return mapped

    def _only_model(self, named: set[str]) -> str:
        """The model of what names none; "" where there are several."""
        models = named - {""}
        return "" if len(models) > 1 else next(iter(models), self.model or "unknown")

    def _forget_old(self, page: EnginePageText) -> None:
        """An engine that renames its series for ever must not fill our memory."""
        if len(self._places) > 2 * len(page.texts) + 1000:
            self._places.clear()
            self._claims.clear()
            self._values.clear()

    def _read(self, text: str) -> Iterator[_SeriesMapping]:
        parsed = engine_text.series(text)
        if parsed is None:
            return
        name, labels = self.dialect.canonical(parsed[0]), parsed[1]
        spelled = int(name != parsed[0])
        for meaning, suffix, word in self._meanings(name, labels):
            family = self._families.get(meaning.family)
            if family is not None:
                yield from self._placed(family, suffix, labels, meaning, word, spelled)
        yield from self._numbers_in_labels(name, labels)

    def _placed(
        self,
        family: Family,
        suffix: str,
        labels: Mapping[str, str],
        meaning: Meaning,
        word: str,
        spelled: int,
    ) -> Iterator[_SeriesMapping]:
        """`word` is the engine's name of the family, "" when no other name means the same."""
        renamed, limited = self._labels(family, labels, meaning, suffix)
        whole = tuple(pair for pair in renamed if pair[0] != "le")
        alias = family.name if word in self._ranks else f"{family.name} {word}"
        rank = 2 * self._ranks.get(word, 0) + spelled
        largest = meaning.together == "max"
        out = ("le", OTHER) in renamed
        key, claim, model = (family, suffix, renamed), self._claim(alias, whole), _model(renamed)
        factor = 1.0 if suffix in _COUNTS else meaning.factor
        if limited:
            self._dropped[family.name] += 1
        yield _SeriesMapping(
            key, model, factor, largest, claim, rank, limited, out, observed=meaning.factor
        )

    def _claim(self, alias: str, labels: Labels) -> int:
        """A number for each: numbers are compared faster, round after round."""
        return self._claims.setdefault((alias, labels), len(self._claims))

    def _meanings(self, name: str, labels: Mapping[str, str]) -> Iterator[tuple[Meaning, str, str]]:
        """What a series means, which part of a histogram it is, and of which word."""
        if self.dialect.name == "tocsin":
            base, suffix = self._split(name)
            if not base.startswith(_ABOUT):
                yield Meaning(base), suffix, base
            return
        if name in self.dialect.words:
            yield self.dialect.words[name], "", name
        if name in self.dialect.by_label:
            yield from ((meaning, "", name) for meaning in self.dialect.by_label[name](labels))
        for part in _PARTS:
            base = name.removesuffix(part)
            if base != name and base in self.dialect.words:
                yield self.dialect.words[base], part, base

    def _split(self, name: str) -> tuple[str, str]:
        for part in _PARTS:
            base = name.removesuffix(part)
            if base != name and base in self._families:
                return base, part
        return name, ""

    def _numbers_in_labels(self, name: str, labels: Mapping[str, str]) -> Iterator[_SeriesMapping]:
        for label, ours in self.dialect.from_labels.get(name, {}).items():
            family = self._families.get(ours)
            number = _number(labels.get(label, ""))
            if family is not None and number is not None:
                renamed, limited = self._labels(family, labels, Meaning(ours), "")
                claim = self._claim(f"{family.name} {name}", renamed)
                key = (family, "", renamed)
                yield _SeriesMapping(
                    key, _model(renamed), 1.0, True, claim, 0, limited, constant=number
                )

    def _labels(
        self, family: Family, labels: Mapping[str, str], meaning: Meaning, suffix: str
    ) -> tuple[Labels, bool]:
        """Its labels here, and whether one of them had too many values.

        The engine's own further labels are kept only where it is ours and the table has them.
        """
        known = self._families.labels[family.name] if self.dialect.name == "tocsin" else ()
        mapped = {k: v for k, v in labels.items() if k in known and v}
        mapped |= {name: value for name, value in meaning.labels if value}
        if suffix == "_bucket":
            mapped["le"] = _bound(labels.get("le", "+Inf"), meaning.factor)
        model = labels.get("model_name") or labels.get("model")  # Triton's
        mapped.pop("model_name", None)
        if model and model not in _UNNAMED:
            mapped["model_name"] = model
        mapped["engine"] = _engine(labels)
        shown = {name: self._bounded(name, value) for name, value in mapped.items()}
        limited = shown != mapped
        return tuple(sorted({**shown, "target": self._target}.items())), limited

    def _bounded(self, name: str, value: str) -> str:
        values = self._values.setdefault(name, set())
        if value in values:
            return value
        most = MOST_VALUES.get(name, MOST_OTHER_VALUES)
        if len(values) >= most or len(value) > engine_text.LONGEST_NAME:
            return OTHER
        values.add(value)
        return value


def _model(labels: Labels) -> str:
    return next((value for name, value in labels if name == "model_name"), "")


def _with_model(key: _Key, model: str) -> _Key:
    family, suffix, labels = key
    return family, suffix, tuple(sorted((*labels, ("model_name", model))))


def _merge(merged: dict[_Key, float], place: _SeriesMapping, key: _Key, value: float) -> None:
    value = value * place.factor if place.constant is None else place.constant
    if key not in merged:
        merged[key] = value
    elif place.largest:
        merged[key] = max(merged[key], value)
    else:
        merged[key] += value


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _engine(labels: Mapping[str, str]) -> str:
    """Which data-parallel rank; a replica of Ray Serve is an engine of its own."""
    rank = labels.get("engine") or labels.get("dp_rank") or "0"
    replica = labels.get("ReplicaId", "")
    return rank if not replica else replica if rank == "0" else f"{replica}/{rank}"


def _bound(le: str, factor: float = 1.0) -> str:
    """`1` and `1.0` are one bucket; Prometheus 3 writes the latter. In the unit of ours."""
    number = _number(le)
    if number is None or number == float("inf"):
        return "+Inf"
    return repr(number if factor == 1.0 else float(f"{number * factor:.12g}"))
