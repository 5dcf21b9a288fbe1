"""What stage 1 did and did not teach: by attribute, hop and pictures; the multi-hop curse; recognition and
recall; new words and new pictures.

Everything is counted from the rows of one model's results on what it was trained on (`remem_finetune`, or
forget and retain sets) and on `remem_test`; of a checkpoint also from rows with words and pictures crossed (test
questions with training pictures, and the other way round), which `unlearning.experiments.crossed` makes and scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from remem_tasks.errors import RememError
from remem_tasks.metrics.words import occurs, tokens
from remem_tasks.report.gate import trained_on
from remem_tasks.report.model_run import Row, Run
from remem_tasks.report.statistics import wilson

CROSSED = {
    "new_words": "new words, training pictures",
    "new_pictures": "training words, new pictures",
}


@dataclass(frozen=True)
class Proportion:
    """A share of rows, with Wilson's 95 % interval; no rows, no share."""

    name: str
    right: int
    rows: int

    @property
    def value(self) -> float | None:
        return self.right / self.rows if self.rows else None

    @property
    def bounds(self) -> tuple[float, float]:
        return wilson(self.right / self.rows, self.rows) if self.rows else (0.0, 1.0)

    def record(self) -> dict:
        low, high = self.bounds
        return {
            "name": self.name,
            "right": self.right,
            "rows": self.rows,
            "value": self.value,
            "low": low,
            "high": high,
        }


@dataclass(frozen=True)
class ScoredRow:
    """One row and whether the reply was right."""

    row: Row
    right: bool
    reply: str

    @property
    def fact(self) -> tuple[str, str]:
        return self.row.identity, self.row.attribute


def asked_of(run: Run, wanted: Callable[[str], bool]) -> list[ScoredRow]:
    """The rows of ReMem's sets whose split is wanted, each question once."""
    found: dict[tuple, ScoredRow] = {}
    for task_result in run.task_results.values():
        if task_result.main == "em" and wanted(task_result.split):
            for row, reply, em in zip(task_result.rows, task_result.replies, task_result.scores["em"]):
                key = (row.identity, row.question, row.picture)
                found.setdefault(key, ScoredRow(row, bool(em == 1), reply.text))
    return list(found.values())


def share(name: str, asked: Iterable[ScoredRow]) -> Proportion:
    asked = list(asked)
    return Proportion(name, sum(one.right for one in asked), len(asked))


def shares_by(asked: Sequence[ScoredRow], key: Callable[[ScoredRow], object]) -> list[Proportion]:
    """A share for each value of the key, in its order."""
    groups: dict = {}
    for one in asked:
        groups.setdefault(key(one), []).append(one)
    return [share(str(name), groups[name]) for name in sorted(groups)]


def single_hops(asked: Sequence[ScoredRow]) -> dict[tuple[str, str], bool]:
    """(identity, attribute) → whether every 1-hop question about it was answered right."""
    facts: dict[tuple[str, str], bool] = {}
    for one in asked:
        if one.row.hop == 1:
            facts[one.fact] = facts.get(one.fact, True) and one.right
    return facts


def hops_of(row: Row, facts: Mapping[tuple[str, str], bool]) -> list[tuple[str, str]] | None:
    """The single hops that a row of two or more hops is made of, beside recognising the person.

    2-hop: the fact. 3-hop, about a relative: who the relative is, and the relative's fact (`spouse_city`
    = `spouse` and `spouse_city`). None where one of them is never asked by itself.
    """
    needed = [(row.identity, row.attribute)]
    if row.hop >= 3:
        relations = [
            name for who, name in facts if who == row.identity and row.attribute.startswith(name + "_")
        ]
        if not relations:
            return None
        needed.append((row.identity, max(relations, key=len)))
    return needed if all(one in facts for one in needed) else None


