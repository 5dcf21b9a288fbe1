"""Output folders: never another's, and never half written under their own name."""

from __future__ import annotations

import functools
import inspect
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from remem_tasks.errors import RememError


class Locked(RememError):
    """Another process is writing an output."""


_HELD: set[Path] = set()
"""Lock files that this process holds."""
_CLAIMS = threading.Lock()


def write_whole(path: str | Path, text: str, errors: str = "strict") -> None:
    """Write or replace a UTF-8 file in one move, so that it is never half there; its folder is made.

    Args:
        errors: what becomes of characters that UTF-8 has not (halves of pairs), as in `str.encode`.

    Raises:
        RememError: it cannot be written (no room, no permission); what was there stays.
    """
    raw = text.encode(errors=errors)
    with replaced(path) as temporary:
        temporary.write_bytes(raw)
        if temporary.stat().st_size != len(raw):  # a limit cut it without an error
            raise OSError(f"{temporary.stat().st_size} of {len(raw)} bytes were written")


@contextmanager
def replaced(path: str | Path) -> Iterator[Path]:
    """Where a file is written within the block, which then takes its place in one move; its folder is made.

    Raises:
        RememError: it cannot be written (no room, no permission); what was there stays.
    """
    path = Path(path)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise RememError(f"'{path}' cannot be written: {error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def beside(path: str | Path) -> str:
    """What lies beside a path that is not there and is called much like it: "; did you mean 'results'?", or "".

    The first part that is missing is looked at, so that a folder mistyped on the way is found too.
    """
    path = Path(path)
    missing = next((part for part in (*reversed(path.parents), path) if not part.exists()), path)
    try:
        names = [one.name for one in missing.parent.iterdir()]
    except OSError:
        return ""
    near = get_close_matches(missing.name, names, n=1, cutoff=0.75)
    return f"; did you mean '{missing.parent / near[0]}'?" if near else ""


def write_json(path: str | Path, value: object) -> None:
    """Write or replace a JSON file, as `write_whole` does."""
    write_whole(path, json.dumps(value, indent=1) + "\n")


def check_empty(out: str | Path) -> Path:
    """`out`, unless it is a file or a folder that holds something (a RememError)."""
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RememError(f"output folder '{out}' is not empty")
    return out


def partial_of(out: Path) -> Path:
    """Where a folder is written until it is complete."""
    return out.with_name(out.name + ".partial")


def publish(written: Path, out: Path) -> None:
    """Give a complete folder its own name; `out` is absent or empty."""
    if out.exists():
        out.rmdir()
    written.rename(out)


@contextmanager
def lock(out: str | Path, patience: float = 0) -> Iterator[None]:
    """Hold an output (a folder or a file) for this block: two that write to one would spoil each other's.

    The lock is `.<name>.lock` beside it (within it, where it is a folder and nothing can be put beside it), gone
    when the block ends; the system frees it if the process is killed. Some file systems (NFS) lend a file's lock to
    every part of one process, so what this process holds is also kept here.

    Args:
        patience: seconds to wait for another process.

    Raises:
        Locked: another process, or another part of this one, holds it.
        RememError: its folder cannot be written to.
    """
    out = Path(os.path.realpath(out))  # two names of one folder are one output
    beside, within = _lock_files(out)
    path = within if out.is_dir() and not os.access(out.parent, os.W_OK) else beside
    taken = Locked(f"output '{out}' is being written by another process ('{path}' is locked)")
    with _claimed(path, taken):
        held, made = FileLock(path), [one for one in path.parents if not one.exists()]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # (Whoever asks with `is_held` has it for an instant.)
            held.acquire(timeout=max(patience, 0.1), poll_interval=0.02)
        except Timeout as error:
            try:  # where nothing can be made, the lock cannot either, and nobody holds it
                path.touch()
            except OSError as fault:
                raise RememError(f"output '{out}' cannot be written: {fault}") from error
            raise taken from error
        except OSError as error:
            raise RememError(f"output '{out}' cannot be written: {error}") from error
        try:
            yield
        finally:
            path.unlink(
                missing_ok=True
            )  # while held: whoever opened it meanwhile finds it gone and tries again
            held.release()
            for folder in made:  # of a block that wrote nothing
                with suppress(OSError):
                    folder.rmdir()


def _lock_files(out: Path) -> tuple[Path, Path]:
    """An output's lock beside it, and within it."""
    return out.with_name(f".{out.name}.lock"), out / ".writing.lock"


def is_held(out: str | Path, by_others: bool = False) -> bool:
    """Whether somebody holds the lock of an output; makes nothing. A lock that may not be looked at counts as held.

    Args:
        by_others: whether this process itself does not count.
    """
    for path in _lock_files(Path(os.path.realpath(out))):
        with _CLAIMS:
            if path in _HELD:
                return not by_others
        try:
            import fcntl

            opened = os.open(path, os.O_RDONLY)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ImportError):  # not ours to look at, or no POSIX system
            return True
        try:
            fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(opened)
    return False


@contextmanager
def _claimed(path: Path, taken: Locked) -> Iterator[None]:
    """Hold a lock's path within this process, or raise `taken`."""
    with _CLAIMS:
        if path in _HELD:
            raise taken
        _HELD.add(path)
    try:
        yield
    finally:
        with _CLAIMS:
            _HELD.discard(path)


def locked(function: Callable) -> Callable:
    """A function that holds the lock of its argument `out` while it runs."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def alone(*args, **kwargs):
        with lock(signature.bind(*args, **kwargs).arguments["out"]):
            return function(*args, **kwargs)

    return alone


def rows_written(folder: str | Path) -> dict[str, int]:
    """{file below `folder`: rows} of its parquet files, read back from the disk.

    Raises:
        RememError: one is cut short or cannot be read.
    """
    folder, found = Path(folder), {}
    for file in sorted(folder.rglob("*.parquet")):
        try:
            found[str(file.relative_to(folder))] = pq.read_metadata(file).num_rows
        except (OSError, pa.ArrowException) as error:
            raise RememError(f"'{file}' was not written whole: {error}") from error
    return found


@contextmanager
def new_folder(out: str | Path) -> Iterator[Path]:
    """A folder to write to, which becomes `out` if the block ends well; no other process can write to it.

    Raises:
        RememError: `out` is not empty, or another process is writing it.
    """
    with lock(out):
        out = check_empty(out)
        partial = partial_of(out)
        shutil.rmtree(partial, ignore_errors=True)  # what a stopped call left
        partial.mkdir(parents=True)
        yield partial
        publish(partial, out)
