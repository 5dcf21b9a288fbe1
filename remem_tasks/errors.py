"""The one exception for faults that a user can mend."""

from __future__ import annotations

import sys
from collections.abc import Callable


class RememError(ValueError):
    """A fault in what was given (data, checkpoint, arguments), told in one line that names it.

    The command lines print the message without a traceback and exit with status 1. Anything else
    that is raised is a defect of this package and keeps its traceback.
    """


def exit_on_error(main: Callable[[], int | None], program: str) -> int:
    """Run `main`; a RememError becomes one line on stderr and status 1."""
    try:
        return main() or 0
    except RememError as error:
        print(f"{program}: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return 130
