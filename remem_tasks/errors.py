"""The exceptions for faults that a user can mend, and how a command ends."""

from __future__ import annotations

import atexit
import errno
import io
import logging
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from remem_tasks.terminal import own_line, say, short

INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM
COLLAPSED = 3
"""Exit status of a scoring whose model said nothing real: its results are there, and mean nothing."""


CHATTY = ("bitsandbytes.backends.cpu.ops",)
"""Loggers of libraries that warn, at import, of a faster kernel on the Hub that nobody asked for."""


class RememError(ValueError):
    """A fault in what was given (data, checkpoint, arguments), told in one line that names it.

    The command lines print the message without a traceback and exit with status 1. Anything else
    that is raised is a defect of this package and keeps its traceback.
    """

    status = 1
    """The exit status of a command that ends with it."""


class NonFiniteError(RememError):
    """Weights, logits or a loss that are NaN or infinite."""


class PromptTooLong(RememError):
    """A prompt, or with it what is to be said, that is longer than the model's context."""


class TooFewRows(RememError):
    """A question that these rows are too few to answer; neither yes nor no."""

    status = 3


LIMITS = {
    errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR,
    errno.EMFILE, errno.ENFILE, errno.ENAMETOOLONG, errno.EIO, errno.ENOMEM, errno.ELOOP,
}  # fmt: skip
"""What a system refuses: room, size, rights, names. No defect of this package."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does."""


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Within, SIGTERM raises `Terminated`. (Only a main thread can ask for it; in others nothing changes.)"""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(number, frame):
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _ignore_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def deaf_at_exit() -> None:
    """What this command had to say is said: a signal while the interpreter takes itself down changes nothing any more.

    (Called last, since what is registered last runs first.)
    """
    atexit.unregister(_ignore_signals)
    atexit.register(_ignore_signals)


def refused(error: BaseException) -> str | None:
    """A line for what the system refused (LIMITS), or for memory that was not there; None for anything else."""
    if isinstance(error, MemoryError):
        return f"out of memory ({error})" if str(error) else "out of memory"
    if not isinstance(error, OSError) or error.errno not in LIMITS:
        return None
    where = (
        f"'{error.filename}' cannot be written or read"
        if error.filename
        else "a file cannot be written or read"
    )
    return f"{where}: {error.strerror or error}"


def _check_temporary() -> None:
    """Raise a RememError if no temporary file can be written (tried once per process)."""
    try:
        tempfile.gettempdir()
    except OSError as error:
        raise RememError(
            f"no temporary file can be written: {error.strerror}; make room, or set TMPDIR"
        ) from error


def _write_any_text() -> None:
    """A terminal or pipe that is not UTF-8 (LC_ALL=C, an old code page) gets "?" for what it cannot show."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="replace")


def exit_on_error(main: Callable[[], int | None], program: str) -> int:
    """Run `main`; a RememError becomes one line on stderr and its status, an interrupt 130, SIGTERM 143.

    So does what the system refuses (LIMITS), memory that is not there, or no place for temporary files, without which
    libraries cannot even be imported.
    """
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
    _write_any_text()
    try:
        with sigterm_raises():
            _check_temporary()
            return main() or 0
    except RememError as error:
        own_line(sys.stderr)
        say(f"{program}: error: {short(error)}", file=sys.stderr)
        return error.status
    except (OSError, MemoryError) as error:
        if (line := refused(error)) is None:
            raise
        own_line(sys.stderr)
        say(f"{program}: error: {short(line)}", file=sys.stderr)
        return 1
    except Terminated:
        own_line(sys.stderr)
        say(f"{program}: terminated", file=sys.stderr)
        return TERMINATED
    except KeyboardInterrupt:
        own_line(sys.stderr)
        say(f"{program}: interrupted", file=sys.stderr)
        return INTERRUPTED
    finally:
        deaf_at_exit()
