"""Questions to services on the system's message bus, on a thread that may wait for them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tocsin_exporter.collectors.collector import CollectorError, Unavailable

_PATIENCE_SECONDS = 2.0  # for each answer; one that is late ends the reading
_PROPERTIES = "org.freedesktop.DBus.Properties"
_SOCKET = "run/dbus/system_bus_socket"


class BusRefused(Exception):
    """The service answered that it will not, or cannot, say this."""


class Bus:
    """One connection. Its calls raise BusRefused, and CollectorError where nothing is answered."""

    def __init__(self, connection: Any, service: str) -> None:
        self._connection, self._service = connection, service

    def call(self, path: str, interface: str, method: str) -> Any:
        return self._ask(path, interface, method)[0]

    def property(self, path: str, interface: str, name: str) -> Any:
        """Its value, without the type that comes with it."""
        return self._ask(path, _PROPERTIES, "Get", "ss", (interface, name))[0][1]

    def _ask(
        self, path: str, interface: str, method: str, types: str = "", given: tuple[str, ...] = ()
    ) -> Any:
        from jeepney import DBusAddress, DBusErrorResponse, new_method_call
        from jeepney.wrappers import unwrap_msg

        address = DBusAddress(path, bus_name=self._service, interface=interface)
        question = new_method_call(address, method, types or None, given)
        try:
            reply = self._connection.send_and_get_reply(question, timeout=_PATIENCE_SECONDS)
            return unwrap_msg(reply)
        except DBusErrorResponse as error:
            raise BusRefused(error.name) from error
        except (OSError, ValueError) as error:  # it is late, gone, or speaks no D-Bus
            raise CollectorError(f"{self._service} does not answer: {error!r}") from error


@contextmanager
def system_bus(root: Path, service: str) -> Iterator[Bus]:
    """The bus of the machine whose root directory is there; our own where DBUS_SYSTEM_BUS_ADDRESS
    says. Raises Unavailable where there is none."""
    from jeepney.io.blocking import open_dbus_connection

    address = "SYSTEM" if root == Path("/") else f"unix:path={root / _SOCKET}"
    try:
        connection = open_dbus_connection(address)
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise Unavailable(f"the system has no message bus: {error}") from error
    except Exception as error:  # why: jeepney's own, for a bus that refuses us or an odd address
        raise CollectorError(f"the message bus cannot be reached: {error}") from error
    try:
        yield Bus(connection, service)
    finally:
        connection.close()
