"""The stages of the agent in this process, wired by the real App; the caller runs what it wants."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tocsin_alerting.agent_setup import Setup
from tocsin_alerting.api.http.access import Credentials
from tocsin_alerting.app import App
from tocsin_alerting.config.load import build_channel, build_channels, signed_links
from tocsin_alerting.startup import UpOptions, load_config, rule_files


@contextmanager
def wired_agent(folder: Path, config: str) -> Iterator[App]:
    """Of the configuration `config`, with its data in `folder`; nothing runs yet, and the listening
    socket (`setup.sockets`) is not served. Before `setup.begin` messages have no links."""
    path = folder / "tocsin.yml"
    path.write_text(config, "utf-8")
    options = UpOptions(config_file=path, storage_path=str(folder / "data"), no_worker=True)
    loaded = load_config(options)
    links = signed_links(loaded)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield App(
            Setup(
                config=loaded,
                rules=rule_files(loaded),
                channels=build_channels(loaded, os.environ, links=links),
                links=links,
                new_channel=partial(build_channel, loaded, os.environ, links),
                credentials=Credentials,
                sockets=[listener],
                address=f"127.0.0.1:{listener.getsockname()[1]}",
                instance="machine",
            )
        )
