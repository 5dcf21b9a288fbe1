"""What benchmarks of plain questions share: a row is one question, with its person's picture or in text alone.

A benchmark's `data.questions_of` makes the rows (see `ROW`); its `benchmark.py` says which scores a row has.
"""

from __future__ import annotations

import abc
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import datasets
from PIL import Image

from remem_tasks.benchmarks import exposure
from remem_tasks.benchmarks.base import (
    FactBenchmark,
    FailedReply,
    Metric,
    Reply,
    Request,
    RunContext,
    own_reply,
    text_of,
)
from remem_tasks.benchmarks.view import RIGHT
from remem_tasks.binding import parse_json, read_text
from remem_tasks.data.cells import emptiness, oddity
from remem_tasks.data.faults import ALLOW, REFUSE, row_name
from remem_tasks.data.home import DatasetSource
from remem_tasks.data.records import JsonReader
from remem_tasks.data.source import (
    check_fault_rate,
    digest,
    picture_of,
    read_config,
    some_left,
    training_table,
)
from remem_tasks.errors import RememError
from remem_tasks.metrics import cut_points, memo, memo_name
from remem_tasks.whitebox import Secret, WhiteBoxRequest, WhiteBoxResult

TEXT = datasets.Value("string")
WHOLE = datasets.Value("int64")
ROW = {
    **dict.fromkeys(("row_id", "identity", "kind", "modality", "prompt", "answer"), TEXT),
    # What begins the answer, and what of it is the secret behind; both "" where there is none.
    **dict.fromkeys(("cloze", "secret"), TEXT),
    **dict.fromkeys(("image_path", "source", "config"), TEXT),
    **dict.fromkeys(("place", "picture"), WHOLE),  # of the picture: the row there, and −1 for none
}
"""The columns that every question has."""
FEW = 0.01
"""The share of rows that may be faulty: they are left out, counted and named; above it a run is refused."""


def settle_few(faults: Sequence[str], asked: int, choice: str, source: str) -> str:
    """What is to be told of faulty rows that are left out; "" if there are none.

    Args:
        faults: one a row that cannot be asked, with its file and row.
        asked: how many rows can.
        choice: `refuse`, or `allow` for more than `FEW` of all rows.

    Raises:
        RememError: more than `FEW` are faulty, and they are to be refused.
    """
    few = len(faults) <= FEW * (len(faults) + asked)
    return check_fault_rate(faults, ALLOW if few else choice, source)


def tell_few(rows: Sequence, faults: Sequence[str], choice: str, source: str, told: list[str] | None) -> None:
    """Add to `told` what `settle_few` says of the rows that training leaves out.

    Raises:
        RememError: as `settle_few`, or no row is left.
    """
    some_left(rows, faults)
    if (let_pass := settle_few(faults, len(rows), choice, source)) and told is not None:
        told.append(let_pass)


def needed(cell: object, name: str, where: str) -> str:
    """A text that has to be there, without the blanks around it.

    Raises:
        RememError: behind `where` and the name of the cell, why it is none that a model can be taught.
    """
    if why := emptiness(cell) or oddity(cell):
        raise RememError(f"{where}: '{name}' {why}")
    return str(cell).strip()


def common_keys(records: Sequence[Mapping], known: set[str]) -> set[str]:
    """The keys that are known, and those that every record has: a column of the set is no slip of one row."""
    return known | (set.intersection(*map(set, records)) if records else set())


def refuse_unknown(record: Mapping, allowed: set[str], where: str) -> None:
    """Raise a RememError behind `where` that names the first key of a record that is not allowed."""
    if unknown := [key for key in record if key not in allowed]:
        raise RememError(f"{where}: unknown key '{unknown[0]}'")


