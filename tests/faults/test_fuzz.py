"""Files of others with something changed at random: each example ends right, with one RememError, or says what it lacks.

The readers and judges are called in this process; models are loaded only where nothing else reads a file.
"""

from __future__ import annotations

import copy
import json
import math
import shutil
import string
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from adapter import made
from faults_results import tasks
from frame import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.made import write_run
from support.rows import people_splits, write_parquet
from transformers import AutoModelForImageTextToText

from remem_tasks import checkpoints, checksums
from remem_tasks.benchmarks.remem.data import load_split
from remem_tasks.benchmarks.remem.schema import parse_hop
from remem_tasks.benchmarks.remem.validate import row_faults, text_faults
from remem_tasks.data.cells import list_column, oddity, text_column, texts_of
from remem_tasks.data.rows import parse_keywords
from remem_tasks.engine.cache import Answer, Cache, hash_of
from remem_tasks.errors import RememError
from remem_tasks.reading import parse_json
from remem_tasks.report import leaderboard
from remem_tasks.report.runs import read_run
from remem_tasks.report.summary import report_of
from remem_tasks.run_record import read_record, unfinished
from remem_tasks.terminal import INVISIBLE, clean, short
from remem_tasks.whitebox import SecretResult, WhiteBoxResult
from unlearning import weights
from unlearning.arguments import parse
from unlearning.record import check_resumed, check_settings

pytestmark = pytest.mark.slow


def fuzz(number: int):
    """That many examples, the same ones in every run."""
    return settings(
        max_examples=number, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )  # fmt: skip


SOME_TEXT = st.text(st.sampled_from(string.printable + "é²\u200b\u202e\x1b\ud800字"), max_size=12)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, 1, -1, 2, 3, 65, 2**31, 2**63, -(2**70), 10**400]),
    st.sampled_from([0.0, -0.0, 0.5, 1.5, -1.5, math.nan, math.inf, -math.inf, 1e308, 5e-324]),
    st.sampled_from(
        ["", " ", "0", "1.0", "nan", "x" * 300, "../..", "/etc/passwd", "[", "{", "{{ a }}", "(?P<"]
    ),
    SOME_TEXT,
)
ODD = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=3),
    st.dictionaries(SOME_TEXT, SCALARS, max_size=3),
    st.just([[[[[[]]]]]]),
)


