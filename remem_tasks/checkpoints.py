"""Load a checkpoint (and an adapter) whole or not at all: weights left at random would read as forgetting.

Both halves load through here: what is trained and what is scored must be the same model.
"""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict
from peft.utils import load_peft_weights
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from remem_tasks.errors import RememError
from remem_tasks.files import check_empty, new_folder

HUB_ID = r"\w[\w.-]*(/\w[\w.-]*)?"


def reason(error: BaseException) -> str:
    """The first line of what an exception says."""
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__


def _some(names) -> str:
    names = sorted(map(str, names))
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def check_path(name: str, what: str) -> str:
    """`name` itself, unless it is plainly meant as a folder and there is none.

    Args:
        name: a folder or a Hub id (`owner/name`).
        what: how the message calls it.
    """
    if Path(name).is_file():
        raise RememError(f"{what} '{name}' is a file, not a folder")
    if not Path(name).is_dir() and not re.fullmatch(HUB_ID, name):
        raise RememError(f"{what} '{name}': no such folder")
    return name


def base_of_adapter(folder: str) -> str | None:
    """The base checkpoint that an adapter folder names; None if the folder holds no adapter."""
    config = Path(folder, "adapter_config.json")
    if not config.is_file() or Path(folder, "config.json").is_file():
        return None
    base = json.loads(config.read_text()).get("base_model_name_or_path")
    if not base or not (Path(base).is_dir() or re.fullmatch(HUB_ID, base)):
        raise RememError(
            f"adapter '{folder}' names the base checkpoint '{base}', which is not there; "
            f"give it: pretrained=<base>,peft={folder}"
        )
    return base


def load_processor(
    name: str, chat_template: str | None = None, pixels: dict[str, int] | None = None, **kwargs: Any
):
    """The processor of a checkpoint, with an image processor, a tokenizer with an end token, and a chat template.

    Args:
        name: folder or Hub id.
        chat_template: a file to take the template from, in place of the checkpoint's.
        pixels: `min_pixels` and `max_pixels`, for the processors that know them.

    Raises:
        RememError: one of these is missing.
    """
    try:
        processor = AutoProcessor.from_pretrained(name, **kwargs)
    except Exception as error:
        raise RememError(
            f"checkpoint '{name}' has no processor that can be loaded ({reason(error)}); "
            "save one beside the weights"
        ) from error
    for part in ("image_processor", "tokenizer"):
        if getattr(processor, part, None) is None:
            raise RememError(
                f"checkpoint '{name}' has no {part.replace('_', ' ')} (its processor is a "
                f"{type(processor).__name__}); save one beside the weights"
            )
    if pixels:
        # Others take the option too, and ignore it.
        known = getattr(getattr(processor.image_processor, "valid_kwargs", None), "__annotations__", {})
        if unknown := [option for option in pixels if option not in known]:
            raise RememError(f"the image processor of '{name}' does not know {', '.join(unknown)}")
        processor = AutoProcessor.from_pretrained(name, **pixels, **kwargs)
    if chat_template:
        if not Path(chat_template).is_file():
            raise RememError(f"chat_template '{chat_template}': no such file")
        processor.chat_template = Path(chat_template).read_text()
    elif not getattr(processor, "chat_template", None):
        processor.chat_template = getattr(processor.tokenizer, "chat_template", None)
    if not processor.chat_template:
        raise RememError(f"checkpoint '{name}' has no chat template; save one beside the weights")
    if processor.tokenizer.eos_token_id is None:
        raise RememError(f"checkpoint '{name}': its tokenizer has no end token")
    return processor


def load_model(name: str, **kwargs: Any):
    """An image-text-to-text model with all of its weights.

    Args:
        name: folder or Hub id.
        kwargs: for `from_pretrained`.

    Raises:
        RememError: it cannot be found, is of another kind, or weights are missing or misshapen.
    """
    common = {key: kwargs[key] for key in ("revision", "trust_remote_code") if key in kwargs}
    try:
        AutoConfig.from_pretrained(name, **common)
    except Exception as error:
        where = (
            "is a folder without a usable config"
            if Path(name).is_dir()
            else ("is no folder here and could not be fetched from the Hub")
        )
        raise RememError(f"checkpoint '{name}' {where} ({reason(error)})") from error
    try:
        model, info = AutoModelForImageTextToText.from_pretrained(
            name, output_loading_info=True, use_safetensors=True, **kwargs
        )
    except torch.OutOfMemoryError as error:
        raise RememError(f"checkpoint '{name}' does not fit on the device ({reason(error)})") from error
    except (OSError, ValueError, RuntimeError, KeyError, ImportError) as error:
        raise RememError(f"checkpoint '{name}' cannot be loaded: {reason(error)}") from error
    for kind in ("missing_keys", "mismatched_keys", "error_msgs"):
        if found := info.get(kind):
            raise RememError(f"checkpoint '{name}': {len(found)} {kind.replace('_', ' ')}: {_some(found)}")
    return model


def load_adapter(model, name: str) -> PeftModel:
    """The model with an adapter on it, unmerged.

    Raises:
        RememError: no adapter there, or its weights are not exactly those that the model has places for.
    """
    check_path(name, "adapter")
    if Path(name).is_dir() and not Path(name, "adapter_config.json").is_file():
        raise RememError(f"adapter '{name}' has no adapter_config.json")
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            adapted = PeftModel.from_pretrained(model, name)
        saved = set(load_peft_weights(name, device="cpu"))
    except Exception as error:
        raise RememError(f"adapter '{name}' does not fit or cannot be loaded: {reason(error)}") from error
    if missing := [str(line.message) for line in said if "missing adapter keys" in str(line.message)]:
        raise RememError(f"adapter '{name}' does not fit the checkpoint: {missing[0][:200]}")
    if unplaced := saved - set(get_peft_model_state_dict(adapted)):
        raise RememError(f"adapter '{name}' has weights with no place in the checkpoint: {_some(unplaced)}")
    return adapted


def load_merged(name: str, **kwargs: Any):
    """A checkpoint; of an adapter's folder the base with the adapter merged into it."""
    base = base_of_adapter(name)
    if base is None:
        return load_model(name, **kwargs)
    model = load_adapter(load_model(base, **kwargs), name).merge_and_unload()
    model.config.name_or_path = name
    return model


def save(model, processor, folder: str | Path) -> None:
    """Write a whole checkpoint (safetensors, config, tokenizer, processor, chat template)."""
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def merge(adapter: str, out: str | Path) -> None:
    """Write the merged checkpoint of an adapter's folder, with the processor, to the empty folder `out`.

    Raises:
        RememError: no adapter there, no base or no processor to be found, or `out` not empty.
    """
    check_empty(out)
    base = base_of_adapter(check_path(adapter, "adapter"))
    if base is None:
        raise RememError(f"adapter '{adapter}' has no adapter_config.json")
    processor = load_processor(adapter if Path(adapter, "processor_config.json").is_file() else base)
    model = load_merged(adapter, dtype="auto")
    with new_folder(out) as folder:
        save(model, processor, folder)
