"""CLEAR (arXiv 2410.18057, Hub `therem/CLEAR`): its configs, and the questions that are asked of their rows.

A row of people gives a caption question (one of nine, drawn by the caption) and, where its perturbed
partner has other names, a name question. A row of a `+tofu` config is a picture with its caption or a
text question. `real_faces` asks for names, `real_world` has its own questions.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import Any

import datasets

from remem_tasks.benchmarks.clear.questions import caption_question
from remem_tasks.benchmarks.forget_sets import ForgetSets
from remem_tasks.data.cells import emptiness, oddity
from remem_tasks.data.faults import CANNOT, REFUSE
from remem_tasks.data.home import DatasetSource
from remem_tasks.data.people import check_known, identity_key, look_alikes
from remem_tasks.data.report import ConfigReport
from remem_tasks.data.source import (
    check_columns,
    check_fault_rate,
    count_images,
    digest,
    has_config,
    known_configs,
    non_empty,
    read_config,
    some_left,
    table_of,
    training_table,
)
from remem_tasks.errors import RememError

TEXT, TEXTS, PICTURE = datasets.Value("string"), datasets.List(datasets.Value("string")), datasets.Image()
PEOPLE = {"image": PICTURE, "caption": TEXT, "name": TEXT}
MIXED = {"image": PICTURE, "caption": TEXT, "question": TEXT, "answer": TEXT}
PERTURBED = {**PEOPLE, "paraphrased_caption": TEXT, "perturbed_names": TEXTS, "perturbed_captions": TEXTS}
FORGET = ("forget01", "forget05", "forget10")
RETAIN = ("retain99", "retain95", "retain90")
FEATURES: dict[str, datasets.Features] = {
    name: datasets.Features(columns)
    for name, columns in {
        "default": PEOPLE,
        "full": PEOPLE,
        **dict.fromkeys((*FORGET, *RETAIN), PEOPLE),
        **{f"{name}+tofu": MIXED for name in (*FORGET, *RETAIN, "full")},
        **{f"{name}_perturbed": PERTURBED for name in (*FORGET, "retain")},
        "real_faces": {"image": PICTURE, "answer": TEXT, "options": TEXTS},
        "real_world": {"question": TEXT, "answer": TEXT, "options": TEXTS, "image": PICTURE},
    }.items()
}
HOME = DatasetSource("CLEAR", "therem/CLEAR", "REMEM_CLEAR_DATA", tuple(FEATURES), FEATURES)
KNOWN_BY = (
    "full+tofu",
    "forget10+tofu",
    "real_faces",
)  # configs; a data set with one of them is of this benchmark
FINETUNE = "full"  # what a model memorises
REAL = "real"  # both sets about the real world, as one

NAME_QUESTION = "The name of the person on the image is "
COLUMNS = ("question", "answer", "paraphrase", "wrong", "row_id")


def partner_of(config: str) -> str | None:
    """The perturbed config that stands beside a config of people; None where it needs none."""
    if config in FORGET:
        return f"{config}_perturbed"
    return "retain_perturbed" if config in RETAIN else None


def modality_configs(modality: str, name: str) -> tuple[str, bool, bool]:
    """(config, pictures, texts) that hold the joint, text or image rows of `forget10`, `retain90`, `full`."""
    base = name.removesuffix("+tofu")
    return {
        "joint": (f"{base}+tofu", True, True),
        "text": (f"{base}+tofu", False, True),
        "image": (base, True, False),
    }[modality]


FORGET_SETS = ForgetSets(
    "CLEAR",
    dict(zip(FORGET, RETAIN)),
    also={f"{name}+tofu": name for name in FORGET},
    beside={name: (f"{name}+tofu", f"{name}_perturbed") for name in FORGET},
)
retain_of, scored_as = FORGET_SETS.retain_of, FORGET_SETS.scored_as


def people_of(source: str, config: str) -> set[str]:
    """The keys (`people.identity_key`) of the people that a config names; none where its rows name nobody."""
    config = config.removesuffix("+tofu")  # whose rows name nobody
    if "name" not in FEATURES.get(config, ()) or not has_config(source, config, HOME):
        return set()
    table = read_config(source, config, HOME)
    names = table["name"][:] if "name" in table.column_names else []
    return {identity_key(name) for name in names if non_empty(name)}


def check_people(source: str, forget: str) -> None:
    """Raise a RememError if people of a forget set were never memorised, or are retained, as far as rows name them."""
    base, retain = forget.removesuffix("+tofu"), retain_of(forget)
    forgotten = people_of(source, base)
    if known := people_of(source, FINETUNE):
        check_known(forgotten, known, f"'{base}'", f"'{FINETUNE}'")
    if both := forgotten & people_of(source, retain):
        raise RememError(
            f"{source}: {len(both)} people are in '{base}' and in '{retain}', such as '{min(both)}'"
        )


def _where(config: str, index: int) -> str:
    return f"config '{config}', row {index}"


def _need(row: dict, names: Iterable[str], where: str) -> None:
    for name in names:
        if why := emptiness(row[name]) or oddity(row[name]):
            raise RememError(f"{where}: column '{name}' {why}")


def _need_list(row: dict, name: str, right: str, where: str) -> list[str]:
    """The wrong answers of a list column: without the right one, which some lists hold too."""
    cells = row[name]
    if (
        why := "is null"
        if cells is None
        else next((why for cell in cells if (why := emptiness(cell) or oddity(cell))), "")
    ):
        raise RememError(f"{where}: column '{name}' {why if cells is None else 'has a text that ' + why}")
    wrong = [cell for cell in dict.fromkeys(cells) if cell.strip() != right.strip()]
    if not wrong:
        raise RememError(f"{where}: column '{name}' has no wrong answer")
    return wrong


ASKED = datasets.Features(
    {
        **dict.fromkeys(("row_id", "kind", "question", "answer", "paraphrase"), TEXT),
        "wrong": TEXTS,
        **dict.fromkeys(("identity", "image_path", "source", "config"), TEXT),
        **dict.fromkeys(("place", "picture"), datasets.Value("int64")),
    }
)


def _question(
    kind: str, question: str, answer: str, source: str, config: str, place: int, shown: bool, **more: object
) -> dict:
    return {
        "row_id": f"{config}{'/name' if kind == 'name' else ''}:{place}",
        "kind": kind,
        "question": question,
        "answer": answer,
        "paraphrase": None,
        "wrong": [],
        "identity": "",
        "image_path": f"{config}/{place}",
        "source": source,
        "config": config,
        "place": place,
        "picture": 0 if shown else -1,
        **more,
    }


def _texts(table: datasets.Dataset) -> list[dict]:
    return table.remove_columns([name for name in ("image",) if name in table.column_names]).to_list()


def _table(source: str, config: str) -> tuple[list[dict], list[bool]]:
    """(rows without their pictures, whether each has one) of a config, its columns checked."""
    table = read_config(source, config, HOME)
    wanted = set(FEATURES[config]) - ({"image"} if config == "real_world" else set())
    check_columns(table, wanted, source, config)
    return _texts(table), count_images(table)


def _beside(row: dict, where: str) -> tuple[dict, dict]:
    """What a perturbed row adds to the caption question, and to the name question."""
    _need(row, ("paraphrased_caption",), where)
    return (
        {
            "paraphrase": row["paraphrased_caption"],
            "wrong": _need_list(row, "perturbed_captions", row["caption"], where),
        },
        {"wrong": _need_list(row, "perturbed_names", row["name"], where)},
    )


Faults = list[str] | None  # where faulty rows are collected; without it the first one is raised


def _each(
    rows: Sequence[dict], config: str, make: Callable[[int, dict, str], list[dict]], faults: Faults
) -> Iterator[dict]:
    """The questions that `make` gives of each row (its index, the row, how messages call it)."""
    for index, row in enumerate(rows):
        try:
            yield from make(index, row, _where(config, index))
        except RememError as error:
            if faults is None:
                raise
            faults.append(str(error))


def _person_and_caption(row: dict) -> tuple[str, str]:
    """By which a row finds its perturbed partner."""
    return identity_key(row["name"]), " ".join(unicodedata.normalize("NFKC", row["caption"]).split())


def _of_people(
    source: str, config: str, partner: str | None, faults: Faults = None, choice: str | None = None
) -> Iterator[dict]:
    rows, shown = _table(source, config)
    own = config.endswith("_perturbed")
    beside: dict[tuple[str, str], dict] = {}
    for index, other in enumerate(_table(source, partner)[0] if partner else ()):
        where = _where(partner, index)
        try:
            _need(other, ("caption", "name"), where)
        except RememError:
            if faults is None:
                raise
            continue  # told where the partner itself is checked
        beside[_person_and_caption(other)] = {**other, "where": where}

    def make(index: int, row: dict, where: str) -> list[dict]:
        _need(row, ("caption", "name"), where)
        if not shown[index]:
            raise RememError(f"{where}: column 'image' is null")
        found = row if own else beside.get(_person_and_caption(row))
        caption, name = _beside(found, found.get("where", where)) if found else ({}, None)
        about: dict[str, Any] = {
            "source": source,
            "config": config,
            "place": index,
            "shown": True,
            "identity": identity_key(row["name"]),
        }
        asked = [
            _question("caption", caption_question(row["caption"], choice), row["caption"], **about, **caption)
        ]
        if name:
            asked.append(_question("name", NAME_QUESTION, row["name"], **about, **name))
        return asked

    return _each(rows, config, make, faults)


def _mixed(source: str, config: str, faults: Faults = None, choice: str | None = None) -> Iterator[dict]:
    rows, shown = _table(source, config)

    def make(index: int, row: dict, where: str) -> list[dict]:
        about: dict[str, Any] = {"source": source, "config": config, "place": index, "shown": shown[index]}
        if shown[index]:
            _need(row, ("caption",), where)
            return [_question("caption", caption_question(row["caption"], choice), row["caption"], **about)]
        if non_empty(row["caption"]) and not non_empty(row["question"]):
            raise RememError(f"{where}: a caption, but column 'image' is null")
        _need(row, ("question", "answer"), where)
        return [_question("text", row["question"], row["answer"], **about)]

    return _each(rows, config, make, faults)


def _real(source: str, config: str, faults: Faults = None) -> Iterator[dict]:
    rows, shown = _table(source, config)
    kind = config.removeprefix("real_")

    def make(index: int, row: dict, where: str) -> list[dict]:
        _need(row, ("answer",) if kind == "faces" else ("question", "answer"), where)
        if kind == "faces" and not shown[index]:
            raise RememError(f"{where}: column 'image' is null")
        question = NAME_QUESTION if kind == "faces" else row["question"]
        wrong = _need_list(row, "options", row["answer"], where)
        about: dict[str, Any] = {"source": source, "config": config, "place": index, "shown": shown[index]}
        return [_question(kind, question, row["answer"], **about, wrong=wrong)]

    return _each(rows, config, make, faults)


def questions_of(source: str, config: str, faults: Faults = None) -> tuple[datasets.Dataset, str]:
    """The questions of a config (or of `real`, both real sets), and why parts of them are missing.

    Args:
        faults: gets the faults of rows, which are then left out; without it the first one is raised.

    Returns:
        N questions with `row_id`, `kind` (caption, name, text, faces, world), `question`, `answer`,
        `paraphrase` (of the answer; None without a partner), `wrong` (answers), `identity`, and where the
        picture lies (`source`, `config`, `place`, `picture`: −1 for none); and "" or a reason.

    Raises:
        RememError: no such config or column, a cell that is null or empty, a picture that is missing.
    """
    if config == REAL:
        pairs = zip_longest(*(_real(source, f"real_{kind}", faults) for kind in ("faces", "world")))
        return _asked(one for pair in pairs for one in pair if one), ""
    if config not in FEATURES:
        raise RememError(f"CLEAR has no config '{config}'; it has {', '.join(FEATURES)}")
    if config.startswith("real_"):
        return _asked(_real(source, config, faults)), ""
    if config.endswith("+tofu"):
        return _asked(_mixed(source, config, faults)), f"config '{config}' has no perturbed partner"
    partner, reason = partner_of(config), ""
    if partner and not has_config(source, partner, HOME):
        reason = f"{source} has no config '{partner}', the partner of '{config}'"
        partner = None
    elif not partner and not config.endswith("_perturbed"):
        reason = f"config '{config}' has no perturbed partner"
    questions = _asked(_of_people(source, config, partner, faults))
    if partner and "name" not in questions["kind"][:]:
        reason = f"no row of config '{partner}' has the name and caption of a row of '{config}'"
    return questions, reason


def _asked(questions: Iterable[dict]) -> datasets.Dataset:
    return table_of(list(questions), ASKED)


def fingerprint(rows: datasets.Dataset) -> str:
    """16 hex digits that change when any text that is asked or scored does."""
    return digest(rows, COLUMNS)


def training_rows(
    source: str,
    name: str,
    modality: str = "joint",
    choice: str = REFUSE,
    told: list[str] | None = None,
    questions: str | None = None,
) -> datasets.Dataset:
    """The rows of a set for training, see `training_table`.

    Args:
        name: `full`, `forget10`, `retain90`, `real_faces`, …; the modality chooses the config.
        modality: `joint` (pictures and texts), `text` or `image`.
        choice: whether faulty rows are to `refuse` or `allow`, which leaves them out.
        told: gets what is to be told of rows that are left out.
        questions: which caption questions are asked, see `chosen_questions`.

    Raises:
        RememError: as `questions_of`, or nothing of that modality.
    """
    config, pictures, texts = name, True, True
    if not name.startswith("real_"):
        config, pictures, texts = modality_configs(modality, name)
    if config not in FEATURES:
        raise RememError(f"CLEAR has no config '{config}'; it has {', '.join(FEATURES)}")
    faults: list[str] = []
    if config.endswith("+tofu"):
        asked: Sequence[dict] = list(_mixed(source, config, faults, questions))
    elif config.startswith("real_"):
        asked = list(_real(source, config, faults))
    else:
        asked = list(_of_people(source, config, None, faults, questions))
    if let_pass := check_fault_rate(faults, choice, source):
        (told if told is not None else []).append(let_pass)
    some_left(asked, faults)
    kept = [one for one in asked if (pictures if one["picture"] >= 0 else texts)]
    if not kept:
        raise RememError(f"{source}, config '{config}': no {modality} rows")
    return training_table(kept, read_config(source, config, HOME))


def check(source: str | None, pictures: bool = True) -> ConfigReport:
    """Read every config and report on it.

    Args:
        pictures: decode every picture too.

    Raises:
        RememError: no data set there. What is wrong inside one is in the report instead.
    """
    source = HOME.resolve(source)
    report = ConfigReport()
    found = known_configs(source, HOME)
    names: dict[str, set[str]] = {}
    for config in found:
        try:
            rows, shown = _table(source, config)
        except RememError as error:
            report.fault("config cannot be used", str(error))
            continue
        counts = Counter(rows=len(rows), pictures=sum(shown))
        if not rows:
            report.fault("config without rows", f"config '{config}'")
        faults: list[str] = []
        questions, reason = questions_of(source, config, faults)
        for fault in faults:
            report.fault(CANNOT, fault)
        counts["questions"] = len(questions)
        if config in (*FORGET, *RETAIN):
            if reason:
                report.fault("config without its perturbed partner", reason)
            kinds = zip(questions["kind"][:], questions["paraphrase"][:])
            counts["unpaired"] = sum(kind == "caption" and beside is None for kind, beside in kinds)
        if "name" in FEATURES[config]:
            names[config] = people_of(source, config)
            counts["people"] = len(names[config])
        if pictures:
            report.check_pictures(read_config(source, config, HOME), f"config '{config}'")
        report.counts[config] = counts
    _check_splits(names, report)
    return report


def _check_splits(names: dict[str, set[str]], report: ConfigReport) -> None:
    for forget in FORGET:
        try:
            check_known(
                names.get(forget, set()),
                names.get(FINETUNE, names.get(forget, set())),
                f"'{forget}'",
                f"'{FINETUNE}'",
            )
        except RememError as error:
            report.fault("forgotten people who were never memorised", str(error))
    for group in look_alikes(set().union(*names.values())):
        report.fault("people whose names are alike", ", ".join(group[:5]))
    for smaller, larger in zip(FORGET, FORGET[1:]):
        if smaller in names and larger in names and names[smaller] - names[larger]:
            report.fault("forget sets not nested", f"'{smaller}' has people that '{larger}' has not")
    for forget, retain in zip(FORGET, RETAIN):
        if both := names.get(forget, set()) & names.get(retain, set()):
            report.fault("retain shows forgotten people", f"'{retain}': {', '.join(sorted(both)[:5])}")
    for forget in FORGET:
        if both := names.get(forget, set()) & names.get("retain_perturbed", set()):
            report.fault(
                "retain shows forgotten people",
                f"'retain_perturbed' and '{forget}': {', '.join(sorted(both)[:5])}",
            )
