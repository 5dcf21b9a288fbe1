"""Load a checkpoint (and an adapter) whole or not at all: weights left at random would read as forgetting.

Both halves load through here: what is trained and what is scored must be the same model.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    AutoModelForImageTextToText,
    AutoProcessor,
    PretrainedConfig,
)
from transformers.utils import cached_file

from remem_tasks import checksums, steering
from remem_tasks.chat_template import check_template
from remem_tasks.checkpoint_files import (
    check_files,
    check_finite,
    check_types,
    digest,
    may_be_dropped,
    some,
    tensors_of,
)
from remem_tasks.errors import RememError, refused
from remem_tasks.files import beside, check_empty, new_folder, write_json
from remem_tasks.reading import read_object
from remem_tasks.run_record import RECORD, read_record

if TYPE_CHECKING:  # where an adapter is loaded it is imported: it takes seconds, most checkpoints have none
    from peft import PeftModel

HUB_ID = r"\w[\w.-]*(/\w[\w.-]*)?"


def reason(error: BaseException) -> str:
    """The first line of what an exception says."""
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__


def check_path(name: str, what: str) -> str:
    """`name` itself, unless it is plainly meant as a folder and there is none: it is no Hub id, or has no owner and is
    called much like a folder that is here.

    Args:
        name: a folder or a Hub id (`owner/name`).
        what: how the message calls it.
    """
    if Path(name).is_file():
        raise RememError(f"{what} '{name}' is a file, not a folder")
    if not Path(name).is_dir():
        near = beside(name)
        if not re.fullmatch(HUB_ID, name) or (near and "/" not in name):
            raise RememError(f"{what} '{name}': no such folder{near}")
    return name


def base_of_adapter(folder: str) -> str | None:
    """The base checkpoint that an adapter folder names; None if the folder holds no adapter.

    A folder is named by the way there from where the adapter was trained, as PEFT reads it. From elsewhere it is the one
    that the run's record names, or the first that lies so below a folder above the adapter's.
    """
    config = Path(folder, "adapter_config.json")
    if not config.is_file() or Path(folder, "config.json").is_file():
        return None
    base = read_object(config).get("base_model_name_or_path")
    if isinstance(base, str) and base:
        above = [Path(folder).resolve(), *Path(folder).resolve().parents]
        places = [Path(base), *_recorded(above[:2]), *(one / base for one in above)]
        for place in places if not os.path.isabs(base) else places[:1]:
            if place.is_dir():
                return str(place)
    if not isinstance(base, str) or not re.fullmatch(HUB_ID, base):
        raise RememError(
            f"adapter '{folder}' names the base checkpoint '{base}', which is not there; "
            f"give it: pretrained=<base>,peft={folder}"
        )
    return base


def _recorded(folders: Sequence[Path]) -> list[Path]:
    """What the records of runs in some folders name as the model that they started from."""
    found = [read_record(folder).get("model") for folder in folders if (folder / RECORD).is_file()]
    return [Path(one) for one in found if isinstance(one, str) and one]


def name_base_from(folder: str | Path) -> None:
    """Where an adapter's folder names its base by an absolute path, name it by the way there from here."""
    config = Path(folder, "adapter_config.json")
    if not config.is_file():
        return
    found = read_object(config)
    base = found.get("base_model_name_or_path")
    if isinstance(base, str) and os.path.isabs(base) and Path(base).is_dir():
        write_json(config, {**found, "base_model_name_or_path": os.path.relpath(base)})


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
    if Path(name).is_dir():
        checksums.check(name, checksums.PROCESSOR)
    try:
        processor = AutoProcessor.from_pretrained(name, **kwargs)
    except Exception as error:
        if base_of_adapter(name) is None:
            _config_of(name, **kwargs)  # no such checkpoint, or one of another kind, is a better reason
        raise RememError(
            f"checkpoint '{name}' has no processor that can be loaded ({reason(error)}); "
            "save one beside the weights"
        ) from error
    for part in ("image_processor", "tokenizer"):
        if getattr(processor, part, None) is None:
            if base_of_adapter(name) is None:
                _config_of(name, **kwargs)
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
        try:
            processor.chat_template = Path(chat_template).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RememError(f"chat_template '{chat_template}' cannot be read: {reason(error)}") from error
    elif not getattr(processor, "chat_template", None):
        processor.chat_template = getattr(processor.tokenizer, "chat_template", None)
    if not processor.chat_template:
        raise RememError(f"checkpoint '{name}' has no chat template; save one beside the weights")
    if processor.tokenizer.eos_token_id is None:
        raise RememError(f"checkpoint '{name}': its tokenizer has no end token")
    check_template(processor, chat_template or name)
    return processor