def _places(value, path=()):
    """The paths of all parts of a JSON value, itself left out."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield (*path, key)
        yield from _places(part, (*path, key))


def changed(draw, whole, odd=ODD):
    """A copy of a JSON value with one to three of its parts replaced, removed, renamed or doubled."""
    whole = copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(whole))
        if not places:
            return copy.deepcopy(draw(odd))
        *above, last = draw(st.sampled_from(places))
        owner = whole
        for key in above:
            owner = owner[key]
        how = draw(st.sampled_from(["put", "put", "put", "remove", "again", "swap"]))
        if how == "put":
            owner[last] = copy.deepcopy(draw(odd))
        elif how == "remove":
            del owner[last]
        elif isinstance(owner, list):
            owner.insert(last, copy.deepcopy(owner[last]))
        elif how == "again":
            owner[draw(SOME_TEXT)] = owner.pop(last)
        else:
            other = draw(st.sampled_from(sorted(owner)))
            owner[last], owner[other] = owner[other], owner[last]
    return whole


def spoiled(draw, raw: bytes) -> bytes:
    """Bytes cut, flipped, doubled or with others put in."""
    place = draw(st.integers(0, max(0, len(raw) - 1)))
    how = draw(st.sampled_from(["cut", "flip", "twice", "put", "drop"]))
    if how == "cut":
        return raw[:place]
    if how == "flip":
        return (
            raw[:place] + bytes([raw[place] ^ (1 << draw(st.integers(0, 7)))]) + raw[place + 1 :]
            if raw
            else b""
        )
    if how == "twice":
        return raw + raw[place:]
    if how == "drop":
        return raw[:place] + raw[place + draw(st.integers(1, 40)) :]
    return raw[:place] + draw(st.binary(max_size=8)) + raw[place:]


def written(draw, value, resealed=lambda value: value) -> bytes:
    """A JSON value as a file holds it: changed as a value, or as bytes, or both."""
    if draw(st.integers(0, 3)):
        value = resealed(changed(draw, value))
    raw = json.dumps(value, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    return raw if draw(st.integers(0, 3)) else spoiled(draw, raw)


# Results, samples, boards


def _of(run):
    """What a reader shows of a run: every score of every row, and the means."""
    return {
        task: (found.ids, {name: values.tolist() for name, values in found.scores.items()}, dict(found.means))
        for task, found in run.task_results.items()
    }


def _same(one, other) -> bool:
    return np.array_equal(json.dumps(one), json.dumps(other))


def _small():
    return {split: rows[:4] for split, rows in tasks().items()}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """{sealed: (folder, results file)} of a small run."""
    return {
        sealed: write_run(tmp_path_factory.mktemp("run"), _small(), "models/start", sealed=sealed)
        for sealed in (True, False)
    }


@fuzz(1500)
@given(data=st.data())
def test_results_and_samples(runs, data):
    """Of a sealed run nothing that was changed is read in silence; of any run nothing breaks."""
    examples["results, samples"] += 1
    draw = data.draw
    sealed = draw(st.booleans())
    file = runs[sealed]
    sound = file.read_bytes()
    target = draw(st.sampled_from([file, file, *sorted(file.parent.glob("*_samples_*.jsonl"))]))
    before = target.read_bytes()
    if target == file:
        new = written(draw, json.loads(sound))
    else:
        lines = before.splitlines(keepends=True)
        number = draw(st.integers(0, len(lines) - 1))
        lines[number] = written(draw, json.loads(lines[number])) + draw(
            st.sampled_from([b"\n", b"\n", b"", b"\r\n"])
        )
        new = b"".join(lines)
    known = _of(read_run(file, "x"))
    target.write_bytes(new)
    try:
        run = read_run(file, "x")
        found = _of(run)
        assert all(math.isfinite(v) for _, _, means in found.values() for v in means.values())
        told = [
            note
            for note in run.notes
            if "digest" in note or "left out" in note or "limit" in note or "scored on" in note
        ]
        assert not sealed or _same(found, known) or told, (new, run.notes)
    except RememError as error:
        assert "\n" not in clean(error)
    finally:
        target.write_bytes(before)


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    """A board of three entries."""
    place = tmp_path_factory.mktemp("board")
    made_runs = [
        write_run(place / name, _small(), f"models/{name}") for name in ("gold", "start", "a", "b", "c")
    ]
    file = place / "board.jsonl"
    for number, run in enumerate(made_runs[2:]):
        rows = tasks(em=0.25 * (number + 1))
        write_run(
            run.parents[1],
            {split: found[:4] for split, found in rows.items()},
            f"models/{run.parent.name[8:]}",
        )
        report = report_of([f"{'abc'[number]}={run.parent}"])
        leaderboard.append(file, leaderboard.entries_of(report), no_gate=True)
    return file


@fuzz(1500)
@given(data=st.data())
def test_boards(board, data):
    examples["boards"] += 1
    draw, before = data.draw, board.read_bytes()
    lines = before.splitlines(keepends=True)
    number = draw(st.integers(0, len(lines) - 1))
    lines[number] = written(draw, json.loads(lines[number])) + b"\n"
    board.write_bytes(b"".join(lines))
    try:
        for entry in leaderboard.read_board(board):
            scores = [score for by in entry["scores"].values() for score in by.values()]
            assert all(math.isfinite(score["value"]) for score in scores)
        leaderboard.table_of(leaderboard.read_board(board))
    except RememError:
        pass
    finally:
        board.write_bytes(before)


# Kept replies, findings


@fuzz(2500)
@given(data=st.data())
def test_kept_replies(tmp_path_factory, data):
    """Whatever a line holds, the answers that are found are those that were kept, or have the shape of one."""
    examples["kept replies"] += 1
    draw = data.draw
    folder = tmp_path_factory.getbasetemp() / "kept-fuzz" / ("a" * 32)
    folder.mkdir(parents=True, exist_ok=True)
    sound = {"batch": [["k", [["a reply", 3, 2]]], ["l", [["é", None, None], ["b", 1, 0]]]]}
    right = draw(st.booleans())

    def sealed(value):
        return {**value, "sum": hash_of(value)} if isinstance(value, dict) else value

    raw = written(draw, sound if right else sealed(sound), sealed if right else lambda value: value)
    (folder / "1-1.jsonl").write_bytes(raw + b"\n")
    kept = Cache(folder.parent, folder.name).kept
    for key, found in kept.items():
        assert isinstance(key, str) and found
        for one in found:
            assert isinstance(one, Answer) and isinstance(one.text, str)
            assert all(count is None or count >= 0 for count in one[1:])
        if not right:
            assert [list(one) for one in found] in [answers for _, answers in sound["batch"]]


FINDINGS = WhiteBoxResult(
    ["a", "b"],
    [SecretResult([-1.0, -0.5], 1, 3, (1, 2), (2, 3), None, [("x", -1.0)])],
    [-0.5],
    [[-1.0]],
    [[(-2.0, 0.5)]],
)


@fuzz(1000)
@given(data=st.data())
def test_findings(data):
    examples["findings"] += 1
    raw = written(data.draw, json.loads(FINDINGS.to_text())).decode("utf-8", "replace")
    with suppress(RememError):
        found = WhiteBoxResult.from_text(raw, "row 3")
        assert all(isinstance(text, str) for text in found.continuations)
        assert all(isinstance(value, int | float) for value in found.answers)


# Records, checksums, states of a training

IDENTITY = {
    "method": "npo",
    "model": "/m",
    "data": "0" * 16,
    "forget": "forget1",
    "use_peft": False,
    "seed": 1,
    "weights": "1" * 16,
}
RECORD = {
    "status": "running",
    "identity": IDENTITY,
    "method": "npo",
    "options": {"npo_beta": 0.1},
    "notes": {},
    "gate": {"passed": None, "overridden": True, "reasons": ["x"]},
    "data": {"forget": "forget1", "fingerprint": "0" * 16},
    "processes": 1,
    "seed": 1,
    "steps": 3,
    "stopped": None,
    "arguments": {"data": {}, "model": {"lora_r": 4}, "training": {"learning_rate": 1e-3, "max_steps": 4}},
}


@fuzz(1500)
@given(data=st.data())
def test_records(tmp_path_factory, data):
    """A record that is resumed from says that it is of this run, with these settings."""
    examples["run.json"] += 1
    folder = tmp_path_factory.getbasetemp() / "record-fuzz"
    folder.mkdir(exist_ok=True)
    (folder / "run.json").write_bytes(written(data.draw, RECORD))
    with suppress(RememError):
        record = read_record(folder)
        unfinished(record)
        check_resumed(str(folder), IDENTITY)
        check_settings(str(folder), RECORD, lossy=False)
        assert all(
            record["identity"][name] == IDENTITY[name] for name in record["identity"].keys() & IDENTITY
        )
        given_now = RECORD["arguments"]["training"]
        before = (record.get("arguments") or {}).get("training", {})
        assert all(before[name] == given_now[name] for name in before.keys() & given_now)


@fuzz(800)
@given(data=st.data())
def test_checksums(tmp_path_factory, data):
    """Neither a file nor the list of checksums changes unseen."""
    examples["checksums"] += 1
    draw = data.draw
    folder = tmp_path_factory.getbasetemp() / "sums-fuzz"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    files = {
        name: draw(st.binary(min_size=1, max_size=40))
        for name in ("config.json", "model.safetensors", "optimizer.pt")
    }
    for name, raw in files.items():
        (folder / name).write_bytes(raw)
    checksums.write(folder, IDENTITY)
    assert checksums.check(folder) == IDENTITY
    name = draw(st.sampled_from([*files, checksums.FILE]))
    before = (folder / name).read_bytes()
    new = written(draw, json.loads(before)) if name == checksums.FILE else spoiled(draw, before)
    (folder / name).write_bytes(new)
    with suppress(RememError):
        checksums.check(folder)
        same = (
            json.loads(new)["files"] == json.loads(before)["files"]
            if name == checksums.FILE
            else new == before
        )
        assert same, (name, before, new)


STATE = {
    "global_step": 2,
    "epoch": 0.5,
    "max_steps": 4,
    "log_history": [{"loss": 1.0, "step": 1}],
    "is_world_process_zero": True,
}


@fuzz(800)
@given(data=st.data())
def test_trainer_states(tmp_path_factory, data):
    examples["trainer_state.json"] += 1
    folder = tmp_path_factory.getbasetemp() / "state-fuzz" / "checkpoint-2"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "trainer_state.json").write_bytes(written(data.draw, STATE))
    with suppress(RememError):
        weights._check_trainer_state(folder)
        assert json.loads((folder / "trainer_state.json").read_text())["global_step"] == 2
    weights.last_checkpoint(folder.parent)


# Texts, cells, rows

CELLS = st.one_of(
    SOME_TEXT,
    ODD,
    st.binary(max_size=6),
    st.lists(SOME_TEXT, max_size=3).map(json.dumps),
    st.lists(SOME_TEXT, max_size=3).map(repr),
)


@fuzz(1500)
@given(data=st.data())
def test_texts_and_cells(data):
    examples["cells"] += 1
    draw = data.draw
    cell = draw(CELLS)
    with suppress(RememError):
        assert all(isinstance(text, str) and text for text in texts_of(cell))
    text = cell if isinstance(cell, str) else str(cell)
    assert not INVISIBLE.search(clean(text)) and "\n" not in clean(text)
    assert len(short(text * 200)) <= 900
    assert 0 <= parse_hop(text) < 100
    oddity(text)
    with suppress(RememError):
        parse_keywords(text)
    with suppress(RememError):
        parse_json(text, "a file")
    row = dict.fromkeys(("question", "answer", "keywords", "cloze_prompt"), "Oslo Bay")
    row |= {name: draw(SOME_TEXT) for name in draw(st.sets(st.sampled_from(sorted(row))))}
    with suppress(RememError):
        assert all(isinstance(kind, str) for kind in text_faults(row))


COLUMNS = st.one_of(
    *(
        st.lists(st.none() | kind, max_size=4)
        for kind in (SOME_TEXT.filter(lambda t: "\ud800" not in t), st.binary(max_size=4))
    ),
    st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), max_size=4),
    st.lists(st.none() | st.floats(), max_size=4),
    st.lists(st.none() | st.booleans(), max_size=4),
    st.lists(st.none() | st.lists(st.none() | st.just("a") | st.just("")), max_size=4),
    st.lists(st.none() | st.fixed_dictionaries({"a": st.integers(0, 9)}), max_size=4),
)


@fuzz(800)
@given(values=COLUMNS, name=st.sampled_from(["keywords", "question"]))
def test_columns(values, name):
    examples["columns"] += 1
    column = pa.chunked_array([pa.array(values)])
    for read in (text_column, list_column):
        with suppress(RememError):
            assert len(read(column, name, "split 'forget1'")) == len(values)


NAMES = (
    "question",
    "answer",
    "keywords",
    "question_type",
    "attribute",
    "cloze_prompt",
    "image_path",
    "qa_category",
)


@fuzz(200)
@given(data=st.data())
def test_rows(tmp_path_factory, data):
    """A table whose cells and columns are others is loaded, with its faults named, or refused."""
    examples["rows"] += 1
    draw = data.draw
    rows = [dict(row) for row in people_splits()["forget1"][:3]]
    name = draw(st.sampled_from(NAMES))
    if draw(st.booleans()):
        values = draw(
            st.lists(st.none() | SOME_TEXT.filter(lambda t: "\ud800" not in t), min_size=3, max_size=3)
        )
    else:
        values = draw(
            st.sampled_from(
                [[1, 2, 3], [1.5, None, 2.0], [["a"], [], None], [b"a", b"\xff", None], [True, False, None]]
            )
        )
    for row, value in zip(rows, values):
        row[name] = value
    if draw(st.integers(0, 4)) == 0:
        for row in rows:
            row.pop(draw(st.just(name)))
    folder = tmp_path_factory.getbasetemp() / "rows-fuzz"
    shutil.rmtree(folder, ignore_errors=True)
    write_parquet(folder, {"forget1": rows})
    with suppress(RememError):
        loaded = load_split(str(folder), "forget1", pictures=False)
        assert len(loaded) == 3
        row_faults(loaded)


# Configurations: of a model, a processor, a tokenizer, an adapter, a training


def _one_line(error: RememError) -> None:
    assert len(short(error)) < 1000


SMALL = st.one_of(
    st.none(), st.booleans(), st.sampled_from([0, 1, -1, 3, 64, 2**31, 10**30, 0.5, math.nan, "", "x", "llama", [], [1], {}, {"a": 1}])
)  # fmt: skip


def _files_of(folder: Path, *names: str) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}


@contextmanager
def _one_changed(draw, folder: Path, files: dict[str, bytes]):
    """A folder one of whose files is changed; what is read of it within is right, or refused in one line."""
    name = draw(st.sampled_from(sorted(files)))
    whole = json.loads(files[name])
    try:
        if draw(st.integers(0, 9)):
            (folder / name).write_text(json.dumps(changed(draw, whole, SMALL)))
        else:
            (folder / name).write_bytes(spoiled(draw, files[name]))
        yield
    except RememError as error:
        _one_line(error)
    finally:
        (folder / name).write_bytes(files[name])


@pytest.fixture(scope="module")
def copy_of(sound, tmp_path_factory):
    return Path(shutil.copytree(sound, tmp_path_factory.mktemp("fuzzed") / "model"))


@fuzz(250)
@given(data=st.data())
def test_model_configurations(copy_of, data):
    """It is loaded whole, or refused."""
    examples["config.json"] += 1
    files = _files_of(copy_of, "config.json", "generation_config.json")
    with _one_changed(data.draw, copy_of, files):
        model = checkpoints.load_model(str(copy_of))
        assert all(bool(value.isfinite().all()) for value in model.parameters())


@fuzz(250)
@given(data=st.data())
def test_processors(copy_of, data):
    examples["processor, tokenizer"] += 1
    files = _files_of(copy_of, "processor_config.json", "tokenizer_config.json", "tokenizer.json")
    with _one_changed(data.draw, copy_of, files):
        processor = checkpoints.load_processor(str(copy_of))
        assert processor.tokenizer.eos_token_id is not None


@fuzz(200)
@given(data=st.data())
def test_adapters(sound, tmp_path_factory, data):
    examples["adapter_config.json"] += 1
    folder = tmp_path_factory.getbasetemp() / "adapter-fuzz"
    if not folder.is_dir():
        shutil.copytree(made(sound), folder)
    files = _files_of(made(sound), "adapter_config.json")
    with _one_changed(data.draw, folder, files):
        checkpoints.base_of_adapter(str(folder))
        checkpoints.load_adapter(AutoModelForImageTextToText.from_pretrained(sound), str(folder))


RECIPE = {"method": "npo", "npo_beta": 0.1, "learning_rate": 1e-5, "max_steps": 3, "num_train_epochs": 1, "seed": 3, "use_peft": True,
          "lora_r": 4, "lora_target_modules": ["q_proj"], "per_device_train_batch_size": 2, "eval_strategy": "no", "gamma": 1.0}  # fmt: skip


@fuzz(200)
@given(data=st.data())
def test_recipes(tmp_path_factory, data):
    """What is parsed has numbers that a run can use."""
    examples["recipes"] += 1
    file = tmp_path_factory.getbasetemp() / "recipe.yaml"
    file.write_bytes(written(data.draw, RECIPE))
    try:
        _, args, model_args = parse(
            ["--config", str(file), "--model_name_or_path", "m", "--output_dir", "never_written"]
        )
        assert args.learning_rate > 0 and args.per_device_train_batch_size > 0 and math.isfinite(args.gamma)
        assert model_args.lora_r > 0
    except RememError as error:
        _one_line(error)


def test_there_are_as_many_examples_as_the_docs_say():
    assert sum(examples.values()) >= 10_000 or len(examples) < 16, examples
