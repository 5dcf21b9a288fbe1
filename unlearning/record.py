"""The record of a run, and whether another may go on from it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from remem_tasks.errors import RememError
from remem_tasks.files import write_whole
from remem_tasks.run_record import RECORD, read_record
from unlearning import flags
from unlearning import weights as checkpoint
from unlearning.config import UnlearnConfig

LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate")
"""Those whose release decides how a step is computed."""


def versions() -> dict[str, str]:
    """Versions of what a result can depend on."""
    found = {"python": sys.version.split()[0]}
    for name in ("remem-unlearning", *LIBRARIES, "datasets"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def write_record(folder: str, record: dict[str, Any]) -> None:
    """Replace `run.json` in one move, so that it is never half there."""
    write_whole(Path(folder) / RECORD, json.dumps(record, indent=2, default=str) + "\n")


def mark_failed(folder: str) -> None:
    """Turn `running` into `failed` in a record in place, byte by byte: that needs no room on a full disk."""
    path, running = Path(folder) / RECORD, b'"status": "running"'
    with suppress(OSError), path.open("r+b") as file:
        place = file.read().find(running)
        if place >= 0:
            file.seek(place)
            file.write(b'"status": "failed"'.ljust(len(running)))


def check_resumed(folder: str, identity: dict[str, Any]) -> None:
    """Raise a RememError if the run in a folder is finished without checkpoints, or is another run."""
    earlier = read_record(folder, ours=True)
    if not earlier:
        return
    if not earlier.get("identity"):
        raise RememError(f"'{Path(folder) / RECORD}' does not say which run it is of; it cannot be resumed")
    checkpoint.check_identity(earlier["identity"], identity, f"'{folder}' holds a run")
    if earlier.get("status") == "finished" and not list(Path(folder).glob("checkpoint-*")):
        raise RememError(f"the run in '{folder}' is finished and kept no checkpoint to go on from")


NO_EFFECT = (
    "resume_from_checkpoint",
    "resume_without_state",
    "overwrite_output_dir",
    "gate_results",
    "no_gate",
    "picture_cache_mb",
)
"""Flags with which a run may be resumed though it was begun with others."""


def other_settings(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two records of a run that its end depends on, as `flag 1, not 2`."""
    matter = {*flags.WORKS, *UnlearnConfig.__annotations__} - {*NO_EFFECT, "model_name_or_path"}
    found = []
    for kind in ("training", "model"):
        before, after = ((one.get("arguments") or {}).get(kind, {}) for one in (earlier, now))
        if not isinstance(before, Mapping):
            raise RememError(f"{RECORD} of the run to resume: its {kind} arguments are no object")
        after = json.loads(json.dumps(after, default=str))
        found += [
            f"{name} {before[name]}, not {after[name]}"
            for name in sorted(matter & before.keys() & after.keys())
            if before[name] != after[name] and " at 0x" not in f"{before[name]}{after[name]}"
        ]
    before, after = (one.get("versions") or {} for one in (earlier, now))
    found += [
        f"{name} {before[name]}, not {after[name]}"
        for name in LIBRARIES
        if name in before and name in after and before[name] != after[name]
    ]
    for name in ("options", "processes"):
        before, after = earlier.get(name), json.loads(json.dumps(now.get(name), default=str))
        if before is not None and before != after:
            found.append(f"{name} {before}, not {after}")
    return found


def check_settings(folder: str, now: Mapping[str, Any], lossy: bool) -> str:
    """What a resumed run is told of settings that are others than those it was begun with; "" if none are.

    Args:
        lossy: whether it may go on all the same (`--resume_without_state`).

    Raises:
        RememError: there are such settings, and it may not: it would end elsewhere than either run from its beginning.
    """
    earlier = read_record(folder, ours=True)
    others = other_settings(earlier, now) if earlier else []
    if not others:
        return ""
    more = f" (and {len(others) - 3} more)" if len(others) > 3 else ""
    told = f"'{folder}' holds a run with {'; '.join(others[:3])}{more}"
    if not lossy:
        raise RememError(
            f"{told}: resumed, it would end as no run from its beginning does. Give the settings it was begun with, or "
            "--resume_without_state true"
        )
    return f"resumed with other settings: {told}"
