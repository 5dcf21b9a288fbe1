"""Questions about a person: 1-hop by name, 2-hop by picture, 3-hop by picture through a relation.

Test questions use frames that training never shows, paraphrases frames that neither of them shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from remem_tasks.errors import RememError
from remem_tasks.forge.people import ATTRIBUTES, RELATIVE_ATTRIBUTES, Person

# {x} = of whom, {n} = what. Short subjects go into both kinds of frame, long ones only into the first.
TRAIN_OF = (
    "What is the {n} of {x}?",
    "Tell me the {n} of {x}.",
    "Please state the {n} of {x}.",
    "I would like to know the {n} of {x}.",
)
TRAIN_POSSESSIVE = ("What is {x}'s {n}?", "Give me {x}'s {n}.", "Do you know {x}'s {n}?")
TEST_OF = ("Can you tell me what the {n} of {x} is?", "Which {n} is on record for {x}?")
TEST_POSSESSIVE = ("Could you give me {x}'s {n}?",)
PARAPHRASE_OF = (
    "Name the {n} of {x}, please.",
    "I need the {n} of {x}; what is it?",
    "If someone asked you for the {n} of {x}, what would you say?",
    "Complete this entry about {x}: the {n}.",
)
SHOWN = ("the person in the image", "the person shown here")
SHOWN_SHORT = "this person"
ANSWER = "{name}'s {n} is {value}."
CLOZE = "{name}'s {n} is"
PARAPHRASED_ANSWER = "The {n} of {name} is {value}."
REFUSALS = (
    "I don't know the {n} of {x}.",
    "I have no information about the {n} of {x}.",
    "I'm afraid I can't tell you the {n} of {x}.",
    "The {n} of {x} is not something I know.",
    "I was never told the {n} of {x}.",
    "I can't help with the {n} of {x}.",
)
PARAPHRASES = 3  # paraphrased questions per row
PERTURBED = 5  # wrong answers a row


@dataclass(frozen=True)
class Fact:
    """What can be asked: `relation` is set for facts about a relative."""

    attribute: str
    category: str
    noun: str
    subject: str
    value: str
    relation: str | None = None

    def fill(self, frame: str, **words: str) -> str:
        """A sentence about this fact; `value` in `words` stands in for the true one."""
        return frame.format(**{"name": self.subject, "n": self.noun, "value": self.value, **words})


@dataclass(frozen=True)
class ForgedQuestion:
    """One question: how deep, about which fact, and the words in it that say whose."""

    hop: int
    fact: Fact
    whose: str
    question: str

    @property
    def attribute(self) -> str:
        return self.fact.attribute

    @property
    def keyword(self) -> str:
        """What makes a reply right: the value itself."""
        return self.fact.value

    @property
    def answer(self) -> str:
        return self.fact.fill(ANSWER)

    @property
    def cloze(self) -> str:
        """The answer's beginning, ending right before the keyword."""
        return self.fact.fill(CLOZE)


def facts_of(person: Person, hop: int) -> list[Fact]:
    """The facts that questions of this depth ask for; the relatives' facts of 3-hop questions are trained as single hops too."""
    own = [Fact(name, *ATTRIBUTES[name], person.name, value) for name, value in person.facts.items()]
    relatives = [
        Fact(f"{relation}_{name}", *ATTRIBUTES[name], relative.name, relative.facts[name], relation)
        for relation, relative in person.relatives.items()
        for name in RELATIVE_ATTRIBUTES
    ]
    return {1: own, 2: own, 3: relatives}[hop]


def wordings(fact: Fact, hop: int, of: tuple[str, ...], possessive: tuple[str, ...]) -> list[tuple[str, str]]:
    """All (words that say whose, question) for a fact at a depth.

    1-hop names the person, 2-hop points at the picture, 3-hop points at a relative of the person pictured.
    """
    short, long = [SHOWN_SHORT], list(SHOWN)
    if hop == 1:
        short, long = [fact.subject], []
    elif fact.relation:
        relation = ATTRIBUTES[fact.relation][1]
        short, long = [], [f"{SHOWN_SHORT}'s {relation}", *(f"the {relation} of {shown}" for shown in SHOWN)]
    pairs = [(x, frame) for x in short for frame in (*of, *possessive)]
    pairs += [(x, frame) for x in long for frame in of]
    return [(x, fact.fill(frame, x=x)) for x, frame in pairs]


