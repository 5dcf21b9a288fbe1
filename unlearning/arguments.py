"""From a command line to the arguments of a run: flags, recipes, and the help text."""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path

from trl import ModelConfig, TrlParser

from remem_tasks.errors import RememError
from unlearning import combinations, flags
from unlearning.config import Arguments, DataArguments, UnlearnConfig
from unlearning.methods import METHODS, NAMES

COMMON = [
    "output_dir",
    "num_train_epochs",
    "max_steps",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "learning_rate",
    "lr_scheduler_type",
    "warmup_steps",
    "weight_decay",
    "seed",
    "logging_steps",
    "save_strategy",
    "save_steps",
    "resume_from_checkpoint",
    "eval_strategy",
    "eval_steps",
    "eval_on_start",
    "bf16",
    "activation_checkpointing",
]
LORA = ["use_peft", "lora_r", "lora_alpha", "lora_dropout", "lora_target_modules"]


class TrainingParser(TrlParser):
    """TrlParser with a help text one can read and errors of one line."""

    def __init__(self):
        super().__init__((DataArguments, Arguments, ModelConfig), prog="unlearning.train", add_help=False)

    def error(self, message: str):
        raise RememError(message)

    def format_help(self) -> str:
        """The project's flags and the most used of TRL's; `--help_all` lists every one."""
        actions = {action.dest: action for action in self._actions}

        def section(title: str, names: Iterable[str]) -> list[str]:
            lines = [f"\n{title}"]
            for name in names:
                action = actions[name]
                default = "" if action.default in (None, "") else f" [{action.default}]"
                text = (action.help or "").strip().replace("%%", "%")
                lines += textwrap.wrap(
                    f"--{name}{default}  {text}", 100, initial_indent="  ", subsequent_indent=" " * 8
                )
            return lines

        own = [f.name for f in fields(UnlearnConfig) if f.name in UnlearnConfig.__annotations__]
        first = [
            "method",
            "gamma",
            "alpha",
            "retain_loss",
            "retain_per_forget",
            "l1_lora",
            "wrap",
            "sam_rho",
            "alternatives",
            "alternatives_each",
            "alternatives_tokens",
            "train",
            "vision_lr",
            "stop_on",
            "eval_rows",
            "eval_em",
            "overwrite_output_dir",
            "resume_without_state",
            "picture_cache_mb",
        ]
        assert set(first) <= set(own)
        lines = [
            "usage: accelerate launch unlearning/train.py --method M --model_name_or_path CKPT --output_dir OUT [...]",
            "       accelerate launch unlearning/train.py --config RECIPE|FILE.yaml [flags override the file]",
            "\nmethods",
        ]
        for name in NAMES:
            method = METHODS[name]
            summary = " ".join((method.__doc__ or "").split())
            called = ", ".join((name, *method.aliases))
            lines += textwrap.wrap(
                f"{called:<11} {summary}", 100, initial_indent="  ", subsequent_indent=" " * 14
            )
            for flag, option in method.options.items():
                lines.append(f"{' ' * 14}--{flag} [{option.default}]  {option.help}")
        lines += section("data", [f.name for f in fields(DataArguments)])
        lines += section("unlearning", first)
        lines += section("model", ["model_name_or_path", "dtype", *LORA])
        lines += section("training (a selection)", COMMON)
        lines.append(
            "\nEvery flag of TRL's SFTConfig and ModelConfig works or is refused with a reason: --help_all lists them.\n"
        )
        return "\n".join(lines)


LONGEST = 2**20
"""Bytes of a --config file."""
NEEDED = ("--method", "--model_name_or_path", "--output_dir")  # no run without these


def recipe(given: str) -> str:
    """The YAML file that `--config` names: a path, or the name of one in `configs/` (`npo`).

    Raises:
        RememError: neither.
    """
    folder = Path(__file__).resolve().parent / "configs"
    names = sorted(file.stem for file in folder.glob("*.yaml"))
    if Path(given).exists() and not Path(given).is_file():
        raise RememError(f"--config '{given}' is not a file")
    if Path(given).is_file() or given not in names:
        if Path(given).is_file() and Path(given).stat().st_size > LONGEST:
            raise RememError(f"--config '{given}' has more than {LONGEST:,} bytes")
        if Path(given).exists() or Path(given).suffix or os.sep in given:
            return given
        raise RememError(f"--config '{given}' is neither a file nor one of the recipes {', '.join(names)}")
    return str(folder / f"{given}.yaml")


def parse(argv: Sequence[str]) -> tuple[DataArguments, UnlearnConfig, ModelConfig] | None:
    """The arguments of a run; None if help was asked for and printed.

    Raises:
        RememError: an unknown flag or method, a value of the wrong kind, a broken YAML file.
    """
    argv = [part for arg in argv for part in (arg.split("=", 1) if arg.startswith("--config=") else [arg])]
    argv = [recipe(arg) if before == "--config" else arg for before, arg in zip(["", *argv], argv)]
    parser = TrainingParser()
    if {"-h", "--help"} & set(argv):
        print(parser.format_help())
        return None
    if "--help_all" in argv:
        print(super(TrainingParser, parser).format_help())
        return None
    named = {arg.split("=")[0] for arg in argv}
    if unknown := _unknown_flags((arg for arg in argv if arg.startswith("--")), parser):
        raise RememError(unknown)
    missing = [flag for flag in NEEDED if flag not in named]
    if "--config" not in named and len(missing) > 1:
        raise RememError(f"{' and '.join(missing)} are missing; --help says what they are")
    try:
        data_args, args, model_args = parser.parse_args_and_config(argv)
        flags.check(model_args)
        flags.check_numbers(model_args)
        combinations.check(args, model_args)
        return data_args, args, model_args
    except RememError:
        raise
    except IndexError as error:
        raise RememError("--config needs a file") from error
    except UnicodeDecodeError as error:
        raise RememError(f"the --config file cannot be read: byte {error.start} is not UTF-8") from error
    except (
        OSError,
        ValueError,
        TypeError,
        ImportError,
        ArithmeticError,
        LookupError,
        AttributeError,
    ) as error:
        # (Of a recipe's keys TRL lists all that are unknown, and their values.)
        told = _unknown_flags(re.findall(r"'(--\w+)'", str(error)), parser) or " ".join(str(error).split())
        raise RememError(told or type(error).__name__) from error
    except RecursionError as error:
        raise RememError("the --config file is nested too deep") from error
    except Exception as error:
        if type(error).__module__.startswith("yaml"):
            raise RememError(f"the --config file is not YAML: {' '.join(str(error).split())}") from error
        raise


def _unknown_flags(names: Iterable[str], parser: TrainingParser) -> str:
    """What is said of flags, or keys of a recipe, that nobody reads, each with what is nearest; "" if there are none.

    Args:
        names: `--flag`, with a value behind `=` or without; the beginning of a flag stands for it.
    """
    known = ["--config", *(flag for flag in parser._option_string_actions if flag.startswith("--"))]
    told = []
    for name in dict.fromkeys(name.partition("=")[0] for name in names):
        if not any(flag.startswith(name) for flag in known):
            near = get_close_matches(name, known, n=1)
            told.append(f"'{name}'" + (f" (did you mean {near[0]}?)" if near else ""))
    return f"unknown: {', '.join(told)}; --help and --help_all list the flags" if told else ""
