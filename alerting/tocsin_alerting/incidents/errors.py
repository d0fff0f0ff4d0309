"""What the incident layer refuses or cannot do.

IncidentError
  NoSuchIncident     the number was never given
  Conflict           the incident's state does not allow the action
JournalError
  JournalDown        the journal cannot be read or written now; it may come back
    JournalReplaced  what lay there was broken and is set aside; the next call begins anew
  SchemaTooNew       a newer Tocsin wrote the journal; this one must not touch it
"""


class IncidentError(Exception):
    pass


class NoSuchIncident(IncidentError):
    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(f"there is no incident #{number}")


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
            f"{path}: written by a newer Tocsin (schema {version}, this one knows {known}); "
            "start that version, or move the file away to begin an empty journal"
        )
