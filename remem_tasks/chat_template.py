"""Whether a chat template keeps what it is given: two chats that differ must give two prompts that differ."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from remem_tasks.errors import RememError

_WORDS = "Who lives in the house at the end of the road and what does this person do there every day?"
LENGTHS = (1, 8, 64)
"""How often the words stand between two texts' differing ends."""
_PICTURE = {"type": "image"}


def _user(*parts: dict) -> list[dict]:
    return [{"role": "user", "content": list(parts)}]


def _said(text: str) -> dict:
    return {"type": "text", "text": text}


def _pairs() -> list[tuple[str, list[dict], list[dict], bool]]:
    """(what a template that takes both for one drops, one chat, another, whether the assistant is to begin)."""
    found = []
    for length in LENGTHS:
        middle = " ".join([_WORDS] * length)
        for place, make in (("end", f"{middle} {{}}".format), ("beginning", f"{{}} {middle}".format)):
            one, other = (_user(_PICTURE, _said(make(name))) for name in ("Xylograph", "Quicksand"))
            found.append((f"the {place} of the question", one, other, True))
    question = _said(_WORDS)
    found.append(("the picture", _user(_PICTURE, question), _user(question), True))
    found.append(("the question", _user(_PICTURE, question), _user(_PICTURE, _said("Who?")), True))
    one, other = (
        [*_user(_PICTURE, question), {"role": "assistant", "content": [_said(name)]}]
        for name in ("Xylograph", "Quicksand")
    )
    found.append(("the assistant's answer", one, other, False))
    return found


def check_template(processor: Any, name: str) -> None:
    """Ask a template for prompts of chats that differ in one thing each.

    Args:
        processor: with its chat template.
        name: how messages call the checkpoint.

    Raises:
        RememError: the template fails, or drops what two chats differ in; names it.
    """
    for dropped, one, other, prompt in _pairs():
        try:
            texts = [
                processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=prompt)
                for chat in (one, other)
            ]
        except Exception as error:  # a template is a program of its own
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise RememError(f"the chat template of '{name}' fails: {lines[0]}") from error
        if texts[0] == texts[1] or _tokens(processor, texts[0]) == _tokens(processor, texts[1]):
            raise RememError(
                f"the chat template of '{name}' drops {dropped}: prompts that should differ are one"
            )


def check_system(processor: Any, name: str) -> None:
    """Raise a RememError if a template drops a system turn, which the user has asked for."""
    chat = _user(_PICTURE, _said(_WORDS))
    system = [{"role": "system", "content": [_said("Xylograph")]}, *chat]
    try:
        kept = "Xylograph" in processor.apply_chat_template(
            system, tokenize=False, add_generation_prompt=True
        )
    except Exception as error:
        raise RememError(f"the chat template of '{name}' takes no system turn: {error}") from error
    if not kept:
        raise RememError(f"the chat template of '{name}' drops the system prompt")


def _tokens(processor: Any, text: str) -> Sequence[int]:
    return processor.tokenizer(text, add_special_tokens=False)["input_ids"]


def _literal(text: str) -> str:
    """A string of Jinja."""
    return '"' + text.encode("unicode_escape").decode().replace('"', '\\"') + '"'


_GUARD, _END = "{# guardrail #}", "{% endif %}\n"  # (a newline of the text itself is escaped)


def guarded(processor: Any, text: str) -> Any:
    """A copy of a processor whose chat template begins every chat that has no system turn with one.

    Args:
        text: what that turn says.
    """
    turn = f"{{'role': 'system', 'content': [{{'type': 'text', 'text': {_literal(text)}}}]}}"
    # (On a line of its own, whose end Jinja leaves out as transformers sets it up: the rest stays as it was.)
    head = (
        f"{_GUARD}{{% if not messages or messages[0]['role'] != 'system' %}}{{% set messages = [{turn}] + messages %}}"
        f"{_END}"
    )
    made, template = copy.copy(processor), processor.chat_template
    made.chat_template = (
        {name: head + one for name, one in template.items()}
        if isinstance(template, dict)
        else head + template
    )
    return made


def unguarded(template: Any) -> Any:
    """A chat template, or several by name, without what `guarded` put before it: how a model is asked but for that."""
    if isinstance(template, dict):
        return {name: unguarded(one) for name, one in template.items()}
    if isinstance(template, str) and template.startswith(_GUARD):
        return template.partition(_END)[2]
    return template
