"""What a model has answered, kept on disk by its weights: a run that was killed goes on, a repeated one is read.

A folder per model, named by a hash of everything that its answers depend on beside the row: the weights as
they are in memory (an adapter's included), configuration, processor, library versions and the engine's
own source. A line per batch of answers, each keyed by a hash of its prompt (its pictures too) and of all that was asked.
So changed weights, data or options never find an answer of others. A line ends in a checksum of itself:
what a kill, a disk or a hand has changed is dropped, counted and asked anew.
"""

from __future__ import annotations

import functools
import json
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import xxhash
from PIL import Image

from remem_tasks.errors import RememError

VARIABLE = "REMEM_CACHE"
OFF = ("off", "0", "false", "none")
ROOMS = ("benchmarks", "engine", "harness", "metrics")
LIBRARIES = ("tokenizers", "pillow", "torchvision", "peft")  # beside PyTorch and transformers
_FILE, _MODEL = re.compile(r"\d+-\d+\.jsonl"), re.compile(r"[0-9a-f]{32}")
LONGEST = 64 * 2**20
"""Bytes of a line that is read at most."""


def folder_of(given: str | None = None) -> Path | None:
    """The cache's folder: what is given, else $REMEM_CACHE, else ~/.cache/remem; None where it is off."""
    chosen = str(given if given is not None else os.environ.get(VARIABLE) or "~/.cache/remem")
    if chosen.lower() in OFF:
        return None
    try:
        return Path(chosen).expanduser()
    except RuntimeError as error:
        raise RememError(f"folder of kept replies '{chosen}': whose home that is, is not known") from error


def _update(digest: Any, value: Any) -> None:
    """Hash a cell: numbers and texts, bytes, pictures, arrays, and lists and mappings of them."""
    if isinstance(value, Mapping):
        digest.update(f"mapping {len(value)} ".encode())
        for name in sorted(value):
            _update(digest, name)
            _update(digest, value[name])
    elif isinstance(value, (list, tuple)):
        digest.update(f"list {len(value)} ".encode())
        for item in value:
            _update(digest, item)
    elif isinstance(value, Image.Image):
        # A palette is not among the bytes.
        shown = value.convert("RGBA") if value.mode in ("P", "PA") else value
        _update(digest, (shown.mode, shown.size, shown.tobytes()))
    elif hasattr(value, "__array__"):  # (as text, a large one is cut in the middle)
        array = np.asarray(value)
        _update(digest, (str(array.dtype), array.shape, array.tobytes()))
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
    """The source of all that turns a row into tokens, and tokens into an answer."""
    package = Path(__file__).parents[1]
    files = [file for room in ROOMS for file in sorted((package / room).rglob("*.py"))]
    return hash_of(*(file.read_bytes() for file in [*files, package / "seeds.py", package / "whitebox.py"]))


def _code_of(*parts: Any) -> list[bytes]:
    """The source of each of some objects that no installed package has (`trust_remote_code`), and of all beside it."""
    files = {
        beside
        for part in parts
        if type(part).__module__.startswith("transformers_modules.")
        and (file := getattr(sys.modules.get(type(part).__module__), "__file__", None))
        for beside in Path(file).parent.glob("*.py")
    }
    return [file.read_bytes() for file in sorted(files)]


def _words_of(processor: Any) -> list[str]:
    """What texts depend on beside the tokenizer's tables: which tokens end a turn, stand for pictures, are no text."""
    tokenizer = processor.tokenizer
    named = {name: value for name, value in vars(processor).items() if isinstance(value, str | int | None)}
    return [
        str(sorted(named.items(), key=str)),
        str(getattr(tokenizer, "special_tokens_map", None)),
        str(getattr(tokenizer, "all_special_ids", None)),
        str(getattr(tokenizer, "eos_token_id", None)),
        str(getattr(tokenizer, "chat_template", None)),
        str(getattr(tokenizer, "clean_up_tokenization_spaces", None)),
    ]