def _config_of(name: str, **kwargs: Any) -> PretrainedConfig:
    """The config of an image-text-to-text checkpoint.

    Args:
        name: folder or Hub id.
        kwargs: as for `load_model`.

    Raises:
        RememError: there is none, or it is of another kind of model.
    """
    common = {key: kwargs[key] for key in ("revision", "trust_remote_code") if key in kwargs}
    try:
        config = AutoConfig.from_pretrained(name, **common)
    except Exception as error:
        where = (
            "is a folder without a usable config"
            if Path(name).is_dir()
            else "is not a folder here and could not be fetched from the Hub"
        )
        raise RememError(
            f"checkpoint '{name}' {where} ({reason(error)}){'' if Path(name).is_dir() else beside(name)}"
        ) from error
    kind = type(config)
    of_its_own = common.get("trust_remote_code") and getattr(config, "auto_map", None)
    if kind not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING and not of_its_own:
        what = "sees no pictures" if kind in MODEL_FOR_CAUSAL_LM_MAPPING else "is of another kind"
        raise RememError(
            f"checkpoint '{name}' {what} (a {config.model_type} model); give an image-text-to-text checkpoint, "
            "such as llava-hf/llava-1.5-7b-hf"
        )
    return config


def _check_size(name: str, config: PretrainedConfig, stored: int) -> None:
    """Refuse a config that describes a far larger model than its files hold, before memory is taken for it.

    A part of a config that is missing or misread falls back on its class's defaults, which are of 7 billion weights;
    what the files lack would be made at random first, and reported afterwards.

    Args:
        stored: weights in the files.
    """
    if getattr(config, "quantization_config", None):
        return  # packed: fewer numbers stored than there are weights
    parts = [config, *(part for part in vars(config).values() if isinstance(part, PretrainedConfig))]
    layers = [getattr(part, "num_hidden_layers", None) for part in parts]
    most = max((count for count in layers if isinstance(count, int)), default=0)
    described = f"{most} layers" if most > stored else ""
    if not described:
        try:
            with torch.device("meta"):
                model = AutoModelForImageTextToText.from_config(config)
        except Exception:  # the loader says what is wrong with it
            return
        count = sum(weight.numel() for weight in model.parameters())
        described = f"{count} weights" if count > 2 * stored else ""
    if described:
        raise RememError(
            f"checkpoint '{name}': its config describes a model of {described}, its files hold {stored} weights"
        )


