"""Threads that end in the middle of nothing, as a library or a debugger may end them."""

import ctypes
import threading


def kill(name: str) -> list[threading.Thread]:
    """The next thing that the threads of this beginning do ends them; which they are."""
    killed = [thread for thread in threading.enumerate() if thread.name.startswith(name)]
    for thread in killed:
        end = ctypes.py_object(SystemExit)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), end)
    return killed