def curse(asked: Sequence[ScoredRow]) -> list[tuple[Proportion, Proportion, int]]:
    """The multi-hop curse: EM of a hop, EM of it where every single hop is right, rows that cannot be judged.

    A model that had learned to compose would answer all of the second kind.
    """
    facts = single_hops(asked)
    found = []
    for hop in sorted({one.row.hop for one in asked if one.row.hop >= 2}):
        of_hop = [one for one in asked if one.row.hop == hop]
        needed = [(one, hops_of(one.row, facts)) for one in of_hop]
        given = [one for one, hops in needed if hops is not None and all(facts[hop_] for hop_ in hops)]
        unknown = sum(hops is None for _, hops in needed)
        found.append((share(f"{hop}-hop", of_hop), share(f"{hop}-hop, single hops right", given), unknown))
    return found


def names_in(text: str, identity: str) -> bool:
    """Whether a text says the identity's name (`mara_quill`: the words mara quill side by side)."""
    return occurs(tokens(identity.replace("_", " ")), tokens(text))


@dataclass(frozen=True)
class Recognition:
    """2-hop questions: does it know who is in the picture, does it know the fact when told the name?

    Attributes:
        recognised: the reply to a question about the picture says the right name.
        recalled: the 1-hop question, which says the name, about the same fact was answered right.
        by: (recognised, recalled) → EM of the 2-hop question.
    """

    recognised: Proportion
    recalled: Proportion
    by: Mapping[tuple[bool, bool], Proportion]


def recognition(asked: Sequence[ScoredRow]) -> Recognition | str:
    """Recognition against recall, or why it cannot be told from these rows."""
    facts = single_hops(asked)
    two = [one for one in asked if one.row.hop == 2 and one.fact in facts]
    if not two:
        return "no fact is asked both in one hop and in two"
    if sum(names_in(one.row.answer, one.row.identity) for one in two) < len(two) / 2:
        return "the right answers do not say the person's name, so a reply need not either"
    seen = [(names_in(one.reply, one.row.identity), facts[one.fact], one) for one in two]
    cells = {
        (who, what): share(
            f"{'recognised' if who else 'not recognised'}, {'recalled' if what else 'not recalled'}",
            [one for a, b, one in seen if (a, b) == (who, what)],
        )
        for who in (True, False)
        for what in (True, False)
    }
    return Recognition(
        Proportion("recognised", sum(who for who, _, _ in seen), len(seen)),
        Proportion("recalled", sum(what for _, what, _ in seen), len(seen)),
        cells,
    )


@dataclass
class Diagnosis:
    """Everything that was counted of a model.

    Attributes:
        hops, attributes, pictures: EM on what was trained, by hop, attribute, and number of pictures that a
            fact was shown with (1-hop and deeper rows apart).
        curse: see `curse`; of the trained rows and of the test rows.
        contexts: EM with training or new words and pictures.
    """

    model: str
    hops: list[Proportion]
    attributes: list[Proportion]
    pictures: list[Proportion]
    curse: dict[str, list[tuple[Proportion, Proportion, int]]]
    recognition: dict[str, Recognition | str]
    contexts: list[Proportion]
    notes: list[str] = field(default_factory=list)

    def record(self) -> dict:
        def seen(found: Recognition | str) -> object:
            if isinstance(found, str):
                return found
            return {
                "recognised": found.recognised.record(),
                "recalled": found.recalled.record(),
                "two_hop": [one.record() for one in found.by.values()],
            }

        return {
            "model": self.model,
            "by_hop": [one.record() for one in self.hops],
            "by_attribute": [one.record() for one in self.attributes],
            "by_pictures": [one.record() for one in self.pictures],
            "curse": {
                name: [
                    {"all": both[0].record(), "given": both[1].record(), "not_judged": both[2]}
                    for both in found
                ]
                for name, found in self.curse.items()
            },
            "recognition": {name: seen(found) for name, found in self.recognition.items()},
            "contexts": [one.record() for one in self.contexts],
            "findings": self.findings(),
            "notes": self.notes,
        }

    def findings(self) -> list[str]:
        """What stands out, a line each; only what the intervals bear out."""
        lines = []
        for where, found in self.curse.items():
            for overall, given, _ in found:
                if given.rows and given.bounds[1] < 0.8:
                    lines.append(
                        f"multi-hop curse ({where}): {overall.name} EM is {given.value:.2f} though every single "
                        f"hop is right ({given.right} of {given.rows} rows)"
                    )
        for where, found in self.recognition.items():
            if not isinstance(found, str) and found.recognised.bounds[1] < found.recalled.bounds[0]:
                lines.append(
                    f"recognition is the weak link ({where}): it says the right name in {found.recognised.value:.2f}"
                    f" of the 2-hop rows, and knows the fact when told the name in {found.recalled.value:.2f}"
                )
        for one in self.hops:
            if one.bounds[1] < 0.8:
                lines.append(f"under-memorised: {one.name} EM is {one.value:.2f} on what was trained")
        if weak := [one.name for one in self.attributes if one.rows and one.bounds[1] < 0.8]:
            lines.append(
                f"under-memorised attributes: {', '.join(weak[:8])}" + (" …" if len(weak) > 8 else "")
            )
        context = {one.name: one for one in self.contexts}
        both, new = context.get("training words and pictures"), context.get("new words, new pictures")
        if both and new and new.bounds[1] < both.bounds[0]:
            lines.append(
                f"over-fitting: EM falls from {both.value:.2f} to {new.value:.2f} with new words and pictures"
            )
            parts = [(context[name], name) for name in CROSSED.values() if name in context]
            if len(parts) == 2 and abs(parts[0][0].value - parts[1][0].value) > 0.05:
                worst = min(parts, key=lambda part: part[0].value)
                lines.append(f"most of it comes with {worst[1]}: EM {worst[0].value:.2f}")
        return lines or ["nothing stands out"]


