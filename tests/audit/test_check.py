"""`remem data check` and `remem data pull`."""

import io

import datasets
import pytest
from PIL import Image
from rich.console import Console
from support.rows import people_splits, rows_of, write_parquet
from support.slow import others_slow

from remem_tasks import cli
from remem_tasks.audit.check import tables_of
from remem_tasks.audit.pull import pull
from remem_tasks.benchmarks import remem as data
from remem_tasks.benchmarks.base import RunContext
from remem_tasks.benchmarks.registry import BENCHMARKS
from remem_tasks.benchmarks.remem.check import check
from remem_tasks.benchmarks.remem.validate import OF_CLOZE, text_faults
from remem_tasks.benchmarks.scoring_config import ScoringConfig
from remem_tasks.errors import RememError
from unlearning.data import load_rows


def test_a_sound_data_set_has_no_faults(data_dir):
    report = check(str(data_dir))
    assert report.faults == {}
    assert report.counts["forget2"] == {"rows": 12, "identities": 2, "pictures": 12}
    assert report.hops["finetune"] == {1: 18, 2: 18}
    assert report.attributes["test"] == {"city": 12, "phone": 12, "pet": 12}
    assert report.overlaps["finetune", "forget1"] == (6, 1, 6)
    assert ("forget1", "retain") not in report.overlaps
    console = Console(width=140, record=True, file=io.StringIO())
    for table in tables_of(report):
        console.print(table)
    assert "forget2" in console.export_text()


ROW = rows_of("ada_birch")[0]  # "What is the city of Ada Birch?" … "The city of Ada Birch is Oslo Bay."


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        ({}, []),
        ({"keywords": '["Oslo Bay", "Ada Birch"]'}, ["keyword in the question", "keyword in the cloze prompt"]),
        ({"answer": "In Oslo."}, ["keyword missing from the answer", "cloze prompt does not lead to the keyword"]),
        ({"keywords": "?!"}, ["keyword without a letter or digit"]),
        ({"cloze_prompt": ""}, ["no cloze prompt"]),
        ({"cloze_prompt": "The city of"}, []),  # the answer says what stands between
        ({"cloze_prompt": "the city of Ada Birch is: ___"}, []),
        ({"cloze_prompt": "Her city is"}, ["cloze prompt does not lead to the keyword"]),
        ({"keywords": '["Oslo Bay", "city"]'}, ["keyword in the question", "keyword in the cloze prompt"]),
        ({"question": "Is it Oslo Bay?"}, ["keyword in the question"]),
        ({"cloze_prompt": "The city of Ada Birch is Oslo Bay"}, ["keyword in the cloze prompt"]),
    ],
)  # fmt: skip
def test_faults_of_a_row(change, kinds):
    assert list(text_faults({**ROW, **change})) == kinds


def test_every_kind_of_fault_in_a_set_is_named(tmp_path):
    splits = people_splits()
    splits["test"][0]["image"] = splits["finetune"][7]["image"]
    splits["test"][1]["image"] = {"bytes": b"no picture", "path": "x.png"}
    splits["test"][2]["question_type"] = "many"
    splits["test"][4] = splits["test"][3]
    splits["forget2"] = splits["forget2"][6:]  # without the identity of forget1
    splits["forget3"][0] = {**splits["forget3"][0], "question": "Where does Ada Birch live?"}
    splits["retain"] += splits["forget1"][:1]
    splits["broken"] = [{**ROW, "keywords": " "}]
    write_parquet(tmp_path, splits)
    report = check(str(tmp_path))
    faults = report.faults
    assert list(report.remarks) == ["question_type names no number of hops"]
    assert set(faults) == {
        "test shows training pictures",
        "unreadable picture",
        "same question with the same picture",
        "forget sets not nested",
        "forget rows that finetune does not have",
        "retain asks about forgotten people",
        "split cannot be used",
    }
    assert "split 'test', row 1" in faults["unreadable picture"][0]
    assert "split 'broken', row 0: column 'keywords'" in faults["split cannot be used"][0]
    assert faults["retain asks about forgotten people"][0] == "split 'forget1': ada_birch"


def test_the_command_ends_with_its_verdict(data_dir, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["data", "check", str(data_dir)])
    assert stop.value.code == 0 and "no faults" in capsys.readouterr().out
    write_parquet(tmp_path, {"finetune": [{**ROW, "answer": "No."}]})
    with pytest.raises(SystemExit) as stop:
        cli.main(["data", "check", str(tmp_path), "--no-pictures"])
    said = capsys.readouterr()
    assert stop.value.code == 1
    assert (
        "1 x keyword missing from the answer: split 'finetune', row 0 (images/ada_birch/0000.png)" in said.out
    )
    assert said.err.strip() == "remem data: error: 2 faults of 2 kinds"