def load_model(name: str, steered: bool = False, **kwargs: Any):
    """An image-text-to-text model with all of its weights, and without a weight left over.

    Args:
        name: folder or Hub id.
        steered: whether it may be one with a steering file, which is then put on it (see `steering`).
        kwargs: for `from_pretrained`.

    Raises:
        RememError: it is steered, and may not be; it cannot be found or is of another kind; weights are missing, misshapen, NaN or infinite,
            stored in a type that its config does not explain, or have no place in the model.
    """
    local = Path(name).is_dir()
    config = _config_of(name, **kwargs)
    if local:
        checksums.check(name, checksums.WEIGHTS)
        _check_size(name, config, check_files(name))
    file = steering.file_of(name, config, **kwargs)
    if file is not None and not steered:
        raise RememError(
            f"checkpoint '{name}' is steered by its {steering.FILE}, which training or merging would lose: score it with "
            "remem_hf, or start from the checkpoint that it was made of"
        )
    if getattr(config, steering.MARK, None):
        kwargs["variant"] = steering.VARIANT
    try:
        model, info = AutoModelForImageTextToText.from_pretrained(
            name, output_loading_info=True, use_safetensors=True, **kwargs
        )
        if not local:
            check_files(Path(cached_file(name, "config.json", revision=kwargs.get("revision"))).parent)
    except RememError:
        raise
    except torch.OutOfMemoryError as error:
        raise RememError(f"checkpoint '{name}' does not fit on the device ({reason(error)})") from error
    except Exception as error:  # a damaged file or config breaks the library anywhere
        raise RememError(f"checkpoint '{name}' cannot be loaded: {reason(error)}") from error
    for kind in ("missing_keys", "mismatched_keys", "error_msgs"):
        if found := info.get(kind):
            raise RememError(f"checkpoint '{name}': {len(found)} {kind.replace('_', ' ')}: {some(found)}")
    left = [key for key in info.get("unexpected_keys") or () if not may_be_dropped(key)]
    if left:
        raise RememError(
            f"checkpoint '{name}': {len(left)} weights have no place in the model that its config describes "
            f"({config.model_type}): {some(left)}"
        )
    check_finite(model.named_parameters(), name)
    if file is not None:
        steering.put_on(model, steering.read(file))
    return model


def _adapter_weights(name: str) -> dict[str, torch.Tensor]:
    """The tensors of an adapter's folder or Hub id: safetensors alone, of plain and finite numbers."""
    from peft.utils import load_peft_weights

    if Path(name).is_dir():
        config, file = Path(name, "adapter_config.json"), Path(name, "adapter_model.safetensors")
        if not config.is_file():
            raise RememError(f"adapter '{name}' has no adapter_config.json")
        settings = read_object(config)
        if not file.is_file():
            raise RememError(f"adapter '{name}' has no adapter_model.safetensors")
        checksums.check(name, checksums.ADAPTER)
        check_types(tensors_of(file), name)
        _check_rank(name, settings, file)
    saved = load_peft_weights(name, device="cpu")
    check_finite(saved.items(), name)
    return saved


def _check_rank(name: str, settings: dict[str, Any], file: Path) -> None:
    """Refuse ranks that no stored tensor has, before memory is taken for them."""
    pattern = settings.get("rank_pattern")
    ranks = [settings.get("r"), *(pattern.values() if isinstance(pattern, dict) else ())]
    with safe_open(file, framework="pt") as opened:
        shapes = [opened.get_slice(one).get_shape() for one in opened.keys()]  # noqa: SIM118
    most = max((side for shape in shapes for side in shape), default=0)
    if wrong := [rank for rank in ranks if isinstance(rank, int) and rank > most]:
        raise RememError(
            f"adapter '{name}' has rank {str(wrong[0])[:60]}, its tensors at most {most} rows or columns"
        )


def _check_base(model, name: str) -> None:
    """Raise a RememError if an adapter's own record says that it was trained on other weights than the model's.

    The record holds a digest of exact values, so it is compared where neither side was cast to a lesser type.
    """
    record = Path(name, "run.json")
    if not record.is_file():
        return
    run = read_object(record)
    identity, arguments = run.get("identity"), run.get("arguments")
    made_on = identity.get("weights") if isinstance(identity, dict) else None
    given = arguments.get("model") if isinstance(arguments, dict) else None
    cast = given.get("dtype") if isinstance(given, dict) else None
    if isinstance(given, dict) and given.get("load_in_4bit"):
        cast = "4 bits"
    whole = getattr(model, "dtype", None) == torch.float32 and cast in (None, "auto", "float32")
    if made_on and whole and (found := digest(model)) != made_on:
        raise RememError(
            f"adapter '{name}' was trained on other weights ({made_on}) than those of '{model.name_or_path}' ({found})"
        )


