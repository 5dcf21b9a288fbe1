"""What ties a results file to its samples, weights, data and settings: digests, put in when a run ends, checked when it is read.

    seal(results)           # after the run; faults of writing show here
    verify(file, raw)       # before any number of it is used

The digests guard against mixed-up, cut and edited files. They are no signature: who wants to lie can make new ones.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from remem_tasks.errors import RememError
from remem_tasks.files import write_whole
from remem_tasks.reading import parse_json, read_text

KEY = "remem_binding"
"""Where a results file holds its digests; beside them `weights`, put there while the model is in memory."""
FORMAT = 1


def read_results(file: str | Path) -> dict:
    """A results file as it stands.

    Raises:
        RememError: it is not a JSON object with `results`, each task's an object.
    """
    raw = parse_json(read_text(file), f"'{file}' is not an lmms-eval results file", constants=True)
    if not isinstance(raw, dict) or not isinstance(raw.get("results"), dict):
        raise RememError(f"'{file}' is not an lmms-eval results file (it holds no 'results')")
    for name in ("results", "configs", "n-samples"):
        part = raw.get(name)
        if part is not None and not isinstance(part, dict):
            raise RememError(f"'{file}' is not an lmms-eval results file ('{name}' is {_short(part)})")
        for task, values in (part or {}).items():
            if not isinstance(values, dict):
                raise RememError(
                    f"'{file}' is not an lmms-eval results file ('{name}' of {task} is {_short(values)})"
                )
    if raw.get("config") is not None and not isinstance(raw["config"], dict):
        raise RememError(f"'{file}' is not an lmms-eval results file ('config' is {_short(raw['config'])})")
    return raw


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def samples_of(file: str | Path, task: str) -> Path:
    """The samples file of a task beside a results file, whether it is there or not."""
    file = Path(file)
    return file.with_name(f"{file.name.removesuffix('results.json')}samples_{task}.jsonl")


def digest_of_json(value: object) -> str:
    """64 hex digits of a value as JSON, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()


def digest_of_file(file: str | Path) -> str:
    """64 hex digits (SHA-256) of a file's bytes.

    Raises:
        RememError: it cannot be read.
    """
    try:
        with Path(file).open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise RememError(f"'{file}' cannot be read ({error.strerror})") from error


def digest_of_weights(model: object) -> str | None:
    """32 hex digits of a torch model's weights: names, types, shapes and bytes; None of what has none in memory.

    Args:
        model: a torch module, or what a backend has in its place.
    """
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(model, torch.nn.Module):
        return None
    import xxhash

    digest = xxhash.xxh3_128()
    for name, tensor in sorted(model.state_dict().items()):
        if not torch.is_tensor(tensor):
            continue
        if tensor.is_meta or tensor.layout != torch.strided:
            return None
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.detach().reshape(-1).contiguous().view(torch.uint8).cpu().numpy())
    return digest.hexdigest()


def bound_of(raw: Mapping) -> Mapping:
    """The digests in a results file; empty where it has none."""
    bound = raw.get(KEY)
    return bound if isinstance(bound, Mapping) else {}


def settings_of(raw: Mapping) -> dict[str, Any]:
    """What scoring was told: the run's configuration and each task's, without the rows' own data."""
    configs = raw.get("configs") or {}
    return {"config": raw.get("config"), "tasks": dict(configs)}


def data_of(raw: Mapping) -> dict[str, Any]:
    """task → fingerprint of its rows."""
    configs = raw.get("configs") or {}
    return {
        task: (config.get("metadata") or {}).get("fingerprint")
        for task, config in configs.items()
        if isinstance(config.get("metadata") or {}, Mapping)
    }


def _digests(file: Path, raw: Mapping) -> dict[str, Any]:
    samples = {
        task: digest_of_file(place)
        for task in sorted(raw["results"])
        if (place := samples_of(file, task)).is_file()
    }
    weights = bound_of(raw).get("weights")
    return {
        "format": FORMAT,
        "weights": weights,
        "data": data_of(raw),
        "samples": samples,
        "settings": digest_of_json(settings_of(raw)),
        "results": digest_of_json([raw["results"], raw.get("n-samples"), weights, data_of(raw)]),
    }