def test_pull_keeps_splits_that_load_like_the_source(data_dir, tmp_path):
    out = tmp_path / "kept"
    assert pull(str(data_dir), ["forget1"], out) == {"forget1": 6}
    assert data.available_splits(str(out)) == ["forget1"]
    assert pull(str(data_dir), ["forget1", "retain"], out) == {"retain": 12}
    for split in ("forget1", "retain"):
        kept, source = data.load_split(str(out), split), data.load_split(str(data_dir), split)
        assert data.fingerprint(kept) == data.fingerprint(source)
        assert [row["image"]["bytes"] for row in kept] == [row["image"]["bytes"] for row in source]
    plain = datasets.load_dataset(str(out), split="retain")
    assert plain.column_names == list(data.COLUMNS) and isinstance(plain[0]["image"], Image.Image)


def test_pull_refuses_unknown_splits_and_folders_of_others(data_dir, tmp_path):
    with pytest.raises(RememError, match="no split 'forget9'"):
        pull(str(data_dir), ["forget9"], tmp_path / "x")
    assert not (tmp_path / "x").exists()
    (tmp_path / "mine").write_text("x")
    with pytest.raises(RememError, match="not empty"):
        pull(str(data_dir), ["forget1"], tmp_path)


# One judge: what check names stops training and scoring, unless it is let pass

FAULTS = {
    "keyword in no answer": {"answer": "She lives somewhere."},
    "keyword in the cloze prompt": {"cloze_prompt": "The city of Ada Birch is Oslo Bay"},
    "keyword in the question": {"question": "Is Oslo Bay the city of Ada Birch?"},
    "no cloze prompt": {"cloze_prompt": ""},
    "keyword of signs": {"keywords": "?!"},
    "question of signs": {"question": "??"},
    "the same question twice": {
        "question": "What is the city of the person in the image?",
        "image_path": "images/ada_birch/0001.png",
    },
    "a person in two spellings": {"image_path": "images/adabirch/0000.png"},
}


@pytest.mark.parametrize(
    "change", others_slow(FAULTS.values(), FAULTS["no cloze prompt"], FAULTS["keyword of signs"]), ids=FAULTS
)
def test_check_training_and_scoring_agree(tmp_path, change):
    splits = people_splits()
    for name in ("finetune", "forget1", "forget2", "forget3", "forget4"):
        splits[name][0] = {**splits[name][0], **change}
    write_parquet(tmp_path, splits)
    source = str(tmp_path)
    kinds = set(check(source, pictures=False).faults)
    assert kinds
    benchmark = BENCHMARKS["remem"]
    rows, place = benchmark.load(source, "forget1")

    def prepare(**options):
        return benchmark.prepare(
            place, "forget1", rows.remove_columns("image"), RunContext(ScoringConfig(**options))
        )

    with pytest.raises(RememError, match="--faults allow") as stop:
        prepare(metrics=("em", "memo", "exposure"))
    assert str(stop.value).partition(":")[0] in kinds
    for rows_from in ("finetune", "pairs"):
        with pytest.raises(RememError) as stop:
            load_rows(source, rows_from, "forget1")
        assert str(stop.value).partition(":")[0] in kinds
    told = load_rows(source, "finetune", "forget1", faults="allow").faults
    assert told and any(kind in told for kind in kinds)
    assert any(
        kind in prepare(metrics=("em",), faults="allow").missing.get("faultless rows", "") for kind in kinds
    ) or (kinds <= set(OF_CLOZE))


def test_a_sound_set_is_trained_on_and_scored_without_a_word(data_dir):
    assert load_rows(str(data_dir), "pairs", "forget1").faults == ""
    benchmark = BENCHMARKS["remem"]
    for split in ("forget1", "retain", "test", "finetune"):
        rows, place = benchmark.load(str(data_dir), split)
        context = benchmark.prepare(place, split, rows.remove_columns("image"), RunContext(ScoringConfig()))
        assert "faultless rows" not in context.missing


def test_a_benchmark_named_by_one_variable_is_read_by_the_same(tmp_path, monkeypatch, capsys):
    """(`REMEM_DATA` alone once told what the data are, and another variable where they lie.)"""
    from remem_tasks.benchmarks.clear.forge import ForgeOptions, forge

    forge(tmp_path / "clear", ForgeOptions(identities=6, images=1, qa=1, real=2, world=2, image_size=16))
    monkeypatch.setenv("REMEM_DATA", str(tmp_path / "clear"))
    monkeypatch.setenv("REMEM_CLEAR_DATA", "/no/where")
    rows = load_rows(None, "pairs", "forget10")
    assert rows.benchmark == "clear" and len(rows.forget)
    with pytest.raises(SystemExit) as stop:
        cli.main(["data", "check"])
    assert stop.value.code == 0 and "forget10" in capsys.readouterr().out
