"""The tasks, and the model `remem_hf`, in EleutherAI's lm-evaluation-harness (`lm_eval`).

    lm_eval run --include_path "$(remem tasks-path lm_eval)" --model hf-multimodal \
        --model_args pretrained=CKPT --apply_chat_template --tasks remem_forget1,remem_retain
    remem lm_eval --model remem_hf --model_args pretrained=CKPT --tasks remem_forget1,remem_retain

The same rows, requests and scores as in lmms-eval. The second form is the harness's own command line with
`remem_hf` in its list of models, and so the scores that need log-probabilities.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from remem_tasks.benchmarks.registry import FOLDERS
from remem_tasks.engine.cache import folder_of
from remem_tasks.errors import RememError
from remem_tasks.files import write_whole

CLASS = re.compile(r"^class: !function \S+$", re.MULTILINE)
OURS = "class: !function remem_tasks.harness.lm_eval.task.LmEvalTask"


def tasks_folder() -> Path:
    """The tasks' YAML files as lm_eval reads them, made from those that lmms-eval reads.

    Raises:
        RememError: they cannot be written.
    """
    files = {}
    for number, folder in enumerate(FOLDERS):
        for file in sorted(folder.glob("*/tasks/*")):
            if file.is_file() and not file.name.startswith("."):
                name = f"{number}/{file.parent.parent.name}/{file.name}"
                files[name] = CLASS.sub(OURS, file.read_text(encoding="utf-8"))
    digest = hashlib.sha256("\0".join(f"{name}\0{text}" for name, text in files.items()).encode())
    out = (folder_of() or Path("~/.cache/remem").expanduser()) / "lm_eval_tasks" / digest.hexdigest()[:16]
    for name, text in files.items():
        if not (out / name).is_file() or (out / name).read_text(encoding="utf-8") != text:
            write_whole(out / name, text)
    return out


def installed() -> None:
    """Make sure that lm_eval is there.

    Raises:
        RememError: it is not.
    """
    try:
        import lm_eval  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "lm_eval":
            raise
        raise RememError("lm_eval is not installed: pip install 'remem-unlearning[lm_eval]'") from error


def main(arguments: Sequence[str]) -> None:
    """lm_eval's command line, with our tasks and `remem_hf` among its own."""
    installed()
    from lm_eval.__main__ import cli_evaluate

    from remem_tasks.harness.lm_eval import model

    model.register()
    arguments = list(arguments)
    told = any(one.split("=")[0] == "--include_path" for one in arguments)
    if not told and arguments[:1] != ["validate"] and not {"-h", "--help"} & set(arguments):
        arguments += ["--include_path", os.fspath(tasks_folder())]
    before, sys.argv = sys.argv, ["lm_eval", *arguments]
    try:
        cli_evaluate()
    except RememError:
        raise
    except (ValueError, KeyError) as error:  # how it refuses arguments and names of tasks
        raise RememError(f"lm_eval: {error}") from error
    finally:
        sys.argv = before