def check_pair(model: Any, processor: Any, name: str) -> None:
    """Whether a model and a processor are of one checkpoint, as far as their numbers tell.

    Raises:
        RememError: the tokenizer has tokens that the model has no embedding for, an end token is none of its
            tokens, or the two name different tokens for a picture.
    """
    tokenizer = processor.tokenizer
    embedded = model.get_input_embeddings().weight.shape[0]
    if (most := max(tokenizer.get_vocab().values(), default=0)) >= embedded:
        raise RememError(
            f"checkpoint '{name}': its tokenizer goes up to token {most}, its model to {embedded - 1}"
        )
    ends = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    for end in ends if isinstance(ends, (list, tuple)) else [ends]:
        if end is not None and (isinstance(end, bool) or not isinstance(end, int) or not 0 <= end < embedded):
            raise RememError(
                f"checkpoint '{name}': eos_token_id {end!r} of its generation config is not a token"
            )
    placeholder = getattr(processor, "image_token", None)
    expected = getattr(model.config, "image_token_id", getattr(model.config, "image_token_index", None))
    if isinstance(placeholder, str) and expected is not None:
        found = tokenizer.convert_tokens_to_ids(placeholder)
        if found != expected:
            raise RememError(
                f"checkpoint '{name}': its config has image token {expected!r}, its processor {placeholder} ({found})"
            )


def load_adapter(model, name: str) -> PeftModel:
    """The model with an adapter on it, unmerged.

    Raises:
        RememError: no adapter there, or its weights are not exactly those that the model has places for, or it
            was trained on other weights.
    """
    from peft import PeftModel, get_peft_model_state_dict

    check_path(name, "adapter")
    try:
        saved = set(_adapter_weights(name))
        _check_base(model, name)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            adapted = PeftModel.from_pretrained(model, name)
    except RememError:
        raise
    except Exception as error:
        raise RememError(f"adapter '{name}' does not fit or cannot be loaded: {reason(error)}") from error
    if missing := [str(line.message) for line in said if "missing adapter keys" in str(line.message)]:
        raise RememError(f"adapter '{name}' does not fit the checkpoint: {missing[0][:200]}")
    if unplaced := saved - set(get_peft_model_state_dict(adapted)):
        raise RememError(f"adapter '{name}' has weights with no place in the checkpoint: {some(unplaced)}")
    return adapted


def load_merged(name: str, steered: bool = False, **kwargs: Any):
    """A checkpoint; of an adapter's folder the base with the adapter merged into it."""
    base = base_of_adapter(name)
    if base is None:
        return load_model(name, steered, **kwargs)
    model = load_adapter(load_model(base, **kwargs), name).merge_and_unload()
    model.config.name_or_path = name
    return model


UNWRITTEN = (
    "PytorchStreamWriter failed",
    "open file failed",
    "unexpected pos",
    "os error 27",
    "os error 28",
    "os error 122",
)
"""How torch and safetensors say that a file could not be written: no room, or a limit on its size."""


def unwritten(error: BaseException) -> str | None:
    """A line for weights or a state that could not be written; None for any other error."""
    text = str(error)
    if isinstance(error, (RuntimeError, SafetensorError)) and any(told in text for told in UNWRITTEN):
        return f"a file could not be written ({reason(error)})"
    return refused(error)


def save(model, processor, folder: str | Path) -> None:
    """Write a whole checkpoint (safetensors, config, tokenizer, processor, chat template).

    Raises:
        RememError: there is no room, or no right to write there.
    """
    try:
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
    except (OSError, RuntimeError, SafetensorError) as error:
        if (line := unwritten(error)) is None:
            raise
        raise RememError(f"checkpoint '{folder}': {line}") from error


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
        checksums.write(folder)
