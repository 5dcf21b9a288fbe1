"""Checkpoints in and out: loading with every weight accounted for, folders that are never mixed."""

from __future__ import annotations

import logging
import os
import re
import shutil
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import is_peft_model
from transformers import PreTrainedModel, TrainerState

from remem_tasks import checkpoints, checksums
from remem_tasks.errors import RememError
from remem_tasks.files import write_json
from remem_tasks.parts import PARTS, part_of
from remem_tasks.reading import read_object
from remem_tasks.run_record import RECORD, read_record, unfinished

logger = logging.getLogger(__name__)

# LoRA on the language model alone. `all-linear` would adapt the vision tower and the projector too; a full
# match is asked of the name, and `lm_head` stands outside `language_model`.
LANGUAGE_MODEL_TARGETS = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"


def check_path(path: str | None) -> None:
    """Raise a RememError if a checkpoint is not given, or is a path that does not exist."""
    if not path:
        raise RememError("--model_name_or_path is missing: the checkpoint to start from")
    checkpoints.check_path(path, "checkpoint")


def load_model(path: str, steered: bool = False, **kwargs: Any) -> PreTrainedModel:
    """A vision-language model with all its weights; an adapter's folder gives the merged model.

    Args:
        path: folder or Hub id.
        steered: whether it may be one that a steering file changes, if it is not to be saved again.
        kwargs: for `from_pretrained`; `dtype` defaults to float32.

    Raises:
        RememError: not loadable, or a weight is missing or of another shape.
    """
    if checkpoints.base_of_adapter(path):
        logger.warning("'%s' is an adapter: it is merged into its base", path)
    return checkpoints.load_merged(path, steered, **{"dtype": torch.float32, **kwargs})


def is_plain_model(model: PreTrainedModel, sharded: bool) -> bool:
    """Whether weights are those of one whole model in this process (no adapter, no sharding)."""
    return not (is_peft_model(model) or sharded)


def load_weights(model: PreTrainedModel, folder: str | Path) -> None:
    """Put the weights of a saved model into one in memory, all of them.

    `from_pretrained` undoes the renaming of `save_pretrained`; a strict load then accepts neither a
    missing nor an unknown name.

    Raises:
        RememError: the folder's weights are not those of this model.
    """
    saved = load_model(str(folder), dtype=model.dtype)
    try:
        model.load_state_dict(saved.state_dict(), strict=True)
    except RuntimeError as error:
        raise RememError(
            f"checkpoint '{folder}' is of another model ({checkpoints.reason(error)})"
        ) from error


def select_trained(model: PreTrainedModel, parts: str) -> Counter:
    """Freeze all that is not to be trained in full fine-tuning.

    Args:
        parts: `all`, a comma-separated list of PARTS, or a regular expression searched in names.

    Returns:
        Number of trained values by part.

    Raises:
        RememError: the expression is none, or nothing is left to train.
    """
    if not parts.strip():
        raise RememError(f"--train '{parts}': name {', '.join(PARTS)}, all or a regular expression")
    wanted = [part.strip() for part in parts.split(",")]
    by_part = set(wanted) <= {*PARTS, "all"}
    try:
        pattern = re.compile(parts)
    except re.error as error:
        raise RememError(
            f"--train '{parts}' is neither {', '.join(PARTS)}, all nor a regular expression"
        ) from error
    for name, parameter in model.named_parameters():
        chosen = ("all" in wanted or part_of(name) in wanted) if by_part else bool(pattern.search(name))
        parameter.requires_grad_(chosen)
    trained = trained_by_part(model)
    if not sum(trained.values()):
        raise RememError(f"--train '{parts}' leaves nothing to train")
    return trained


def check_precision(model: PreTrainedModel) -> None:
    """Whether small updates of what is trained survive its precision.

    Near 1, bfloat16 has steps of 2⁻⁷: an update of a learning rate's size is rounded away. (DeepSpeed keeps weights in
    float32 beside those it trains.)

    Raises:
        RememError: something that is trained is of less than single precision.
    """
    if os.environ.get("ACCELERATE_USE_DEEPSPEED", "").lower() == "true":
        return
    coarse = {p.dtype for p in model.parameters() if p.requires_grad} & {torch.bfloat16, torch.float16}
    if coarse:
        name = str(coarse.pop()).removeprefix("torch.")
        raise RememError(
            f"full fine-tuning of weights in {name} would round most updates away: leave --dtype out (float32 weights; "
            "the forward is in bfloat16 all the same where the accelerator can), or train an adapter (--use_peft)"
        )


def trained_by_part(model: PreTrainedModel) -> Counter:
    """Number of trained values by part."""
    trained: Counter = Counter()
    for name, parameter in model.named_parameters():
        trained[part_of(name)] += parameter.numel() * parameter.requires_grad
    return trained