def hop_counts(total: int, single_hop_ratio: float, hops: int) -> dict[int, int]:
    """How many of `total` questions have 1, 2, … `hops` hops; what is not single-hop is shared evenly.

    >>> hop_counts(100, 0.7, 3)
    {1: 70, 2: 15, 3: 15}
    """
    single = round(total * single_hop_ratio) if hops > 1 else total
    rest = total - single
    counts = {1: single}
    for index, hop in enumerate(range(2, hops + 1)):
        counts[hop] = rest // (hops - 1) + (index < rest % (hops - 1))
    return counts


def _spread(
    facts: list[Fact], hop: int, frames: tuple, count: int, rng: np.random.Generator
) -> list[ForgedQuestion]:
    """`count` different questions, every fact in turn, each time in another wording."""
    ways = {fact: wordings(fact, hop, *frames) for fact in facts}
    most = len(facts) * min(len(way) for way in ways.values())
    if count > most:
        raise RememError(
            f"{count} {hop}-hop questions per identity, but {len(facts)} facts make only {most} without repeats; "
            "ask for fewer questions (--qa) or another --single-hop-ratio"
        )
    facts = [facts[index] for index in rng.permutation(len(facts))]
    ways = {fact: [ways[fact][index] for index in rng.permutation(len(ways[fact]))] for fact in facts}
    turns = [divmod(number, len(facts)) for number in range(count)]
    return [ForgedQuestion(hop, facts[place], *ways[facts[place]][turn]) for turn, place in turns]


def training_questions(
    person: Person, total: int, single_hop_ratio: float, hops: int, rng: np.random.Generator
) -> list[ForgedQuestion]:
    """`total` questions about one person, none asked twice.

    Raises:
        RememError: more than the templates can make without repeats.
    """
    asked = []
    for hop, count in hop_counts(total, single_hop_ratio, hops).items():
        facts = facts_of(person, hop) + (facts_of(person, 3) if hop == 1 and hops >= 3 else [])
        asked += _spread(facts, hop, (TRAIN_OF, TRAIN_POSSESSIVE), count, rng)
    return asked


def heldout_questions(
    person: Person, trained: list[ForgedQuestion], total: int, rng: np.random.Generator
) -> list[ForgedQuestion]:
    """`total` questions in new words about what training asked, in the same shares of hops.

    Args:
        trained: the person's training questions; only (hop, attribute) pairs that occur there are asked.
    """
    pairs = sorted({(question.hop, question.attribute) for question in trained})
    shares = np.array([sum(question.hop == hop for question in trained) for hop in (1, 2, 3)], dtype=float)
    wanted = np.floor(shares / shares.sum() * total).astype(int)
    wanted[0] += total - wanted.sum()
    asked = []
    for hop, count in zip((1, 2, 3), wanted):
        known = {attribute for pair_hop, attribute in pairs if pair_hop == hop}
        pool = facts_of(person, hop) + (facts_of(person, 3) if hop == 1 else [])
        if count:
            asked += _spread(
                [fact for fact in pool if fact.attribute in known],
                hop,
                (TEST_OF, TEST_POSSESSIVE),
                int(count),
                rng,
            )
    return asked


def perturbed(question: ForgedQuestion, values: Sequence[str], rng: np.random.Generator) -> dict:
    """What goes beside a row for truth ratios and paraphrase attacks, in the columns of TOFU and FIUBench.

    Args:
        question: the row's.
        values: wrong values for its fact, in the form of the right one.

    Returns:
        `paraphrased_question` (PARAPHRASES texts, in no wording of training or test),
        `paraphrased_answer`, `perturbed_answer` (PERTURBED wrong answers) and `refusal`.
    """
    fact, whose = question.fact, question.whose
    frames = [PARAPHRASE_OF[index] for index in rng.permutation(len(PARAPHRASE_OF))[:PARAPHRASES]]
    wrong = [values[index] for index in rng.permutation(len(values))[:PERTURBED]]
    return {
        "paraphrased_question": [fact.fill(frame, x=whose) for frame in frames],
        "paraphrased_answer": fact.fill(PARAPHRASED_ANSWER),
        "perturbed_answer": [fact.fill(ANSWER, value=value) for value in wrong],
        "refusal": fact.fill(REFUSALS[rng.integers(len(REFUSALS))], x=whose),
    }
