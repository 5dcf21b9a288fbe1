"""The one exception for faults that a user can mend."""

from __future__ import annotations

import sys
from collections.abc import Callable

from remem_tasks.terminal import clean, say


class RememError(ValueError):
    """A fault in what was given (data, checkpoint, arguments), told in one line that names it.

    The command lines print the message without a traceback and exit with status 1. Anything else
    that is raised is a defect of this package and keeps its traceback.
    """

    status = 1
    """The exit status of a command that ends with it."""


class NonFiniteError(RememError):
    """Weights, logits or a loss that are NaN or infinite."""


class TooFewRows(RememError):
    """A question that these rows are too few to answer; neither yes nor no."""

    status = 3


def exit_on_error(main: Callable[[], int | None], program: str) -> int:
    """Run `main`; a RememError becomes one line on stderr and its status."""
    try:
        return main() or 0
    except RememError as error:
        say(f"{program}: error: {clean(error)}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return 130