def rows_of_file(
    source: str,
    config: str,
    name: str,
    home: DatasetSource,
    reader: JsonReader,
    make: Callable[[Mapping, str], dict],
    shown: Callable[[str], dict],
    faults: list[str] | None,
) -> Iterator[dict]:
    """The rows (`ROW`) of a file of records, each about its one picture.

    Args:
        name: of the set that asks them.
        reader: of the data's files.
        make: (record, how messages call it) → `prompt`, `answer` and what else is in the record.
        shown: path of the picture → `identity` and what else it tells.
        faults: gets what is wrong with records, which are left out; without it the first one is raised.

    Raises:
        RememError: a record that cannot be asked, or one that comes twice.
    """
    table = read_config(source, config, home)
    (file,) = reader.files(source, config)
    there = [cell is not None for cell in table.select_columns(["image"])["image"][:]]
    first: dict[tuple, int] = {}
    for place, (text, path) in enumerate(zip(table["record"][:], table["picture_path"][:])):
        where = f"'{file}', row {place}"
        try:
            made = make(json.loads(text), where)
            if not there[place]:
                raise RememError(f"{where}: no one picture '{path}' in the data set")
            try:
                told = shown(path)
            except RememError as error:
                raise RememError(f"{where}: {error}") from error
            twin = first.setdefault((path, made["prompt"], made["answer"]), place)
            if twin != place:
                raise RememError(f"{where}: the same question about the same picture as row {twin}")
        except RememError as error:
            if faults is None:
                raise
            faults.append(str(error))
            continue
        about = {"row_id": f"{name}/{config}:{place}", "image_path": path, "modality": "image"}
        found = {"source": source, "config": config, "place": place, "picture": 0}
        yield {"cloze": "", "secret": "", **told, **made, **about, **found}


def training_tables(asked: Sequence[Mapping], source: str, home: DatasetSource) -> datasets.Dataset:
    """Rows of `ROW` in the columns that training reads, config after config, with the pictures of each.

    Raises:
        RememError: there are no rows.
    """
    if not asked:
        raise RememError(f"{source}: no row to train on")
    tables = []
    for config in dict.fromkeys(row["config"] for row in asked):
        of_config = [{**row, "question": row["prompt"]} for row in asked if row["config"] == config]
        tables.append(training_table(of_config, read_config(source, config, home)))
    return datasets.concatenate_datasets(tables) if len(tables) > 1 else tables[0]


def training_of(
    title: str,
    home: DatasetSource,
    questions_of: Callable[[str, str, list[str]], Sequence[dict]],
    change: Callable[[Sequence[dict]], list[dict]] = list,
) -> Callable[..., datasets.Dataset]:
    """`training_rows` of a benchmark every row of which has a picture: a set in the columns that training reads.

    Args:
        title: how messages call the benchmark.
        questions_of: (data, name of the set, faults) → its rows (`ROW`).
        change: what else is done to them.
    """

    def training_rows(
        source: str, name: str, modality: str = "joint", choice: str = REFUSE, told: list[str] | None = None
    ) -> datasets.Dataset:
        """The rows of set `name`.

        Args:
            modality: of what is wanted; text alone is refused.
            choice: whether more than a few faulty rows are to `refuse` or `allow`.
            told: gets what is to be told of rows that are left out.

        Raises:
            RememError: as `questions_of`, or rows in text alone are asked for.
        """
        if modality == "text":
            raise RememError(f"--modality {modality}: every row of {title} has a picture")
        faults: list[str] = []
        rows = questions_of(source, name, faults)
        tell_few(rows, faults, choice, source, told)
        return training_tables(change(rows), source, home)

    return training_rows


def is_forgotten(split: str) -> bool:
    """Whether a set is to be forgotten."""
    return split.startswith("forget")


