"""What is printed: names, paths and cells of others as plain text that no terminal obeys."""

from __future__ import annotations

import argparse
import atexit
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import IO, TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from rich.console import Console

ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor, clearing
    r"|\x1b[\]PX^_].*?(?:\x1b\\|\x07|\Z)"  # OSC (titles, links), DCS, SOS, PM, APC
    r"|\x1b[ -/]*[0-~]?",
    re.DOTALL,
)
"""Escape sequences as ECMA-48 has them; left over is their plain text."""
INVISIBLE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
"""Control characters but tab and line feed; marks of direction, invisible operators, tags."""


def clean(text: object, lines: bool = False) -> str:
    """Text without escape sequences, control and bidirectional characters and halves of pairs.

    Args:
        lines: whether line feeds and tabs stay; else each becomes a space, so that it is one line.
    """
    text = INVISIBLE.sub(" ", ESCAPES.sub("", str(text))).encode("utf-8", "replace").decode()
    return text if lines else text.replace("\n", " ").replace("\t", " ")


def short(text: object, most: int = 900) -> str:
    """`clean` text of at most `most` characters: its beginning and its end, where it is longer."""
    text = clean(text)
    end = most // 3
    return text if len(text) <= most else f"{text[: most - end - 5]} ... {text[-end:]}"


def foreign(text: str) -> bool:
    """Whether a text holds what `clean` takes out."""
    return text != clean(text)


def own_line(file: IO[str]) -> None:
    """Begin a new line where a progress bar stands in the middle of one."""
    tqdm = getattr(sys.modules.get("tqdm.std"), "tqdm", None)
    kinds = [tqdm, *tqdm.__subclasses__()] if tqdm is not None else []
    if any(not bar.disable for kind in kinds for bar in list(getattr(kind, "_instances", ()))):
        print(file=file)


def say(*texts: object, file: IO[str] | None = None, flush: bool = False) -> None:
    """`print`, cleaned."""
    print(*(clean(text, lines=True) for text in texts), file=file or sys.stdout, flush=flush)


_program = ""
"""The command that a person started; empty where this code is called from Python, which stays silent."""
BEAT = 10.0
"""Seconds between two signs of life of a long piece of work."""


def starts(program: str) -> None:
    """Let `progress` and `beating` print from here on, and print a command's first line: imports take seconds."""
    global _program
    _program = program
    progress("starting (loading libraries) ...")
    ended, begun = threading.Event(), time.monotonic()

    def beat() -> None:
        since = begun
        while not ended.wait(BEAT):
            if not _imports(threading.main_thread()):
                since = time.monotonic()  # what is imported later is told by its own seconds
            elif not _working:
                progress(f"loading libraries: {time.monotonic() - since:.0f} s")

    threading.Thread(target=beat, daemon=True).start()
    atexit.register(ended.set)


_working: list[str] = []
"""What `beating` tells of now."""


def _imports(thread: threading.Thread) -> bool:
    """Whether a thread is in the middle of an import."""
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def progress(text: str) -> None:
    """A line on stderr about what is being done, in a command that a person started."""
    if _program:
        say(clean(f"{_program}: {text}"), file=sys.stderr, flush=True)


@contextmanager
def beating(what: str, state: Callable[[], str] = lambda: "", seconds: float | None = None) -> Iterator[None]:
    """Say what is being done, and while it lasts, every BEAT seconds, for how long it has been.

    Args:
        state: how far it is, in words; "" where that is not known.
        seconds: another time between two lines.
    """
    if not _program:
        yield
        return
    progress(f"{what} ...")
    ended, begun = threading.Event(), time.monotonic()

    def beat() -> None:
        while not ended.wait(BEAT if seconds is None else seconds):
            told = state()
            progress(f"{what}: {time.monotonic() - begun:.0f} s{told and ', ' + told}")

    thread = threading.Thread(target=beat, daemon=True)
    _working.append(what)
    thread.start()
    try:
        yield
    finally:
        _working.remove(what)
        ended.set()
        thread.join()


def console() -> Console:
    """Rich's console, whose own colours are the only sequences that reach the terminal.

    Tables have been wrapped by then, so a sequence loses what makes it one, and not the text that is left of it.
    """
    from rich.console import Console as Plain
    from rich.segment import Segment

    class Clean(Plain):
        def render(self, renderable, options=None) -> Iterable[Segment]:
            for one in super().render(renderable, options):
                yield one if one.control else Segment(INVISIBLE.sub("", one.text), one.style)

    return Clean()


class Parser(argparse.ArgumentParser):
    """A parser whose messages are cleaned, and name what is nearest to a choice or a flag that there is not."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """All must be known; what is not is told before what is missing, of the command that it was given to."""
        args = list(sys.argv[1:] if args is None else args)
        if self._subparsers is None:
            given = args[: args.index("--")] if "--" in args else args
            # (A value may hold options of another command: `--relearn "--max_steps 2"`.)
            names = [word.split("=", 1)[0] for word in given if re.match(r"--[^\s=]+(=|$)", word)]
            known = [option for option in self._option_string_actions if option.startswith("--")]
            self._refuse([name for name in names if not any(one.startswith(name) for one in known)], known)
        found, others = super().parse_known_args(args, namespace)
        self._refuse(others, [])
        return found, others

    def _refuse(self, words: Sequence[str], known: Sequence[str]) -> None:
        if words:
            near = get_close_matches(words[0], known, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            self.error(f"unrecognized arguments: {' '.join(words)}{hint}")

    def error(self, message: str) -> NoReturn:
        chosen = re.match(r"(?:argument [^:]+: )?invalid choice: '(.*)' \(choose from (.*)\)$", message)
        if chosen:
            choices = [one.strip(" '\"") for one in chosen[2].split(",")]
            if near := get_close_matches(chosen[1], choices, n=1):
                message += f"; did you mean '{near[0]}'?"
        super().error(message)

    def _print_message(self, message: str, file: Any = None) -> None:
        super()._print_message(clean(message, lines=True), file)