def hash_of_processor(processor: Any) -> str:
    """A hash of all that a prompt's tokens and pixels depend on beside the row."""
    tokenizer = processor.tokenizer
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return hash_of(
        str(processor.to_dict()),
        getattr(processor, "chat_template", None),
        backend.to_str() if backend is not None else str(sorted(tokenizer.get_vocab().items())),
        _words_of(processor),
        _code_of(processor, tokenizer, getattr(processor, "image_processor", None)),
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def hash_of_model(model: Any, processor: Any) -> str | None:
    """A hash of all that a model's answers depend on; None where some weights are not in memory."""
    import torch  # here: the folder's size, and where it is, are told without waiting for them
    import transformers

    from remem_tasks.steering import steering_of

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
    on = steering_of(model)
    _update(
        digest,
        (
            type(model).__name__,
            str(config),
            adapters,
            on and on.digest(),
            getattr(model.config.get_text_config(), "_attn_implementation", None),
            str(getattr(getattr(model, "generation_config", None), "eos_token_id", None)),
            hash_of_processor(processor),
            _code_of(model),
            torch.__version__,
            transformers.__version__,
            [_version(name) for name in LIBRARIES],
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


def _answer(text: Any, read: Any, said: Any) -> Answer:
    """An answer as it was kept; a ValueError if it cannot have been one."""
    for count in (read, said):
        if count is not None and (
            isinstance(count, bool) or not isinstance(count, int) or not 0 <= count < 2**53
        ):
            raise ValueError(f"{count} tokens")
    if not isinstance(text, str):
        raise ValueError("no text")
    return Answer(text, read, said)


def _parsed(line: bytes) -> list[tuple[str, list[Answer]]]:
    """(key, answers) of a line; a ValueError, TypeError or KeyError for one that is not as it was written."""
    record = json.loads(line.decode("utf-8"))
    if record.pop("sum") != hash_of(record):
        raise ValueError("the checksum is of another line")
    batch = [(key, [_answer(*answer) for answer in answers]) for key, answers in record["batch"]]
    if not all(isinstance(key, str) and answers for key, answers in batch):
        raise ValueError("an answer without a key, or a key without an answer")
    return batch


def _files(folder: Path, models: str = "") -> list[Path]:
    """The files in which replies are kept, by their names; links and what else lies there are none.

    Args:
        folder: of one model, or with `models="*/"` of all.
    """
    found = folder.glob(f"{models}*.jsonl")
    return sorted(
        file
        for file in found
        if _FILE.fullmatch(file.name)
        and file.is_file()
        and not file.is_symlink()
        and (not models or (_MODEL.fullmatch(file.parent.name) and not file.parent.is_symlink()))
    )


class Cache:
    """The answers of one model.

    Attributes:
        kept: the answers under each key.
        dropped: how many lines were damaged, or could not be read.

    Args:
        folder: of all models; made when the first answer is kept.
        model: `hash_of_model`.
    """

    def __init__(self, folder: Path, model: str) -> None:
        self.folder = folder / model
        self._file: IO[str] | None = None
        self._full = False
        self.kept: dict[str, list[Answer]] = {}
        self.dropped = 0
        try:
            files = _files(self.folder)
        except OSError as error:
            print(f"remem_hf: kept replies cannot be read: {error}", file=sys.stderr)
            files = []
        for file in files:
            try:
                self._read(file)
            except OSError as error:
                print(f"remem_hf: kept replies cannot be read: {error}", file=sys.stderr)
        if self.dropped:
            # A run that was killed leaves one at most.
            print(
                f"remem_hf: {self.dropped} damaged lines of '{self.folder}' are dropped and asked anew",
                file=sys.stderr,
            )

    def _read(self, file: Path) -> None:
        with file.open("rb") as opened:
            while line := opened.readline(LONGEST):
                try:
                    batch = _parsed(line)
                except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                    self.dropped += 1
                else:
                    self.kept.update(batch)

    def get(self, key: str) -> list[Answer] | None:
        """The answers under a key, or None."""
        return self.kept.get(key)

    def put(self, batch: Sequence[tuple[str, list[Answer]]]) -> None:
        """Keep the answers of a batch, under a key each; they are on disk when this returns.

        They are one line: a batch is kept whole or not at all, so that a run that goes on makes the same
        batches. A disk that takes no more ends the keeping.
        """
        if self._full or not batch:
            return
        record = {"batch": [[key, answers] for key, answers in batch]}
        try:
            if self._file is None:
                self.folder.mkdir(parents=True, exist_ok=True)
                # A file a process, so that several can write at once.
                name = f"{time.time_ns()}-{os.getpid()}.jsonl"
                self._file = (self.folder / name).open("a", encoding="utf-8")
            self._file.write(json.dumps({**record, "sum": hash_of(record)}) + "\n")
            self._file.flush()
        except OSError as error:
            self._full = True
            print(f"remem_hf: no more replies are kept under '{self.folder}': {error}", file=sys.stderr)

    def close(self) -> None:
        if self._file is not None:
            with suppress(OSError):  # what did not reach the disk was told
                self._file.close()
            self._file = None


def size_of(folder: Path) -> tuple[int, int]:
    """(models, bytes) of a cache's folder."""
    files = _files(folder, "*/")
    return len({file.parent for file in files}), sum(file.stat().st_size for file in files)


def clear(folder: Path) -> None:
    """Remove every answer, and nothing else."""
    for file in _files(folder, "*/"):
        file.unlink()
        if not any(file.parent.iterdir()):
            file.parent.rmdir()