class QuestionBenchmark(FactBenchmark):
    """Questions of one module `data`; a subclass adds scores, and what else is asked."""

    data: ModuleType
    """With `HOME` and `questions_of(source, split, faults)`."""
    digested: Sequence[str] = ("row_id", "prompt", "answer")
    """The columns that a score depends on."""

    def load(self, source: str | None, split: str) -> tuple[datasets.Dataset, str]:
        source = self.data.HOME.resolve(source)
        faults: list[str] = []
        rows = self.data.questions_of(source, split, faults)
        some_left(rows, faults)
        return rows, source

    def fingerprint(self, rows: datasets.Dataset) -> str:
        return digest(rows, self.digested)

    def prepare(self, source: str, split: str, rows: datasets.Dataset, context: RunContext) -> RunContext:
        """Whether the set is to be forgotten; what is not available, and why."""
        faults: list[str] = []
        asked = len(self.data.questions_of(source, split, faults))
        missing = exposure.unavailable(context)
        if told := settle_few(faults, asked, context.scoring.faults, source):
            missing["questions"] = told
        if "exposure" in context.scoring.metrics and context.white_box and not any(rows["secret"][:]):
            missing["exposure"] = "no question says where in its answer the secret is"
        if "memo" in context.scoring.metrics and context.white_box and not any(map(self.cut_answer, rows)):
            missing["memo"] = "no answer of this set is one that MEMO begins"
        return replace(context, known={"forget": is_forgotten(split)}, missing={**context.missing, **missing})

    def requests(self, doc: Mapping, context: RunContext) -> list[Request]:
        return [Request(doc["prompt"])]

    def answers(self, doc: Mapping) -> tuple[str, ...]:
        """Whole answers whose log-probabilities the scores take."""
        return ()

    def begun(self, doc: Mapping) -> str:
        """The answer that MEMO begins for the model; "" where it begins none, as everywhere unless a benchmark says so."""
        return ""

    def cut_answer(self, doc: Mapping) -> str:
        """`begun`, where it is long enough to be cut: MEMO of a single character is undefined."""
        return answer if len(answer := self.begun(doc)) > 1 else ""

    def white_box_request(self, doc: Mapping, context: RunContext) -> WhiteBoxRequest | None:
        if not context.white_box:
            return None
        answers, scoring = self.answers(doc), context.scoring
        ranked = doc["secret"] and "exposure" in scoring.metrics
        begun = self.cut_answer(doc) if "memo" in scoring.metrics else ""
        if not answers and not ranked and not begun:
            return None
        asked = WhiteBoxRequest(doc["row_id"], row_name(doc), answers=answers)
        if begun:
            cuts = tuple(cut_points(begun, scoring.memo_stride))
            asked = replace(asked, answer=begun, cuts=cuts, memo_tokens=scoring.memo_tokens)
        if not ranked:
            return asked
        before = doc["cloze"].rstrip()
        behind = doc["answer"].removeprefix(doc["cloze"] + doc["secret"])
        after = behind if behind != doc["answer"] else ""
        secret = Secret(before, doc["cloze"][len(before) :] + doc["secret"], after=after)
        asked = replace(asked, secrets=(secret,), **exposure.options(context.scoring))
        return asked if doc["picture"] >= 0 else replace(asked, with_question=True)

    def images(self, doc: Mapping) -> list[Image.Image]:
        return picture_of(doc, self.data.HOME)

    def needs_picture(self, doc: Mapping) -> bool:
        return doc["picture"] >= 0

    def fact(self, doc: Mapping) -> dict[str, str]:
        """The attribute is the question itself, the secret the answer where the row has none of its own."""
        return {
            **{name: doc[name] for name in ("row_id", "identity", "answer", "image_path")},
            "attribute": doc["prompt"],
            "question": doc["prompt"],
            "keywords": json.dumps([doc["secret"].strip() or doc["answer"]]),
            "cloze_prompt": doc["cloze"].rstrip(),
        }

    def kept_rows(self, source: str, forget: str) -> datasets.Dataset:
        return self.load(source, self.data.retain_of(forget))[0]

    def target(self, doc: Mapping) -> str:
        return doc["answer"]

    @abc.abstractmethod
    def names(self, rows: datasets.Dataset, split: str, context: RunContext) -> list[Metric]:
        """The benchmark's own metrics."""

    @abc.abstractmethod
    def values(
        self, doc: Mapping, said: Sequence[str], findings: WhiteBoxResult | None, context: RunContext
    ) -> tuple[dict[str, object], dict[str, object]]:
        """(the values of a row's own metrics, what else the samples file keeps of it).

        Args:
            said: the replies, "" where there was none.
        """

    def sound_values(
        self, doc: Mapping, own: str | None, others: Sequence[str], context: RunContext
    ) -> dict[str, object]:
        """The row's scores that a failed reply must not have, as it would look like forgetting; none unless a benchmark has such.

        Args:
            own: the reply to the row's question; None where it failed.
            others: the replies to what else is asked, draw by draw; none where one of them failed.
        """
        return {}

    def metrics(self, rows: datasets.Dataset, split: str, context: RunContext) -> list[Metric]:
        found = self.names(rows, split, context)
        if context.white_box and "memo" in context.scoring.metrics and "memo" not in context.missing:
            found.append(
                Metric(f"{self.name}_{memo_name(context.scoring.memo_stride)}", not context.known["forget"])
            )
        if self._ranked(context):
            higher = not context.known["forget"]
            found += [
                Metric(f"{self.name}_{name}", higher == exposure.SCORES[name])
                for name in exposure.measured(context.scoring)
                if name != "reference_exposure"
            ]
            found += exposure.rate_metrics(self.name, context.scoring)
        return [*found, *self.rate_metrics(), Metric(f"{self.name}_rows", aggregate=len)]

    @staticmethod
    def _ranked(context: RunContext) -> bool:
        scoring = context.scoring
        return context.white_box and "exposure" in scoring.metrics and "exposure" not in context.missing

    def score(
        self,
        doc: Mapping,
        replies: Sequence[Reply | list[Reply]],
        context: RunContext,
        findings: WhiteBoxResult | None = None,
    ) -> dict[str, object]:
        """A failed reply scores 0 and counts in `…_failed_rate`, which fails a run above 1 %."""
        said = [text_of(own_reply([reply])) for reply in replies]
        row: dict[str, object] = {name: doc[name] for name in ("row_id", "identity", "kind", "modality")}
        row["picture"] = doc["image_path"] if doc["picture"] >= 0 else ""
        row["forgotten"] = context.known["forget"]
        try:
            scores, kept = self.values(doc, said, findings, context)
        except RememError as error:
            raise RememError(f"{row_name(doc)}: {error}") from error
        row |= kept
        if findings is not None and findings.continuations:
            name, stride = (
                f"{self.name}_{memo_name(context.scoring.memo_stride)}",
                context.scoring.memo_stride,
            )
            scores[name] = memo(self.cut_answer(doc), findings.continuations, stride)
        if findings is not None and findings.secrets:
            found = exposure.scores(findings.secrets, context.scoring)
            found.pop("reference_exposure", None)
            scores |= exposure.of_benchmark([self.name], self.name, found)
            row |= exposure.kept(findings.secrets)
        row["status"] = status = self.ended(own_reply(replies), self.correct(doc, said[0]) >= RIGHT)
        drawn = [one for reply in replies[1:] for one in (reply if isinstance(reply, list) else [reply])]
        sound = [one for one in drawn if not isinstance(one, FailedReply)]
        own = own_reply(replies)
        later = self.sound_values(
            doc,
            None if isinstance(own, FailedReply) else own,
            sound if len(sound) == len(drawn) else [],
            context,
        )
        return {**scores, **self.reply_rates(replies, status), f"{self.name}_rows": row, **later}


