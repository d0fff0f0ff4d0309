"""Who may log in by the web configuration: by a user's password, or by a client's certificate."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.requests import Request

from tocsin_alerting.api.http.roles import Principal, Role
from tocsin_exporter.basic_auth import PasswordCheck, Verdict, basic_credentials
from tocsin_exporter.connections import counted_address
from tocsin_exporter.web_config import LiveWebConfig

_WRONG = (
    "wrong or missing password; send a user of the web configuration by basic auth, or"
    " Authorization: Bearer TOKEN (on the agent's machine alertctl needs neither, without --url)"
)
_TOO_MANY = "too many wrong passwords, or too many are being looked at; try again later"


@dataclass(frozen=True, slots=True)
class WebLogin:
    """`roles` are those of users and of the names of certificates; others have admin, as whoever is
    let in by exporter-toolkit may do everything."""

    live: LiveWebConfig
    auth: PasswordCheck
    roles: Mapping[str, Role] = field(default_factory=dict)

    @property
    def guarded(self) -> bool:
        """Whether loopback needs a credential."""
        return self.live.current.guarded

    @property
    def has_users(self) -> bool:
        return bool(self.live.current.users)

    @property
    def floor(self) -> Role:
        """What is for everybody: where there are users, metrics are not."""
        return Role.HEALTH if self.has_users else Role.METRICS

    async def principal(self, request: Request) -> Principal | None:
        """Who asks; with a refusal where the password is wrong, or nobody looked. None where
        nothing of this was shown. With users, a certificate opens the connection and no more."""
        if not self.has_users:
            name = request.scope.get("client_certificate")
            return None if name is None else self._known(str(name))
        given = basic_credentials(request.headers.get("authorization", ""))
        if given is None:
            return None
        verdict = await self.auth.verify(*given, counted_address(request.client))
        if verdict is Verdict.RIGHT:
            return self._known(given[0])
        if verdict is Verdict.TOO_MANY:
            return Principal("", Role.HEALTH, refusal=("too_many_requests", _TOO_MANY))
        return self.stranger()

    def stranger(self) -> Principal:
        """Somebody who has shown nothing that is right."""
        return Principal("", Role.HEALTH, refusal=("unauthorized", _WRONG), basic=True)

    def _known(self, name: str) -> Principal:
        return Principal(name, self.roles.get(name, Role.ADMIN), proven=True)
