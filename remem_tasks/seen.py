"""What is seen of a text: signs that show nothing, and what chat templates write for pictures and ends of turns."""

from __future__ import annotations

import re
import unicodedata

_NAMED = (
    "ImageHere|pad|unk|bos|eos|mask|sep|cls|sop|eop|image|/image|video|/video|audio|/audio|IMG_CONTEXT|image_soft_token|start_of_turn|end_of_turn|"
    "end_of_utterance|(?:start|begin|end)_of_(?:image|audio|video|text|sentence)|fake_token_around_image|image_placeholder|image_newline|image_break|image_end|"
    r"global-img|row_\d+_col_\d+|im_(?:start|end|patch|col|row|newline)|extra_id_\d+|unused_?\d+|loc_?\d+|seg_?\d+|/?(?:box|ref|quad|img|s)"
)
MARKER = re.compile(
    rf"<[|\uff5c][^\s|\uff5c<>]{{1,40}}[|\uff5c]>|<(?:{_NAMED})>|"
    r"\[/?(?:INST|SYSTEM_PROMPT|TOOL_CALLS|AVAILABLE_TOOLS|TOOL_RESULTS)\]|\[IMG(?:_BREAK|_END)?\]|\[(?:CLS|SEP|PAD|UNK|gMASK|sMASK)\]"
)  # placeholders and special tokens of the templates in use
BLANK_LETTERS = frozenset("\u115f\u1160\u3164\uffa0\u2800")  # letters and signs that show nothing


def visible(text: str) -> bool:
    """Whether anything of a text is seen: not blanks, joiners, fillers, marks or control characters alone."""
    return any(
        unicodedata.category(character)[0] not in "ZCM" and character not in BLANK_LETTERS
        for character in text
    )


def says_nothing(reply: str) -> bool:
    """Whether a reply is blank: without a letter, digit or symbol, special tokens that were left in it aside.

    >>> says_nothing("</s> \u200b..."), says_nothing("5"), says_nothing("🙂")
    (True, False, False)
    """
    rest = MARKER.sub("", reply)
    return not any(
        unicodedata.category(character) not in ("Sk", "Sm")
        and unicodedata.category(character)[0] in "LNS"
        and character not in BLANK_LETTERS
        and character != "\ufffd"  # what a cut-off letter is decoded to
        for character in rest
    )
