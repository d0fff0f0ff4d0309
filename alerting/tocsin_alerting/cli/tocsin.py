"""The program `tocsin`: it is safe from signals first, and then loads its commands."""

import signal
import sys

_SERVING = ("up", "exporter", "proxy", "worker")


def main() -> None:
    """Run the command of the command line, which ends the process.

    What serves takes a second to load. SIGHUP, SIGUSR1 and SIGUSR2 wait until it answers them:
    before that they would end it. A worker inherits that.
    """
    if sys.argv[1:2] and sys.argv[1] in _SERVING:
        waiting = {signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}
        signal.pthread_sigmask(signal.SIG_BLOCK, waiting)
    from tocsin_alerting.cli.commands import tocsin

    tocsin()
