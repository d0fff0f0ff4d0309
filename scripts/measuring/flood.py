"""Senders that send as fast as they are answered, each over a connection of its own."""

import socket
import threading
from collections.abc import Sequence


def flood(port: int, shares: Sequence[Sequence[bytes]]) -> None:
    """Every connection to a server on loopback sends its share of requests, the next when it was
    answered 204. Ends when all are answered; raises SystemExit for any other answer."""
    failures: list[str] = []
    senders = [threading.Thread(target=_send, args=(port, share, failures)) for share in shares]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    if failures:
        raise SystemExit(failures[0])


def _send(port: int, requests: Sequence[bytes], failures: list[str]) -> None:
    with socket.create_connection(("127.0.0.1", port), 60) as connection:
        for request in requests:
            connection.sendall(request)
            answer = connection.recv(65536)
            while answer and b"\r\n\r\n" not in answer:
                answer += connection.recv(65536)
            if not answer.startswith(b"HTTP/1.1 204"):
                failures.append(f"a request was answered {answer[:1000]!r}")
                return
