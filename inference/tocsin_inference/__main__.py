"""`python -m tocsin_inference [serve|fetch] [--flags]`"""

from __future__ import annotations

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    # `-m` looks for libraries in the current directory first: a file there would run in their place
    del sys.path[0]

import signal

if __name__ == "__main__":  # before the other imports: until it answers these, they would end it
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2})

import logging
import os
from collections.abc import Sequence

from tocsin_exporter import output
from tocsin_exporter.connections import raise_descriptor_limit
from tocsin_inference import logs, parent, settings

log = logging.getLogger("tocsin.worker")

FAILED, USAGE = 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command: 0 ended well, 1 failed, 2 wrong usage. Messages go to standard error."""
    arguments = sys.argv[1:] if argv is None else argv
    try:
        command, chosen = settings.read(arguments, os.environ, "tocsin worker")
        if chosen.parent_pid is not None:
            parent.die_with(chosen.parent_pid)
            parent.die_first()
    except (settings.SettingsError, parent.ParentGone) as error:
        print(f"tocsin worker: {error}", file=sys.stderr)
        return USAGE
    # Nothing here needs the hub, and without a network every attempt would cost seconds.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if not sys.stderr.isatty():  # a progress bar in a log file is noise
        os.environ.setdefault("TQDM_DISABLE", "1")
    logs.configure(chosen.log_level, chosen.log_format, sys.stderr)
    for warning in settings.unread(os.environ):
        log.warning("%s", warning)
    return COMMANDS[command](chosen)


def serve(chosen: settings.Settings) -> int:
    """Serves until a signal."""
    # why here: torch and transformers take seconds to import, which a usage error should not
    from tocsin_inference import server, weights

    try:
        return server.serve(chosen)
    except (weights.WeightsError, OSError, MemoryError) as error:
        print(f"tocsin worker: {reason(error)}", file=sys.stderr)
        return FAILED


def reason(error: BaseException) -> str:
    """Its message, with the name of the file where there is one, and without an errno."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__


def fetch(chosen: settings.Settings) -> int:
    """Puts the default model into the cache directory and says where."""
    from tocsin_inference import weights

    try:
        source = weights.fetch(weights.SMOLLM2, chosen.cache_dir, sys.stderr.isatty())
    except (weights.WeightsError, OSError) as error:
        print(f"tocsin worker: {reason(error)}", file=sys.stderr)
        return FAILED
    print(f"{source.name} is in {source.directory}")
    return 0


COMMANDS = {"serve": serve, "fetch": fetch}

if __name__ == "__main__":
    output.install()
    raise_descriptor_limit()
    sys.exit(main())
