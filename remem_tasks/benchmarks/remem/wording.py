"""From a question and its answer to what ReMem wants to know of them: keyword, cloze prompt, depth, attribute.

Simple rules for simple English sentences; whatever they get wrong can be given in the table instead.
"""

from __future__ import annotations

import re

from remem_tasks.data.people import identity_key
from remem_tasks.metrics.cloze import continuations
from remem_tasks.metrics.words import tokens

LINKS = re.compile(
    r"\b(?:is|are|was|were|be|at|in|on|from|by|as|to|for|of|has|have|had|named|called|likes|plays|drives|owns|takes|uses|"
    r"speaks|earns|lives|works|studied|married)\b|[:=]",
    re.IGNORECASE,
)
ARTICLE = re.compile(r"(?:an?|the|his|her|their|my|your)\s+", re.IGNORECASE)
LITTLE = frozenset(
    [
        "a",
        "an",
        "the",
        "is",
        "are",
        "was",
        "were",
        "be",
        "do",
        "does",
        "did",
        "has",
        "have",
        "had",
        "can",
        "could",
        "would",
        "will",
        "you",
        "me",
        "i",
        "my",
        "your",
        "his",
        "her",
        "their",
        "its",
        "of",
        "in",
        "on",
        "at",
        "to",
        "for",
        "from",
        "by",
        "with",
        "and",
        "or",
        "what",
        "which",
        "who",
        "whom",
        "whose",
        "when",
        "where",
        "why",
        "how",
        "please",
        "tell",
        "give",
        "state",
        "name",
        "know",
        "person",
        "people",
        "image",
        "picture",
        "photo",
        "photograph",
        "shown",
        "here",
        "this",
        "that",
        "s",
    ]
)
END = " \t\n.!?。！？"
SENTENCE = "The answer is {value}."


def keyword_of(question: str, answer: str, person: str) -> str:
    """The value in an answer: what stands behind a linking word and is told neither by question nor by name.

    >>> keyword_of("When was Ada born?", "Ada Birch was born on 3 May 1990 in Oslo.", "Ada Birch")
    '3 May 1990 in Oslo'
    >>> keyword_of("What is her phone number?", "555 0101", "Ada Birch")
    '555 0101'

    Returns:
        A part of the answer; "" where there is none such.
    """
    known = {word for word in tokens(f"{question} {person}") if word not in LITTLE} | set(tokens(person))
    starts = [0, *(match.end() for match in LINKS.finditer(answer))]
    if not set(tokens(answer)) & known and len(tokens(answer)) <= 5 and not LINKS.search(answer):
        starts = [0]
    else:
        starts = starts[1:]
    for start in starts:
        rest = answer[start:].strip(END)
        if start and LINKS.match(rest):
            continue  # a value begins behind the last of several
        if article := ARTICLE.match(rest):
            rest = rest[article.end() :]
        words = tokens(rest)
        if words and not set(words) & known and set(words) - LITTLE:
            return rest
    return ""


def cloze_of(answer: str, keyword: str) -> str:
    """The answer up to its keyword; "" where the keyword begins it, or is not in it."""
    found = continuations(answer, "", [keyword])[0]
    return found.before if found else ""


def as_sentence(answer: str) -> str:
    """An answer that is a value alone as a sentence, so that something can stand before the value."""
    return SENTENCE.format(value=answer.strip(END))


def hop_of(question: str, person: str) -> int:
    """1 where a question names the person, 2 where the picture has to tell who is meant."""
    asked, name = set(tokens(question)), tokens(person)
    return 1 if asked & {word for word in name if len(word) > 1 or len(name) == 1} else 2


def attribute_of(question: str, person: str) -> str:
    """What a question asks for, the same for all people: its first four words that say something.

    >>> attribute_of("What is Ada's phone number?", "Ada Birch")
    'phone_number'
    """
    name = set(tokens(person))
    words = [word for word in tokens(question) if word not in LITTLE and word not in name]
    words = [word.removesuffix("'s") for word in words if word.removesuffix("'s") not in name]
    return "_".join(words[:4]) or identity_key(question)[:40]
