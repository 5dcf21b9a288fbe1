"""CLEAR's data: the forge makes the published schema, the loader asks the right questions of it and refuses the rest."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import datasets
import pytest
import yaml
from support.forged import changed
from support.hub_mirror import HubMirror

from remem_tasks import cli
from remem_tasks.benchmarks.base import RunContext
from remem_tasks.benchmarks.clear import data as clear
from remem_tasks.benchmarks.clear.forge import ForgeOptions, forge
from remem_tasks.benchmarks.clear.questions import CAPTION_QUESTIONS, chosen_questions
from remem_tasks.benchmarks.registry import BENCHMARKS
from remem_tasks.benchmarks.scoring_config import ScoringConfig
from remem_tasks.data.people import identity_key
from remem_tasks.errors import RememError
from unlearning.data import load_rows

# therem/CLEAR, as its card lists it.
IMAGE, TEXT, TEXTS = datasets.Image(), datasets.Value("string"), datasets.List(datasets.Value("string"))
PEOPLE = [("image", IMAGE), ("caption", TEXT), ("name", TEXT)]
MIXED = [("image", IMAGE), ("caption", TEXT), ("question", TEXT), ("answer", TEXT)]
PERTURBED = {
    **dict(PEOPLE),
    "paraphrased_caption": TEXT,
    "perturbed_captions": TEXTS,
    "perturbed_names": TEXTS,
}
PERCENT = {"forget01": 2, "forget05": 4, "forget10": 6, "retain99": 10, "retain95": 8, "retain90": 6}


def rows_of(folder, config):
    return datasets.load_dataset(str(folder), config, split="train")


def test_the_published_schema(clear_data):
    names = datasets.get_dataset_config_names(str(clear_data))
    assert len(names) == 21 and set(names) == set(clear.FEATURES)
    people = {config: rows_of(clear_data, config) for config in ("default", "full", *PERCENT)}
    for config, rows in people.items():
        assert list(rows.features.items()) == PEOPLE, config
    assert {config: len(people[config]) for config in PERCENT} == PERCENT and len(people["full"]) == 12
    for config in (*PERCENT, "full"):
        rows = rows_of(clear_data, f"{config}+tofu")
        assert list(rows.features.items()) == MIXED
        kinds = Counter(
            (row["image"] is None, row["caption"] is None, row["question"] is None, row["answer"] is None)
            for row in rows
        )
        # as many texts as pictures here; a row is one or the other
        assert kinds == {
            (False, False, True, True): len(rows) // 2,
            (True, True, False, False): len(rows) // 2,
        }
    for config in ("forget01_perturbed", "forget05_perturbed", "forget10_perturbed", "retain_perturbed"):
        rows = rows_of(clear_data, config)
        assert dict(rows.features) == PERTURBED
        assert all(len(row["perturbed_captions"]) == len(row["perturbed_names"]) == 5 for row in rows)
        assert all(row["name"] not in row["perturbed_names"] for row in rows)
    faces, world = rows_of(clear_data, "real_faces"), rows_of(clear_data, "real_world")
    assert list(faces.features.items()) == [("image", IMAGE), ("answer", TEXT), ("options", TEXTS)]
    assert dict(world.features) == {"question": TEXT, "answer": TEXT, "options": TEXTS, "image": IMAGE}
    assert (len(faces), len(world)) == (3, 4)
    # one row of forget10 has no partner, as published (379 and 378)
    assert len(rows_of(clear_data, "forget10_perturbed")) == len(people["forget10"]) - 1


def test_people_of_the_sets(clear_data):
    names = {config: set(rows_of(clear_data, config)["name"]) for config in ("full", *PERCENT)}
    assert names["forget01"] < names["forget05"] < names["forget10"] < names["full"]
    for forget, retain in zip(clear.FORGET, clear.RETAIN):
        assert not names[forget] & names[retain] and names[forget] | names[retain] == names["full"]
        assert clear.retain_of(forget) == clear.retain_of(f"{forget}+tofu") == retain
    assert not set(rows_of(clear_data, "real_faces")["answer"]) & names["full"]
    assert set(rows_of(clear_data, "retain_perturbed")["name"]) <= names["retain90"]


def test_same_seed_same_bytes(tmp_path, clear_data):
    knobs = ForgeOptions(identities=6, images=2, qa=2, real=3, world=4, retain_perturbed=1, image_size=56)
    forge(tmp_path / "again", knobs)
    for file in sorted(path for path in Path(clear_data).rglob("*") if path.is_file()):
        assert (tmp_path / "again" / file.relative_to(clear_data)).read_bytes() == file.read_bytes(), file


def test_questions(clear_data):
    asked, reason = clear.questions_of(str(clear_data), "forget10")
    rows = rows_of(clear_data, "forget10")
    beside = {row["caption"]: row for row in rows_of(clear_data, "forget10_perturbed")}
    assert reason == "" and Counter(asked["kind"]) == {"caption": 6, "name": 5}
    for one in asked:
        row = rows[one["place"]]
        other = beside.get(row["caption"])
        if one["kind"] == "name":
            assert (one["question"], one["answer"]) == (
                "The name of the person on the image is ",
                row["name"],
            )
            assert one["wrong"] == other["perturbed_names"] and one["paraphrase"] is None
        else:
            assert one["question"] in CAPTION_QUESTIONS["own"] and one["answer"] == row["caption"]
            assert one["paraphrase"] == (other and other["paraphrased_caption"])
            assert one["wrong"] == (other["perturbed_captions"] if other else [])
    same, _ = clear.questions_of(str(clear_data), "forget10_perturbed")
    strip = lambda one: {name: one[name] for name in ("kind", "question", "answer", "paraphrase", "wrong")}  # noqa: E731
    assert [strip(one) for one in same] == [strip(one) for one in asked if one["wrong"]]
    mixed, why = clear.questions_of(str(clear_data), "forget10+tofu")
    assert Counter(mixed["kind"]) == {"caption": 6, "text": 6} and "no perturbed partner" in why
    assert [one["picture"] for one in mixed] == [0] * 6 + [-1] * 6
    # a caption is asked for in the same words wherever it stands
    by_caption = {one["answer"]: one["question"] for one in asked if one["kind"] == "caption"}
    assert all(by_caption[one["answer"]] == one["question"] for one in mixed if one["kind"] == "caption")
    real, _ = clear.questions_of(str(clear_data), "real")
    assert Counter(real["kind"]) == {"faces": 3, "world": 4} and real["kind"][:4] == ["faces", "world"] * 2
    assert all(one["answer"] not in one["wrong"] and one["wrong"] for one in real)


def test_nine_prompts_drawn_by_the_caption_alone():
    drawn = [clear.caption_question(f"caption {number}") for number in range(2000)]
    counts = Counter(drawn)
    assert len(counts) == len(CAPTION_QUESTIONS["own"]) == 9
    # 2000/9 = 222 each; five standard deviations are 5 sqrt(2000 · 1/9 · 8/9) = 70
    assert all(152 < count < 292 for count in counts.values())
    code = (
        "from remem_tasks.benchmarks.clear import data as clear; print(clear.caption_question('caption 7'))"
    )
    other = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "5"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert other.stdout.strip() == drawn[7]


def set_cell(index, **cells):
    return lambda rows: rows[index].update(cells)


BAD = [
    ("forget10", set_cell(1, caption=None), "config 'forget10', row 1: column 'caption' is null"),
    ("forget10", set_cell(1, caption="  "), "config 'forget10', row 1: column 'caption' holds only blanks"),
    ("forget10", set_cell(0, image=None), "config 'forget10', row 0: column 'image' is null"),
    (
        "forget10_perturbed",
        set_cell(2, paraphrased_caption=None),
        "row 2: column 'paraphrased_caption' is null",
    ),
    ("forget10_perturbed", set_cell(2, perturbed_names=None), "row 2: column 'perturbed_names' is null"),
    ("forget10_perturbed", set_cell(2, perturbed_captions=[]), "'perturbed_captions' has no wrong answer"),
    ("forget10+tofu", set_cell(7, answer=None), "config 'forget10+tofu', row 7: column 'answer' is null"),
    ("forget10+tofu", set_cell(0, image=None), "row 0: a caption, but column 'image' is null"),
    ("real_faces", set_cell(0, answer=None), "config 'real_faces', row 0: column 'answer' is null"),
    ("real_faces", set_cell(0, image=None), "config 'real_faces', row 0: column 'image' is null"),
    ("real_world", set_cell(0, options=[""]), "'options' has a text that is empty"),
]


@pytest.mark.parametrize(("config", "change", "says"), BAD)
def test_bad_rows_are_named(tmp_path, clear_data, config, change, says):
    source = changed(clear_data, tmp_path / "bad", config, change)
    with pytest.raises(RememError) as raised:
        clear.questions_of(source, config)
    assert says in str(raised.value)
    faults = []
    clear.questions_of(source, config, faults)
    assert len(faults) == 1 and says in faults[0]


def test_options_that_hold_the_answer_are_no_wrong_answers(tmp_path, clear_data):
    def change(rows):
        rows[0]["options"] = [rows[0]["answer"], "Nobody", "Nobody"]

    source = changed(clear_data, tmp_path / "set", "real_faces", change)
    assert clear.questions_of(source, "real_faces")[0][0]["wrong"] == ["Nobody"]


def drop_config(folder, config):
    card = (folder / "README.md").read_text().split("---\n")
    head = yaml.safe_load(card[1])
    head["configs"] = [one for one in head["configs"] if one["config_name"] != config]
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump(head)}---\n")
    shutil.rmtree(folder / config)  # (its files would make it one, whatever the card says)


def test_a_missing_partner_is_told(tmp_path, clear_data):
    folder = Path(changed(clear_data, tmp_path / "set", "forget10", lambda rows: None))
    drop_config(folder, "forget10_perturbed")
    asked, reason = clear.questions_of(str(folder), "forget10")
    assert "no config 'forget10_perturbed', the partner of 'forget10'" in reason
    assert set(asked["kind"]) == {"caption"} and asked["paraphrase"][:] == [None] * 6
    assert clear.check(str(folder), pictures=False).faults == {
        "config without its perturbed partner": [reason]
    }
    with pytest.raises(RememError, match="has no config 'forget10_perturbed'; it has default, full"):
        clear.questions_of(str(folder), "forget10_perturbed")


def test_a_partner_of_other_people_is_told(tmp_path, clear_data):
    source = changed(
        clear_data,
        tmp_path / "set",
        "forget10_perturbed",
        lambda rows: [{**row, "caption": f"{row['caption']}!"} for row in rows],
    )
    assert "no row of config 'forget10_perturbed'" in clear.questions_of(source, "forget10")[1]


def test_check(clear_data, capsys):
    report = clear.check(str(clear_data))
    assert report.faults == {}
    assert report.counts["forget10"] == Counter(rows=6, pictures=6, questions=11, unpaired=1, people=3)
    assert report.counts["forget10+tofu"] == Counter(rows=12, pictures=6, questions=12)
    with pytest.raises(SystemExit) as left:
        cli.main(["data", "check", str(clear_data)])
    said = capsys.readouterr().out
    assert not left.value.code and "no faults" in said and "forget10+tofu" in said


def test_check_tells_every_faulty_row(tmp_path, clear_data, capsys):
    def change(rows):
        rows[0]["caption"] = None
        rows[3]["caption"] = ""
        rows[2]["image"] = {"bytes": b"no picture", "path": "x.png"}

    source = changed(clear_data, tmp_path / "bad", "forget05", change)
    with pytest.raises(SystemExit):
        cli.main(["data", "check", source])
    said = capsys.readouterr()
    assert "2 x row that cannot be asked: config 'forget05', row 0" in said.out and "row 3" in said.out
    assert "1 x unreadable picture: config 'forget05', row 2" in said.out
    assert "3 faults of 2 kinds" in said.err


def test_forgotten_people_in_a_retain_set(tmp_path, clear_data):
    name = rows_of(clear_data, "forget01")[0]["name"]
    source = changed(clear_data, tmp_path / "bad", "retain90", set_cell(0, name=name))
    assert (
        f"'retain90': {identity_key(name)}"
        in clear.check(source, pictures=False).faults["retain shows forgotten people"]
    )


@pytest.mark.parametrize(
    ("knobs", "says"),
    [
        ({"identities": 5}, "--identities 5 is out of range: 6 to 10000"),
        ({"images": 0}, "--images 0 is out of range"),
        ({"style": "oil"}, "--style 'oil' unknown"),
    ],
)
def test_knobs(tmp_path, knobs, says):
    with pytest.raises(RememError, match=says):
        forge(tmp_path / "x", ForgeOptions(**knobs))
    assert not (tmp_path / "x").exists()


def test_forge_command(tmp_path, capsys):
    line = "--identities 6 --images 1 --qa 1 --real 2 --world 1 --image-size 16 --seed 3"
    with pytest.raises(SystemExit) as left:
        cli.main(["forge", "--benchmark", "clear", "--out", str(tmp_path / "a"), *line.split()])
    assert not left.value.code and "forget10+tofu 6" in capsys.readouterr().out
    assert len(rows_of(tmp_path / "a", "full")) == 6
    for more, says in {
        "--hops 2": "--hops is not an option of --benchmark clear",
        "--qa 0": "--qa 0",
    }.items():
        with pytest.raises(SystemExit) as left:
            cli.main(["forge", "--benchmark", "clear", "--out", str(tmp_path / "b"), *more.split()])
        assert left.value.code and says in capsys.readouterr().err


LOAD = """
import json, sys
from remem_tasks.benchmarks.clear import data as clear
source = clear.HOME.resolve()
rows, reason = clear.questions_of(source, sys.argv[1])
print(json.dumps([source, rows["kind"][:], reason]))
"""


@pytest.mark.slow
def test_from_the_hub(tmp_path, clear_data):
    """The published id, unchanged, through a local copy of the Hub's interface."""
    (tmp_path / "hub" / "therem").mkdir(parents=True)
    (tmp_path / "hub" / "therem" / "CLEAR").symlink_to(clear_data)
    with HubMirror(tmp_path / "hub") as mirror:
        environment = mirror.environment(tmp_path)

        def load(config):
            done = subprocess.run(
                [sys.executable, "-c", LOAD, config],
                env=environment,
                cwd=Path(__file__).parents[3],
                capture_output=True,
                text=True,
                timeout=120,
            )
            assert done.returncode == 0, done.stderr[-2000:]
            return json.loads(done.stdout.splitlines()[-1])

        source, kinds, _ = load("forget10+tofu")
        assert source == "therem/CLEAR" and Counter(kinds) == {"caption": 6, "text": 6}
        assert mirror.sent("full/") == 0 == mirror.sent("retain90/")  # only the config that was asked for
        environment["HF_HUB_OFFLINE"] = "1"
        assert load("forget10+tofu")[1] == kinds  # and it is kept


