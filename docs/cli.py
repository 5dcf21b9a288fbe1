"""`python docs/cli.py > docs/cli.md`: the commands and their flags, from the parsers that read them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from remem_tasks.benchmarks.scoring_config import flags_parser
from remem_tasks.cli import commands_parser

HEAD = """# Commands

Made by `python docs/cli.py > docs/cli.md` from the parsers of the commands; a test compares the two. `COMMAND --help` says the same.
"""
LMMS = """## lmms_eval

lmms-eval's own command with the tasks and the model of this package, a compact table at the end (`--long_table` adds the harness's), and an exit
status that is not 0 when a run failed. Beside all flags of lmms-eval:
"""
TRAIN = """
`accelerate launch` of the training script: `--accelerate NAME|FILE` and `--num_processes N` say how; all else is the script's.
`remem train --help` lists its own flags, [flags.md](flags.md) those of TRL and transformers.
"""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\\\|").replace("<", "\\\\<").replace("$", "\\\\$")


def _names(action: argparse.Action) -> str:
    if not action.option_strings:
        return f"`{action.metavar or action.dest}`"
    value = ""
    if action.nargs != 0:
        value = f" {action.metavar}" if action.metavar else f" {action.dest.upper()}"
        if action.choices:
            value = " " + "\\|".join(map(str, action.choices))
    return f"`{action.option_strings[-1]}{value}`"


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    text = parser._get_formatter()._expand_help(action) if action.help else ""
    return _cell(text) + (" (needed)" if action.required and action.option_strings else "")


def _table(parser: argparse.ArgumentParser) -> Iterator[str]:
    actions = [
        action
        for action in parser._actions
        if not isinstance(action, argparse._HelpAction | argparse._SubParsersAction)
    ]
    if actions:
        yield "| | |\n|---|---|"
        yield from (f"| {_names(action)} | {_help(parser, action)} |" for action in actions)
        yield ""


def _commands(parser: argparse.ArgumentParser, level: int) -> Iterator[str]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            texts = {choice.dest: choice.help for choice in action._choices_actions}
            for name, sub in action.choices.items():
                yield f"{'#' * level} {sub.prog}\n"
                yield f"{_cell(texts.get(name) or '')}.\n"
                if name == "train":
                    yield TRAIN
                    continue
                yield from _table(sub)
                yield from _commands(sub, level + 1)


def page() -> str:
    """The page's text."""
    lines = [HEAD, *_commands(commands_parser(), 2), LMMS, *_table(flags_parser())]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    print(page(), end="")
