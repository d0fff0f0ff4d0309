"""Senders that send as fast as they are answered, each over a connection of its own."""

import socket
import threading
from collections.abc import Sequence


class Flood:
    """`connections` to one server on loopback; each sends the next when it was answered 204."""

    def __init__(self, port: int, connections: int) -> None:
        address = ("127.0.0.1", port)
        self._sockets = [socket.create_connection(address, 60) for _ in range(connections)]
        self._failures: list[str] = []

    def send(self, rounds: Sequence[Sequence[bytes]]) -> None:
        """The so-manieth request of each round goes over the same connection, so that a series
        stays in order; ends when all are answered."""
        count = len(self._sockets)
        shares = [[one for turn in rounds for one in turn[i::count]] for i in range(count)]
        pairs = zip(self._sockets, shares, strict=True)
        senders = [threading.Thread(target=self._send_all, args=pair) for pair in pairs]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        if self._failures:
            raise SystemExit(self._failures[0])

    def close(self) -> None:
        for one in self._sockets:
            one.close()

    def _send_all(self, connection: socket.socket, requests: Sequence[bytes]) -> None:
        for request in requests:
            connection.sendall(request)
            answer = connection.recv(65536)
            while answer and b"\r\n\r\n" not in answer:
                answer += connection.recv(65536)
            if not answer.startswith(b"HTTP/1.1 204"):
                self._failures.append(f"a request was answered {answer[:1000]!r}")
                return
