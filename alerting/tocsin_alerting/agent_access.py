"""Who may ask the agent what: the files of credentials, and the roles of the exporter's routes."""

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from starlette.routing import Route
from starlette.types import ASGIApp

from tocsin_alerting.api.http.access import Access, AccessCheck, Credentials
from tocsin_alerting.api.http.guard import forbidden_response
from tocsin_alerting.api.http.roles import TOKEN_ROLES, Principal, Role, for_role, principal_of
from tocsin_alerting.api.http.tokens import FILE_NAME, InvalidTokens, TokenFile, digest
from tocsin_alerting.api.http.web_login import WebLogin
from tocsin_alerting.config.config import Config
from tocsin_alerting.config.exposure import doors, exposure
from tocsin_alerting.config.web_file import web_config
from tocsin_alerting.local.ports import user_name
from tocsin_alerting.yaml_document import file_text
from tocsin_exporter.allowed_hosts import HEALTH, AllowedHosts, HostCheck
from tocsin_exporter.basic_auth import PasswordCheck
from tocsin_exporter.threads import Threads
from tocsin_exporter.web_config import LiveWebConfig, WebConfigured

log = logging.getLogger(__name__)

_ROLES = {"/": Role.READ, **dict.fromkeys(HEALTH, Role.HEALTH)}  # of the exporter's routes


def token_file(config: Config) -> TokenFile:
    """The tokens of an agent, in its data directory."""
    return TokenFile(Path(config.storage.path) / FILE_NAME)


def load_credentials(config: Config) -> Credentials:
    """Read anew each time, so that a changed token needs no restart. A file that is there and
    cannot be read still counts: otherwise loopback would be open to everybody on it."""
    bearers = {}
    if config.web.token_file is not None:
        try:
            text = file_text(config.web.token_file).strip()
        except (OSError, UnicodeDecodeError):
            text = ""
        if text:
            bearers[digest(text)] = Principal("", Role.ADMIN, proven=True)
    try:
        tokens = token_file(config).read()
    except InvalidTokens as error:
        log.warning("failed to read the tokens; only the Unix socket lets anybody in: %s", error)
        return Credentials(bearers, configured=True, strict=True)
    for token in tokens:
        bearers[token.sha256] = Principal(token.name, TOKEN_ROLES[token.role], proven=True)
    configured = bool(tokens) or config.web.token_file is not None
    return Credentials(bearers, configured, strict=bool(tokens))


def has_credentials(config: Config) -> bool:
    """Whether somebody added a token, and one that is damaged counts; or there are users or
    authorities of certificates in the web configuration."""
    if web_config(config).guarded:
        return True
    try:
        return bool(token_file(config).read())
    except InvalidTokens:
        return True


def access_words(config: Config, listen_addresses: Sequence[str]) -> str:
    """Who has to prove what, for the banner. Raises InvalidDocument."""
    exposed = exposure(config, listen_addresses, has_credentials(config))
    return "; ".join(filter(None, (doors(web_config(config)), exposed)))


def new_access(
    load: Callable[[], Credentials],
    config: Config,
    monotonic: Callable[[], float],
    known_otherwise: Callable[[str], Principal | None],
    web: LiveWebConfig,
) -> Access:
    """Who asks this agent."""
    auth = PasswordCheck(web.users, monotonic, Threads(1, "bcrypt"))
    roles = {name: TOKEN_ROLES[role] for name, role in config.web.roles.items()}
    return Access(
        load,
        monotonic,
        user_name,
        os.geteuid(),
        config.web.open,
        files=Threads(1, "credentials").begin(),
        names=Threads(1, "user names"),
        known_otherwise=known_otherwise,
        login=WebLogin(web, auth, roles),
    )


def checked(
    app: ASGIApp,
    access: Access,
    hosts: AllowedHosts,
    web: LiveWebConfig,
    monotonic: Callable[[], float],
    telemetry_path: str,
) -> ASGIApp:
    """`app` for those who call us by a name of ours or have a credential, with who they are, and
    as the web configuration says."""
    open_paths = [telemetry_path, *HEALTH]
    named = HostCheck(
        app, hosts, open_paths, lambda request: principal_of(request).proven, forbidden_response
    )
    return WebConfigured(AccessCheck(named, access), web, monotonic)


def with_roles(routes: Sequence[Route], telemetry_path: str) -> list[Route]:
    """The exporter's routes with their roles; one that is not known is for admin."""
    roles = {**_ROLES, telemetry_path: Role.METRICS}
    return [for_role(roles.get(route.path, Role.ADMIN), route) for route in routes]
