"""What the incident layer refuses or cannot do.

IncidentError
  NoSuchIncident     the number was never given
  NoSuchSilence      the id was never given, or its silence ended long ago
  NoSuchHeartbeat    nobody expects one of this name
  HeartbeatConflict  what is asked of it cannot be done; the message says why
  Conflict           the incident's state does not allow the action
JournalError
  JournalDown        the journal cannot be read or written now; it may come back
    JournalReplaced  what lay there was broken and is set aside; the next call starts a new one
  SchemaTooNew       a newer Tocsin wrote the journal; this one must not touch it
"""


class IncidentError(Exception):
    pass


class NoSuchIncident(IncidentError):
    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(f"no incident #{number}")


class NoSuchSilence(IncidentError):
    def __init__(self, name: str) -> None:
        super().__init__(f'no silence "{name[:40]}"')


class NoSuchHeartbeat(IncidentError):
    def __init__(self, name: str) -> None:
        super().__init__(f'no heartbeat is called "{name[:80]}"')


class HeartbeatConflict(IncidentError):
    pass


class Conflict(IncidentError):
    """`state` is the incident's state now, which does not allow what was asked."""

    def __init__(self, number: int, state: str, why: str) -> None:
        self.number, self.state = number, state
        super().__init__(f"incident #{number} is {state}: {why}")


class JournalError(Exception):
    pass


class JournalDown(JournalError):
    """`blank`: nothing was ever written there, so there is nothing to miss."""

    def __init__(self, why: str, *, blank: bool = False) -> None:
        self.blank = blank
        super().__init__(why)


class JournalReplaced(JournalDown):
    pass


class SchemaTooNew(JournalError):
    def __init__(self, path: str, version: int, known: int) -> None:
        super().__init__(
            f"{path}: written by a newer Tocsin (schema {version}, this one supports {known}); "
            "start that version, or move the file away to start with an empty journal"
        )
