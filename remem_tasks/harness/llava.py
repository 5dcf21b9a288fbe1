"""`--model llava`: upstream's class where LLaVA-NeXT is installed, else `remem_hf` on the same weights.

Upstream's class needs the package `llava` of the LLaVA-NeXT repository, which is in no registry;
without it, it ends in a NameError. The released weights also exist as Hugging Face checkpoints.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from lmms_eval.models.registry_v2 import ModelManifest

from remem_tasks.errors import RememError
from remem_tasks.harness.remem_hf import RememHF

DEFAULT = "llava-hf/llava-1.5-7b-hf"
HUGGING_FACE_IDS = {
    "liuhaotian/llava-v1.5-7b": "llava-hf/llava-1.5-7b-hf",
    "liuhaotian/llava-v1.5-13b": "llava-hf/llava-1.5-13b-hf",
}


def has_llava_next() -> bool:
    """Whether LLaVA-NeXT's package is installed (found, not imported; a folder named `llava` will not do)."""
    spec = importlib.util.find_spec("llava")
    places = spec.submodule_search_locations if spec and spec.origin else None
    return any(Path(place, "model", "builder.py").is_file() for place in places or [])


def manifest() -> ModelManifest:
    """The registration of `llava`. LLaVA-NeXT is looked for once, when lmms-eval collects its models."""
    if has_llava_next():
        return ModelManifest("llava", simple_class_path=f"{__name__}.UpstreamLlava")
    return ModelManifest("llava", chat_class_path=f"{__name__}.Llava")


def _say(line: str) -> None:
    print(f"--model llava: {line}", file=sys.stderr)


def __getattr__(name: str):
    """`UpstreamLlava` is fetched when the harness asks for it: importing it here would import LLaVA-NeXT."""
    if name != "UpstreamLlava":
        raise AttributeError(name)
    try:
        import llava.model.builder  # noqa: F401
    except Exception as error:
        raise RememError(
            f"the package 'llava' is installed but cannot be imported ({error}); mend or uninstall it, "
            f"or use --model remem_hf --model_args pretrained={DEFAULT}"
        ) from error
    from lmms_eval.models.simple.llava import Llava as upstream

    _say("lmms-eval's own class, because the package 'llava' (LLaVA-NeXT) is installed")
    return upstream


class Llava(RememHF):
    """`remem_hf` with LLaVA-1.5 as the default checkpoint and the original ids mapped to the Hugging Face ones."""

    def __init__(self, pretrained: str = DEFAULT, **kwargs) -> None:
        checkpoint = HUGGING_FACE_IDS.get(str(pretrained).rstrip("/"), pretrained)
        _say(
            f"the Hugging Face checkpoint {checkpoint} through remem_hf, because the package 'llava' "
            "(LLaVA-NeXT), which lmms-eval's own class needs, is not installed"
        )
        super().__init__(pretrained=checkpoint, **kwargs)
