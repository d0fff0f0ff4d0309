"""Whose PromQL queries and rules are written in."""

from typing import Annotated

from pydantic import BeforeValidator

from tocsin_alerting.promql.parser.signatures import Semantics
from tocsin_alerting.settings import Section


def _semantics(value: object) -> object:
    if type(value) is not int or value not in (2, 3):
        raise ValueError("must be 3, for the PromQL of Prometheus 3, or 2, for that of 2.42")
    return value


class PromqlSection(Section):
    semantics: Annotated[Semantics, BeforeValidator(_semantics)] = 3
