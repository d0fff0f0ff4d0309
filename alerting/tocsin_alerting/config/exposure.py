"""What other machines may see of the agent: said at the start, in the banner and by `check`."""

from collections.abc import Sequence

from tocsin_alerting.config.config import Config
from tocsin_alerting.config.link_reach import is_local
from tocsin_alerting.config.web_file import serves_tls, web_config
from tocsin_alerting.yaml_document import InvalidDocument
from tocsin_exporter.web_config import WebConfig


def exposure(config: Config, listen_addresses: Sequence[str], credentials: bool) -> str:
    """One sentence, or "" where only this machine can connect, or credentials decide.

    `listen_addresses` are those of the command line, which come before the configuration's;
    `credentials`: whether the agent has tokens, or users or certificates of a web configuration.
    """
    addresses = listen_addresses or [config.web.listen_address]
    outside = [address for address in addresses if not is_local(address)]
    if not outside:
        return ""
    where = ", ".join(outside)
    clear = ""
    if has_users(config) and not serves_tls(config):
        clear = (
            f"UNENCRYPTED: anybody on the way to {where} can read the passwords of basic auth;"
            " set tls_server_config in the web configuration"
        )
    if config.web.open:
        said = f"OPEN: everybody who reaches {where} reads incidents and settings (web.open)"
        return "; ".join(filter(None, (said, clear)))
    if credentials or config.web.token_file is not None:
        return clear
    return (
        f"CLOSED to other machines: {where} serves them /metrics and health alone, as no"
        " credentials are set; add a token (alertctl token add), or open reads with --web.open"
    )


def has_users(config: Config) -> bool:
    """Whether the web configuration has users; one that is wrong is said elsewhere."""
    try:
        return bool(web_config(config).users)
    except InvalidDocument:
        return False


def doors(web: WebConfig) -> str:
    """What the web configuration asks of those who connect; "" where that is nothing."""
    said = []
    if web.tls is not None:
        said.append("https")
        if web.tls.verifies:
            said.append(f"certificates of clients {'required' if web.tls.requires else 'accepted'}")
    if web.users:
        users = "1 user" if len(web.users) == 1 else f"{len(web.users)} users"
        said.append(f"basic auth for {users}, also for /metrics")
    return ", ".join(said)
