"""What a model has answered, kept on disk by its weights: a run that was killed goes on, a repeated one is read.

A folder a model, named by a hash of everything that its answers depend on beside the row: the weights as
they are in memory (an adapter's included), configuration, processor, library versions and the engine's
own source. A line an answer, keyed by a hash of the row (its picture too) and of all that was asked.
So changed weights, data or options never find an answer of others.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import torch
import transformers
import xxhash
from PIL import Image

VARIABLE = "REMEM_CACHE"
OFF = ("off", "0", "false", "none")


def folder_of(given: str | None = None) -> Path | None:
    """The cache's folder: what is given, else $REMEM_CACHE, else ~/.cache/remem; None where it is off."""
    chosen = str(given if given is not None else os.environ.get(VARIABLE) or "~/.cache/remem")
    return None if chosen.lower() in OFF else Path(chosen).expanduser()


def _update(digest: Any, value: Any) -> None:
    """Hash a cell: numbers and texts, bytes, pictures, and lists and mappings of them."""
    if isinstance(value, Mapping):
        for name in sorted(value):
            _update(digest, name)
            _update(digest, value[name])
    elif isinstance(value, (list, tuple)):
        for item in value:
            _update(digest, item)
    elif isinstance(value, Image.Image):
        _update(digest, (value.mode, value.size, value.tobytes()))
    else:
        raw = value if isinstance(value, bytes) else repr(value).encode()
        digest.update(f"{type(value).__name__} {len(raw)} ".encode())
        digest.update(raw)


def hash_of(*values: Any) -> str:
    """32 hex digits of any cells."""
    digest = xxhash.xxh3_128()
    _update(digest, values)
    return digest.hexdigest()


@functools.cache
def _sources() -> str:
    return hash_of(*(file.read_bytes() for file in sorted(Path(__file__).parent.glob("*.py"))))


def hash_of_model(model: Any, processor: Any) -> str | None:
    """A hash of all that a model's answers depend on; None where some weights are not in memory."""
    digest = xxhash.xxh3_128()
    for name, tensor in model.state_dict().items():
        if not torch.is_tensor(tensor):
            continue
        if tensor.is_meta:
            return None
        _update(digest, (name, str(tensor.dtype), str(tensor.device.type), tuple(tensor.shape)))
        digest.update(tensor.detach().reshape(-1).contiguous().view(torch.uint8).cpu().numpy())
    config = {name: value for name, value in model.config.to_dict().items() if name != "_name_or_path"}
    adapters = {name: str(one.to_dict()) for name, one in getattr(model, "peft_config", {}).items()}
    tokenizer = processor.tokenizer
    backend = getattr(tokenizer, "backend_tokenizer", None)
    _update(
        digest,
        (
            type(model).__name__,
            str(config),
            adapters,
            getattr(model.config.get_text_config(), "_attn_implementation", None),
            str(processor.to_dict()),
            getattr(processor, "chat_template", None),
            backend.to_str() if backend is not None else str(sorted(tokenizer.get_vocab().items())),
            torch.__version__,
            transformers.__version__,
            _sources(),
        ),
    )
    return digest.hexdigest()


class Answer(NamedTuple):
    """One reply as it is kept.

    Attributes:
        text: what the model said.
        read, said: tokens of the prompt, and of the reply.
    """

    text: str
    read: int | None
    said: int | None


class Cache:
    """The answers of one model.

    Args:
        folder: of all models; made when the first answer is kept.
        model: `hash_of_model`.
    """

    def __init__(self, folder: Path, model: str) -> None:
        self.folder = folder / model
        self._file: IO[str] | None = None
        self._full = False
        self.kept: dict[str, dict] = {}
        for file in sorted(self.folder.glob("*.jsonl")):
            for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    record = json.loads(line)
                    self.kept[record["key"]] = record
                except (ValueError, TypeError, KeyError):
                    continue  # the last line of a run that was killed

    def get(self, key: str) -> list[Answer] | None:
        """The answers under a key, or None."""
        record = self.kept.get(key)
        if record is None:
            return None
        return [Answer(*answer) for answer in record["answers"]]

    def put(self, key: str, answers: list[Answer]) -> None:
        """Keep answers; they are on disk when this returns. A disk that takes no more ends the keeping."""
        if self._full:
            return
        record = {"key": key, "answers": answers}
        try:
            if self._file is None:
                self.folder.mkdir(parents=True, exist_ok=True)
                # A file a process, so that several can write at once.
                name = f"{time.time_ns()}-{os.getpid()}.jsonl"
                self._file = (self.folder / name).open("a", encoding="utf-8")
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()
        except OSError as error:
            self._full = True
            print(f"remem_hf: no more replies are kept under '{self.folder}': {error}", file=sys.stderr)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def size_of(folder: Path) -> tuple[int, int]:
    """(models, bytes) of a cache's folder."""
    files = list(folder.glob("*/*.jsonl"))
    return len({file.parent for file in files}), sum(file.stat().st_size for file in files)


def clear(folder: Path) -> None:
    """Remove every answer, and nothing else."""
    for file in folder.glob("*/*.jsonl"):
        file.unlink()
        if not any(file.parent.iterdir()):
            file.parent.rmdir()
