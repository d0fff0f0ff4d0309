import socket

import pytest

from tocsin_exporter.listen import bind, joined, parse


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        (":4911", "", 4911),
        ("127.0.0.1:0", "127.0.0.1", 0),
        ("[::1]:9100", "::1", 9100),
        ("localhost:80", "localhost", 80),
    ],
)
def test_addresses(address: str, host: str, port: int) -> None:
    assert parse(address) == (host, port)


@pytest.mark.parametrize("address", ["4911", "host:", "host:x", "host:70000", "::1:80", "h:٣"])
def test_what_is_no_address_is_said(address: str) -> None:
    with pytest.raises(ValueError, match="is not"):
        parse(address)


def test_a_taken_address_is_an_error() -> None:
    with bind("127.0.0.1:0") as first:
        with pytest.raises(OSError):
            bind(f"127.0.0.1:{first.getsockname()[1]}")


def test_no_host_takes_ipv4_too() -> None:
    with bind(":0") as listening:
        with socket.create_connection(("127.0.0.1", listening.getsockname()[1]), 5) as client:
            accepted, peer = listening.accept()
            accepted.close()
            assert peer[1] == client.getsockname()[1]


@pytest.mark.parametrize(
    ("host", "address"), [("127.0.0.1", "127.0.0.1:80"), ("::1", "[::1]:80"), ("h", "h:80")]
)
def test_an_address_is_put_together_as_it_is_taken_apart(host: str, address: str) -> None:
    assert joined(host, 80) == address
    assert parse(address) == (host, 80)
