"""The section `probes`: what is probed, with which modules, how often."""

from collections.abc import Collection, Mapping
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from tocsin_alerting.config.watching import label_value
from tocsin_alerting.settings import FilePath, Interval, Section, several

MOST_TARGETS = 1000
_LONGEST = 2048


def _target(text: str) -> str:
    if not text or text != text.strip() or len(text) > _LONGEST or not text.isprintable():
        raise ValueError("not a target like https://example.com, 10.0.0.1:22 or 10.0.0.1")
    if "@" in urlsplit(text if "://" in text else f"//{text}").netloc:
        raise ValueError(
            "a target is a label, which everybody reads: write user and password into a module"
        )
    return text


Target = Annotated[str, AfterValidator(_target)]


class ProbeTargetsSection(Section):
    """Targets that one module probes; without an interval that of all."""

    module: str = "http_2xx"
    targets: Annotated[tuple[Target, ...], BeforeValidator(several), Field(min_length=1)]
    job: Annotated[str, AfterValidator(label_value)] | None = None
    interval: Interval | None = None


class ProbesSection(Section):
    """`config_file` is a file of blackbox_exporter's `modules`; without one there are ours."""

    config_file: FilePath | None = None
    job: Annotated[str, AfterValidator(label_value), Field(min_length=1)] = "blackbox"
    interval: Interval = 15_000
    targets: Annotated[tuple[ProbeTargetsSection, ...], BeforeValidator(several)] = ()

    @model_validator(mode="after")
    def _one_series_each(self) -> "ProbesSection":
        seen = set[tuple[str, str]]()
        for section in self.targets:
            for target in section.targets:
                source = (section.job or self.job, target)
                if source in seen:
                    raise ValueError(
                        f'"{target}" is probed twice under the job {source[0]}; give one of them'
                        " another job"
                    )
                seen.add(source)
        if len(seen) > MOST_TARGETS:
            raise ValueError(f"{len(seen)} targets; at most {MOST_TARGETS}")
        return self


def unknown_modules(section: ProbesSection, known: Collection[str]) -> Mapping[int, str]:
    """By the place in `targets`, the module that is not there."""
    return {
        number: one.module for number, one in enumerate(section.targets) if one.module not in known
    }
