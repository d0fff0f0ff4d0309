"""One page of rule groups, as Prometheus 3 turns the pages."""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha1
from typing import Any

from starlette.datastructures import QueryParams

from tocsin_alerting.api.http.envelope import ApiError
from tocsin_alerting.api.prometheus.params import whole_number


@dataclass(frozen=True, slots=True)
class RulePage:
    """At most `limit` groups, from the one that `token` names on; 0 is all of them."""

    limit: int
    token: str

    def cut(self, groups: Iterable[dict[str, Any]]) -> dict[str, Any]:
        """The groups of this page, and where the next begins if there is one.

        Raises ApiError when the page began at a group that is gone.
        """
        every = list(groups)
        tokens = [_token(group["file"], group["name"]) for group in every]
        if self.token and self.token not in tokens:
            gone = f"invalid group_next_token '{self.token}'. were rule groups changed?"
            raise _invalid("group_next_token", gone)
        first = tokens.index(self.token) if self.token else 0
        end = first + self.limit if self.limit else len(every)
        page: dict[str, Any] = {"groups": every[first:end]}
        return page | {"groupNextToken": tokens[end]} if end < len(every) else page


def rule_page(parameters: QueryParams) -> RulePage:
    """Raises ApiError for a limit that is none."""
    limit, token = parameters.get("group_limit", ""), parameters.get("group_next_token", "")
    if not limit and token:
        why = "group_limit needs to be present in order to paginate over the groups"
        raise _invalid("group_next_token", why)
    most = whole_number(limit or "1")
    if most is None:
        why = f'group_limit needs to be a valid number, not "{limit}"'
        raise _invalid("group_limit", why)
    if most <= 0:
        raise _invalid("group_limit", "group_limit needs to be greater than 0")
    return RulePage(most if limit else 0, token)


def _invalid(name: str, why: str) -> ApiError:
    return ApiError("bad_data", f'invalid parameter "{name}": {why}')


def _token(file: str, group: str) -> str:
    return sha1(f"{file};{group}".encode(), usedforsecurity=False).hexdigest()
