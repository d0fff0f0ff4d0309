"""The stages of the agent in this process, wired by the real App; the caller runs what it wants."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tocsin_alerting.agent_setup import Setup
from tocsin_alerting.api.http.access import Credentials
from tocsin_alerting.app import App
from tocsin_alerting.startup import UpOptions, config_reader, first_of, read_files


@contextmanager
def wired_agent(folder: Path, config: str) -> Iterator[App]:
    """Of the configuration `config`, with its data in `folder`; nothing runs yet, and the listening
    socket (`setup.sockets`) is not served. Before `setup.begin` messages have no links."""
    path = folder / "tocsin.yml"
    path.write_text(config, "utf-8")
    options = UpOptions(config_file=path, storage_path=str(folder / "data"), no_worker=True)
    reader = config_reader(options)
    read = read_files(reader, first_of(options), strict=True)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield App(
            Setup(
                read=read,
                reader=reader,
                credentials=Credentials,
                sockets=[listener],
                address=f"127.0.0.1:{listener.getsockname()[1]}",
                instance="machine",
            )
        )
