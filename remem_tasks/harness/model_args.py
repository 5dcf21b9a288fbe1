"""What `--model_args` say, for models that this package registers."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

from lmms_eval.utils import simple_parse_args_string

from remem_tasks.errors import RememError


def created(cls: type, arg_string: str, additional_config: Mapping | None = None) -> Any:
    """A model from `--model_args`, which go before the command line's --batch_size and --device.

    Raises:
        RememError: arguments that cannot be read, or that the model does not know.
    """
    given = {key: value for key, value in (additional_config or {}).items() if value is not None}
    if given.get("batch_size") == 1:  # not said: what the command line says is text
        del given["batch_size"]
    try:
        given |= simple_parse_args_string(arg_string)
    except ValueError as error:
        raise RememError(f"model_args '{arg_string}' cannot be read ({error})") from error
    known = _known(cls)
    if unknown := [name for name in given if name not in known]:
        raise RememError(f"model_args {', '.join(unknown)} unknown; known: {', '.join(known)}")
    return cls(**given)


def _known(cls: type) -> list[str]:
    """The arguments of a class by name: its own, and where it hands others on (`**kwargs`) those of the class it is made of."""
    found: dict[str, None] = {}
    for one in cls.__mro__:
        if "__init__" not in vars(one):
            continue
        taken = list(inspect.signature(vars(one)["__init__"]).parameters.values())[1:]
        found |= dict.fromkeys(
            arg.name for arg in taken if arg.kind in (arg.POSITIONAL_OR_KEYWORD, arg.KEYWORD_ONLY)
        )
        if all(arg.kind != arg.VAR_KEYWORD for arg in taken):
            break
    return list(found)


def natural(name: str, value: int | str, least: int = 1) -> int:
    """A whole number of at least `least`.

    Raises:
        RememError: something else.
    """
    if isinstance(value, bool) or not str(value).isdecimal() or int(value) < least:
        raise RememError(f"{name} '{value}' is not a whole number of at least {least}")
    return int(value)


def positive(name: str, value: float | str, least: float = 0.001) -> float:
    """A number of at least `least`.

    Raises:
        RememError: something else.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not least <= number < math.inf:
        raise RememError(f"{name} '{value}' is not a number of at least {least:g}")
    return number