def check_written(file: str | Path, raw: Mapping, logged: bool) -> None:
    """Whether the samples files beside a results file are whole: each line JSON, as many as the results count.

    Args:
        logged: whether samples were asked for, so that a task of ours without them is a fault.

    Raises:
        RememError: names file and line.
    """
    whole = not (raw.get("config") or {}).get("offset")
    for task, values in raw["results"].items():
        samples = samples_of(file, task)
        counted = any(name.endswith("_rows,none") for name in values)
        if not samples.is_file():
            if logged and counted:
                raise RememError(f"'{samples}' was not written, though --log_samples was given")
            continue
        rows = 0
        try:
            with samples.open(encoding="utf-8", errors="surrogateescape") as lines:
                for rows, line in enumerate(lines, start=1):
                    parse_json(line, f"'{samples}', line {rows}", constants=True)
        except OSError as error:
            raise RememError(f"'{samples}' cannot be read ({error.strerror})") from error
        wanted = (raw.get("n-samples") or {}).get(task, {}).get("effective")
        if counted and whole and wanted is not None and rows != wanted:
            raise RememError(f"'{samples}' holds {rows} rows, the results file {wanted}")


def seal(results: str | Path, logged: bool = False) -> dict[str, Any]:
    """Read back what a run wrote and put the digests into its results file.

    Args:
        logged: whether samples were to be written too.

    Returns:
        the digests: `samples` by task (SHA-256 of each file), `results` (of all numbers), `settings`,
        `data` (fingerprints) and `weights` (None where the backend holds none in memory).

    Raises:
        RememError: a file cannot be read or written, or is cut.
    """
    file = Path(results)
    raw = read_results(file)
    check_written(file, raw, logged)
    raw[KEY] = found = _digests(file, raw)
    try:
        write_whole(file, json.dumps(raw, indent=2, ensure_ascii=False) + "\n", errors="surrogatepass")
    except OSError as error:
        raise RememError(f"'{file}' cannot be written ({error.strerror})") from error
    return found


def verify(file: str | Path, raw: Mapping, task: str | None = None) -> str:
    """Whether a results file, and the samples of a task, are those that the run wrote.

    Args:
        raw: the file's content (`read_results`).
        task: whose samples are checked; None for the numbers alone.

    Returns:
        what cannot be checked, as the file is of an earlier version or was written by other hands; else "".

    Raises:
        RememError: they were changed, or are another run's.
    """
    bound = bound_of(raw)
    if raw.get(KEY) is not None and not isinstance(raw[KEY], Mapping):
        raise RememError(f"'{file}': its digests are {_short(raw[KEY])}")
    if "results" not in bound:
        return "no digests in the results file, so only the scores say whether samples and results belong together"
    if bound.get("format") != FORMAT:
        raise RememError(
            f"'{file}': its digests have format {_short(bound.get('format'))}, this version reads {FORMAT}"
        )
    own = digest_of_json([raw["results"], raw.get("n-samples"), bound.get("weights"), data_of(raw)])
    checks: list[tuple[str, object, Callable[[], str]]] = [
        ("numbers", bound.get("results"), lambda: own),
        ("settings", bound.get("settings"), lambda: digest_of_json(settings_of(raw))),
    ]
    for what, noted, found in checks:
        if noted != found():
            raise RememError(f"'{file}': its {what} are not those that the run wrote (their digest differs)")
    if task is None:
        return ""
    samples = samples_of(file, task)
    noted = bound["samples"].get(task) if isinstance(bound.get("samples"), Mapping) else None
    if noted is None:
        return f"no digest of the samples of {task} in the results file"
    if noted != digest_of_file(samples):
        raise RememError(
            f"'{samples}' is not the samples file that was written with the results beside it (its digest differs)"
        )
    return ""