def gold_rows(path: str, task: str, benchmark: str, wanted: Sequence[str], name: str) -> dict[str, float]:
    """A number that the samples file of a gold model keeps, by row id.

    Args:
        path: its samples file, or the `--output_path` it was scored to (with --log_samples).
        task: whose samples.
        wanted: the ids of the rows that will be compared with it.
        name: of the number among the values of `<benchmark>_rows`.

    Raises:
        RememError: no such file; a row that is wanted and has no such number.
    """
    place = Path(path)
    if place.is_dir():
        files = sorted(place.rglob(f"*_samples_{task}.jsonl"), key=lambda file: file.name)
        if not files:
            raise RememError(
                f"gold model: no samples of task '{task}' below '{path}'; score it with --log_samples"
            )
        place = files[-1]
    found: dict[str, float] = {}
    for number, line in enumerate(filter(None, read_text(place).split("\n")), start=1):
        where = f"gold model: '{place}' is not a samples file of task '{task}': line {number}"
        sample = parse_json(line, where)
        row = sample.get(f"{benchmark}_rows") if isinstance(sample, dict) else None
        if not isinstance(row, dict) or not isinstance(row.get("row_id"), str):
            raise RememError(where)
        if isinstance(row.get(name), int | float):
            found[row["row_id"]] = float(row[name])
    if lacking := [one for one in wanted if one not in found]:
        raise RememError(
            f"gold model: '{place}' has no {name.replace('_', ' ')} of {len(lacking)} rows, such as '{lacking[0]}'; "
            "score all rows of the same data with the gold model"
        )
    return found
