"""`collectors`: node_exporter's flags of what is read of the machine, without `--collector.`."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

from tocsin_alerting.settings import several
from tocsin_alerting.yaml_document import did_you_mean
from tocsin_exporter.collector_settings import (
    AREAS,
    ENABLED,
    IPVS_LABELS,
    LISTS,
    PATTERNS,
    SWITCHES,
    CollectorSettings,
    InvalidSetting,
)

_NONE_BUT, _DIRECTORY, _LABELS = "disable-defaults", "textfile.directory", "ipvs.backend-labels"
_ON_OR_OFF = frozenset((*AREAS, *ENABLED, *SWITCHES, _NONE_BUT))
_TEXTS = frozenset((*PATTERNS, _DIRECTORY, _LABELS))
_KNOWN = frozenset((*_ON_OR_OFF, *_TEXTS, *LISTS))

Setting = bool | str | tuple[str, ...]


def _known(name: str) -> str:
    if name in _KNOWN:
        return name
    plain = name.removeprefix("--").removeprefix("collector.")
    if plain in _KNOWN:
        raise ValueError(f'write "{plain}", without {name.removesuffix(plain)}')
    hint = did_you_mean(name, _KNOWN) or "; docs/exporter.md has all of them"
    raise ValueError(f'no collector or setting of one is called "{name[:80]}"{hint}')


def _setting(value: object) -> object:
    value = several(value)
    texts = value if isinstance(value, tuple) else (value,)
    if isinstance(value, bool) or (texts and all(isinstance(text, str) for text in texts)):
        return value
    raise ValueError("must be true or false, a text, or a list of texts")


def _checked(given: Mapping[str, Setting]) -> Mapping[str, Setting]:
    for name, value in given.items():
        if name in _ON_OR_OFF and not isinstance(value, bool):
            raise ValueError(f"{name}: must be true or false")
        if name in _TEXTS and not isinstance(value, str):
            raise ValueError(f"{name}: must be a text")
        if name in LISTS and not isinstance(value, tuple):
            raise ValueError(f"{name}: must be a list of texts")
    collector_settings(given)
    return given


CollectorName = Annotated[str, AfterValidator(_known)]
CollectorValue = Annotated[Setting, BeforeValidator(_setting)]
Collectors = Annotated[dict[CollectorName, CollectorValue], AfterValidator(_checked)]


def collector_settings(given: Mapping[str, Setting]) -> CollectorSettings:
    """What a checked section means. Raises ValueError for a pattern that is none, or two of which
    one rules the other out."""
    labels = str(given.get(_LABELS, ",".join(IPVS_LABELS)))
    try:
        return CollectorSettings(
            patterns={name: str(given[name]) for name in PATTERNS if name in given},
            switches=frozenset(name for name in SWITCHES if given.get(name)),
            lists={name: _texts(given[name]) for name in LISTS if name in given},
            ipvs_labels=tuple(labels.split(",")),
            textfile_directory=str(given.get(_DIRECTORY, "")),
            collectors={name: bool(given[name]) for name in ENABLED if name in given},
            areas_off=frozenset(area for area in AREAS if given.get(area) is False),
            disable_defaults=bool(given.get(_NONE_BUT, False)),
        )
    except InvalidSetting as error:
        raise ValueError(str(error).replace("--collector.", "")) from None


def _texts(value: Setting) -> tuple[str, ...]:
    return value if isinstance(value, tuple) else ()