def check_output_dir(folder: str | Path, resume: bool, overwrite: bool) -> None:
    """Whether a run may write to a folder; writes nothing.

    Raises:
        RememError: it holds something, and the run neither resumes nor may overwrite it.
    """
    folder = Path(folder)
    if folder.is_file():
        raise RememError(f"output folder '{folder}' is a file")
    if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK):
        raise RememError(f"output folder '{folder}' cannot be written to")
    # A process that was killed while it replaced a file leaves the new one under a .tmp name.
    if not folder.is_dir() or all(entry.suffix == ".tmp" for entry in folder.iterdir()):
        return
    if resume and overwrite:
        raise RememError("--resume_from_checkpoint and --overwrite_output_dir exclude each other")
    ours = (folder / RECORD).is_file()
    if resume:
        if not ours:
            raise RememError(
                f"output folder '{folder}' is not empty and holds no run to resume (no run.json)"
            )
    elif not overwrite:
        told = unfinished(read_record(folder, ours=True))
        raise RememError(
            f"output folder '{folder}' is not empty{told and f' (a run is there: {told})'}; choose another, resume with "
            "--resume_from_checkpoint true, or give --overwrite_output_dir true"
        )
    elif not ours:
        raise RememError(
            f"output folder '{folder}' was not made by a run (no run.json); it is not overwritten"
        )


def last_checkpoint(folder: str | Path, processes: int = 1) -> str | None:
    """The newest checkpoint of a run that was written to its end; None if there is none.

    Its checksums are written last, so a run killed in the middle of a save goes on from the checkpoint
    before it; one of an older version has none, and counts where no other is there.
    """
    found: dict[tuple[bool, int], str] = {}
    for path in Path(folder).glob("checkpoint-*"):
        number = path.name.rpartition("-")[2]
        states = (
            [f"rng_state_{rank}.pth" for rank in range(processes)] if processes > 1 else ["rng_state.pth"]
        )
        if not number.isdecimal() or not all((path / name).is_file() for name in states):
            continue
        try:
            read_object(path / "trainer_state.json")
        except RememError:
            continue
        found[(path / checksums.FILE).is_file(), int(number)] = str(path)
    return found[max(found)] if found else None


def check_resumable(
    folder: str | Path,
    processes: int = 1,
    method_state: bool = False,
    lossy: bool = False,
    sharded: bool = False,
) -> list[str]:
    """Whether a run can go on from a checkpoint of its own to the same end.

    Args:
        folder: the checkpoint.
        processes: of the run; each has its own state of random numbers.
        method_state: whether the method keeps a state beside the optimizer's.
        lossy: whether it may go on without what is missing (`--resume_without_state`).
        sharded: whether it was trained with FSDP2, whose files have other names.

    Returns:
        The files that are missing.

    Raises:
        RememError: one is damaged, or is missing and `lossy` is not given.
    """
    folder = Path(folder)
    states = [f"rng_state_{rank}.pth" for rank in range(processes)] if processes > 1 else ["rng_state.pth"]
    named = ["pytorch_model_fsdp.bin", "optimizer.bin"] if sharded else ["optimizer.pt"]
    needed = [*named, "scheduler.pt", *states, *(["method_state.json"] if method_state else [])]
    missing = [name for name in [*needed, checksums.FILE] if not (folder / name).is_file()]
    if missing and not lossy:
        raise RememError(
            f"checkpoint '{folder}' has lost {', '.join(missing)}: training would go on with other weights than it would "
            "have; remove the checkpoint, or give --resume_without_state true"
        )
    for name in needed:
        if name in missing:
            continue
        if name.endswith(".json"):
            read_object(folder / name)
            continue
        try:
            with zipfile.ZipFile(folder / name) as archive:
                broken = archive.testzip()
        except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
            raise RememError(
                f"'{folder / name}' is damaged or cut short: {checkpoints.reason(error)}"
            ) from error
        if broken:
            raise RememError(f"'{folder / name}' is damaged: {broken} has another checksum")
    checksums.check(folder, lossy=lossy)
    _check_trainer_state(folder)
    return missing


def check_identity(earlier: Mapping[str, Any], identity: Mapping[str, Any], told: str) -> None:
    """Raise a RememError if something that is to be resumed is of another run.

    Args:
        earlier, identity: of what is there, and of the run that resumes.
        told: how the message begins.
    """
    for name, value in identity.items():
        if name in earlier and earlier[name] != value:
            raise RememError(f"{told} with {name} = {earlier[name]}, not {value}; it cannot be resumed")


def _check_trainer_state(folder: Path) -> None:
    """Raise a RememError if a checkpoint's `trainer_state.json` is none that transformers wrote of that step."""
    file = folder / "trainer_state.json"
    found = read_object(file)
    step, history = found.get("global_step"), found.get("log_history", [])
    if isinstance(step, bool) or not isinstance(step, int) or step < 0:
        raise RememError(f"'{file}': global_step {str(step)[:60]} is not a number of steps")
    named = re.fullmatch(r"checkpoint-(\d{1,18})", folder.name)
    if named and int(named.group(1)) != step:
        raise RememError(f"'{file}' is of step {step}, not of {folder.name}")
    if not isinstance(history, list) or not all(isinstance(entry, dict) for entry in history):
        raise RememError(f"'{file}': log_history is not a list of what was logged")
    try:
        TrainerState(**found)
    except (TypeError, ValueError, AttributeError) as error:
        raise RememError(f"'{file}' cannot be used: {checkpoints.reason(error)}") from error


def mark_interrupted(folder: str | Path, why: str) -> None:
    """Note in a run's record, if it has one, that it was interrupted, and the checkpoint it can go on from."""
    path = Path(folder) / RECORD
    if path.is_file():
        found = {"status": "interrupted", "stopped": why, "last_checkpoint": last_checkpoint(folder)}
        write_json(path, {**read_object(path), **found})


def clear(folder: str | Path) -> None:
    """Remove a folder that `check_output_dir` allows to be overwritten."""
    if (Path(folder) / RECORD).is_file():
        shutil.rmtree(folder)
