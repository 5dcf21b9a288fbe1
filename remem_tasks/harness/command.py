"""lmms-eval's command line with our tasks, models and flags: what the console script `lmms_eval` runs."""

from __future__ import annotations

import argparse
import os
import sys
import types
from collections.abc import Sequence
from pathlib import Path

import yaml

from remem_tasks.benchmarks.scoring_config import SETTINGS, flags_parser, scoring_config_of, variable
from remem_tasks.errors import (
    INTERRUPTED,
    TERMINATED,
    RememError,
    Terminated,
    deaf_at_exit,
    sigterm_raises,
)
from remem_tasks.harness.exit_status import with_status
from remem_tasks.harness.plugin import install
from remem_tasks.terminal import own_line, say, short

LONG_TABLE = "--long_table"
"""The flag that adds the harness's table of all scores."""


def run_lmms_eval() -> int:
    """lmms-eval's command line with our tasks and models, where every failed run counts.

    Returns:
        The exit status: 0; 1 if a run failed or too many of its replies did; COLLAPSED if the replies are all
        blank or all the same; 130 on an interrupt, 143 on SIGTERM; argparse's own.
    """
    import lmms_eval.__main__ as upstream
    from lmms_eval.cli import dispatch

    install()
    cli_evaluate = upstream.__dict__["cli_evaluate"]
    ordinary = type(upstream)
    upstream.__class__ = types.ModuleType
    arguments, before = sys.argv, dict(os.environ)
    try:
        try:
            others = _take_flags(arguments[1:])
            config = _config_of(others)
        except RememError as error:
            say(f"lmms_eval: error: {short(error)}", file=sys.stderr)
            return 2
        long_table = LONG_TABLE in others
        sys.argv = [arguments[0], *(one for one in others if one != LONG_TABLE)]
        upstream.cli_evaluate = with_status(
            cli_evaluate, upstream, "lmms_eval", lambda args: True, long_table
        )
        with sigterm_raises():
            dispatch.main()
    except SystemExit as leaving:
        if isinstance(leaving.code, str):
            own_line(sys.stderr)
            say(leaving.code, file=sys.stderr)
            return 1
        return int(leaving.code or 0)
    except ValueError as error:
        if not config:
            raise
        own_line(sys.stderr)
        say(f"lmms_eval: error: --config {config}: {short(error)}", file=sys.stderr)
        return 2
    except Terminated:
        own_line(sys.stderr)
        say("lmms_eval: terminated", file=sys.stderr)
        return TERMINATED
    except KeyboardInterrupt:
        own_line(sys.stderr)
        say("lmms_eval: interrupted", file=sys.stderr)
        return INTERRUPTED
    finally:
        deaf_at_exit()
        sys.argv = arguments
        for name in map(variable, SETTINGS):
            if name in before:
                os.environ[name] = before[name]
            else:
                os.environ.pop(name, None)
        upstream.cli_evaluate = cli_evaluate
        upstream.__class__ = ordinary
    return 0


def _config_of(arguments: Sequence[str]) -> str:
    """The file of lmms-eval's `--config`, or "".

    Raises:
        RememError: it is not there, or holds no settings.
    """
    reader = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    reader.add_argument("--config")
    file = reader.parse_known_args(arguments)[0].config
    if not file:
        return ""
    try:
        told = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RememError(
            f"--config '{file}' cannot be read ({getattr(error, 'strerror', None) or 'no text'})"
        ) from error
    except yaml.YAMLError as error:
        raise RememError(f"--config '{file}' is not YAML ({str(error).splitlines()[0]})") from error
    runs = told if isinstance(told, list) else [told]
    if not runs or not all(isinstance(run, dict) and run for run in runs):
        raise RememError(
            f"--config '{file}' holds no settings: a mapping of flags (`tasks: remem_forget1`), or a list of them"
        )
    return file


def _take_flags(arguments: list[str]) -> list[str]:
    """Put the suite's flags into the environment, where tasks look; returns the other arguments.

    Raises:
        RememError: a value that is unknown or out of range.
    """
    parser = flags_parser()
    given, others = parser.parse_known_args(arguments)
    for name, value in vars(given).items():
        if value is not None:
            os.environ[variable(name)] = value
    scoring_config_of({})
    if {"-h", "--help"} & set(others):
        parser.add_argument(
            LONG_TABLE, action="store_true", help="print the harness's table of all scores too"
        )
        say(parser.format_help().removeprefix("usage: ").strip() + "\n")
    return others