def diagnose(run: Run, crossed: Mapping[str, Run] | None = None) -> Diagnosis:
    """Count everything.

    Args:
        run: scored on something that was trained on, and better on `remem_test` too.
        crossed: `new_words` and `new_pictures` → the same model on crossed test rows.

    Raises:
        RememError: nothing that was trained on among the results.
    """
    trained, test = asked_of(run, trained_on), asked_of(run, lambda split: split == "test")
    if not trained and not any(result.benchmark_view.hops for result in run.task_results.values()):
        raise RememError(
            f"'{run.name}' was scored on {', '.join(run.task_results)}: diagnosis counts the hops and attributes of ReMem's "
            "rows, which no other benchmark names; `remem gate` says what such a model had memorised"
        )
    if not trained:
        raise RememError(
            f"'{run.name}' was scored on {', '.join(run.task_results)}: diagnosis needs what it was trained on "
            "(remem_finetune, or forget and retain sets)"
        )
    notes = []
    pictures: dict[tuple, set[str]] = {}
    for one in trained:
        pictures.setdefault(one.fact, set()).add(one.row.picture)
    if not any(task_result.split == "finetune" for task_result in run.task_results.values()):
        notes.append("not scored on remem_finetune: pictures are counted in the scored rows only")
    by_set = {"trained": trained, **({"test": test} if test else {})}
    contexts = [share("training words and pictures", trained)]
    for key, name in CROSSED.items():
        if crossed and key in crossed:
            contexts.append(share(name, asked_of(crossed[key], lambda split: split == "test")))
    if test:
        contexts.append(share("new words, new pictures", test))
    else:
        notes.append("not scored on remem_test: nothing is known of new words and pictures")
    return Diagnosis(
        model=run.name,
        hops=shares_by(trained, lambda one: f"{one.row.hop}-hop"),
        attributes=sorted(
            shares_by(trained, lambda one: one.row.attribute), key=lambda one: (one.value, one.name)
        ),
        pictures=[
            Proportion(f"{kind}, {one.name}", one.right, one.rows)
            for kind, keep in (("1-hop", lambda hop: hop == 1), ("multi-hop", lambda hop: hop > 1))
            for one in sorted(
                shares_by([a for a in trained if keep(a.row.hop)], lambda one: len(pictures[one.fact])),
                key=lambda one: int(one.name),
            )
        ],
        curse={name: curse(asked) for name, asked in by_set.items()},
        recognition={name: recognition(asked) for name, asked in by_set.items()},
        contexts=contexts,
        notes=notes,
    )
