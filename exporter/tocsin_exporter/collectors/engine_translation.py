"""An engine's page, in its own words, into samples in ours: `llm_*` with `target`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tocsin_exporter.catalogue.table import Table
from tocsin_exporter.collectors import engine_text
from tocsin_exporter.collectors.engine_dialects import Dialect, Meaning
from tocsin_exporter.snapshot import Family, Labels, Sample

MOST_MODELS = 64
OTHER = "_other"
_PARTS = ("_bucket", "_sum", "_count")
_ABOUT = "llm_engine_"  # said by the collector, which knows whether the engine answers


@dataclass(frozen=True, slots=True)
class _Place:
    """Where one upstream series goes, worked out once."""

    family: Family
    suffix: str
    labels: Labels
    factor: float
    largest: bool
    constant: float | None = None


class Translator:
    """Remembers what each series of one engine means; `families` are ours by name.

    `model` names the model for engines that do not say it on their series.
    """

    def __init__(self, dialect: Dialect, target: str, families: Table, model: str = "") -> None:
        self.dialect = dialect
        self.model = model
        self._target = target
        self._families = families
        self._places: dict[str, tuple[_Place, ...]] = {}
        self._models: set[str] = set()

    def samples(self, page: str) -> list[Sample]:
        """Our samples, in the order in which the page first named them.

        Upstream series that differ only in labels we do not keep become one: summed, or the largest
        for ratios.
        """
        merged: dict[_Key, float] = {}
        for text, value in engine_text.lines(page):
            places = self._places.get(text)
            if places is None:
                places = self._places[text] = tuple(self._read(text))
            for place in places:
                _merge(merged, place, value)
        self._forget_old(page)
        return [Sample(f, value, labels, suffix) for (f, suffix, labels), value in merged.items()]

    def _forget_old(self, page: str) -> None:
        """An engine that renames its series for ever must not fill our memory."""
        if len(self._places) > 2 * page.count("\n") + 1000:
            self._places.clear()

    def _read(self, text: str) -> Iterator[_Place]:
        parsed = engine_text.series(text)
        if parsed is None:
            return
        name, labels = self.dialect.canonical(parsed[0]), parsed[1]
        for meaning, suffix in self._meanings(name, labels):
            family = self._families.get(meaning.family)
            if family is not None:
                kept = self._labels(family, labels, meaning.labels, suffix)
                yield _Place(family, suffix, kept, meaning.factor, meaning.together == "max")
        yield from self._numbers_in_labels(name, labels)

    def _meanings(self, name: str, labels: Mapping[str, str]) -> Iterator[tuple[Meaning, str]]:
        if self.dialect.name == "tocsin":
            base, suffix = self._split(name)
            if not base.startswith(_ABOUT):
                yield Meaning(base), suffix
            return
        if name in self.dialect.words:
            yield self.dialect.words[name], ""
        if name in self.dialect.by_label:
            meaning = self.dialect.by_label[name](labels)
            if meaning is not None:
                yield meaning, ""
        for part in _PARTS:
            base = name.removesuffix(part)
            if base != name and base in self.dialect.words:
                yield self.dialect.words[base], part

    def _split(self, name: str) -> tuple[str, str]:
        for part in _PARTS:
            base = name.removesuffix(part)
            if base != name and base in self._families:
                return base, part
        return name, ""

    def _numbers_in_labels(self, name: str, labels: Mapping[str, str]) -> Iterator[_Place]:
        for label, ours in self.dialect.from_labels.get(name, {}).items():
            family = self._families.get(ours)
            number = _number(labels.get(label, ""))
            if family is not None and number is not None:
                kept = self._labels(family, labels, (), "")
                yield _Place(family, "", kept, 1.0, True, constant=number)

    def _labels(
        self, family: Family, labels: Mapping[str, str], added: Labels, suffix: str
    ) -> Labels:
        """The engine's own further labels are kept only where it is ours and the table has them."""
        known = self._families.labels[family.name] if self.dialect.name == "tocsin" else ()
        kept = {k: v for k, v in labels.items() if k in known and v}
        if suffix == "_bucket":
            kept["le"] = _bound(labels.get("le", "+Inf"))
        model = labels.get("model_name") or labels.get("model")  # Triton's
        kept["model_name"] = self._model(model or self.model)
        kept["engine"] = labels.get("engine") or labels.get("dp_rank") or "0"
        kept["target"] = self._target
        return tuple(sorted({**kept, **dict(added)}.items()))

    def _model(self, name: str) -> str:
        if name not in self._models and len(self._models) >= MOST_MODELS:
            return OTHER
        self._models.add(name)
        return name or "unknown"


_Key = tuple[Family, str, Labels]


def _merge(merged: dict[_Key, float], place: _Place, value: float) -> None:
    key = (place.family, place.suffix, place.labels)
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


def _bound(le: str) -> str:
    """`1` and `1.0` are one bucket; Prometheus 3 writes the latter."""
    number = _number(le)
    if number is None or number == float("inf"):
        return "+Inf"
    return repr(number)