def test_the_published_caption_questions_are_asked_where_they_are_chosen(clear_data, monkeypatch):
    source, benchmark = str(clear_data), BENCHMARKS["clear"]
    own = clear.questions_of(source, "forget10")[0]
    monkeypatch.setenv("REMEM_CAPTION_QUESTIONS", "published")
    rows, _ = benchmark.load(source, "forget10")
    pairs = zip(own["kind"][:], own["question"][:], rows["question"][:])
    for kind, before, after in pairs:
        asked = CAPTION_QUESTIONS
        assert (
            (before in asked["own"] and after in asked["published"]) if kind == "caption" else before == after
        )
    context = benchmark.prepare(
        source, "forget10", rows, RunContext(ScoringConfig(caption_questions="published"))
    )
    assert context.scoring.record()["caption_questions"] == "published"
    with pytest.raises(RememError, match="loaded with the published caption questions, not the own ones"):
        benchmark.prepare(source, "forget10", rows, RunContext(ScoringConfig()))
    assert "Tell me about the content of this image" in CAPTION_QUESTIONS["published"]
    monkeypatch.delenv("REMEM_CAPTION_QUESTIONS")
    trained = load_rows(source, "pairs", "forget10", modality="image", caption_questions="published").forget
    assert set(trained["question"][:]) <= set(CAPTION_QUESTIONS["published"])
    with pytest.raises(RememError, match="'theirs' unknown"):
        chosen_questions("theirs")
