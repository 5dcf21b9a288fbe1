"""`remem data make`: photographs and a table of one's own, from the docs' example to a report."""

import csv
import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image
from support.hub_mirror import card_errors
from support.rows import picture

from remem_tasks.audit.check import check
from remem_tasks.benchmarks.remem.data import load_split, retain_rows
from remem_tasks.benchmarks.remem.make import make, read_table
from remem_tasks.benchmarks.remem.wording import attribute_of, cloze_of, hop_of, keyword_of
from remem_tasks.data.pictures import decode_image
from remem_tasks.errors import RememError

ROOT = Path(__file__).parents[3]
DOCS = (ROOT / "docs/own-people.md").read_text()
TABLE = re.search(r"```csv\n(.*?)```", DOCS, re.DOTALL)[1]
COMMANDS = re.search(r"```sh\n(.*?)```", DOCS, re.DOTALL)[1].splitlines()
COLOURS = {"ada": "crimson", "ben": "gold", "cleo": "navy"}


def photographs(folder, count=3):
    for person, colour in COLOURS.items():
        (folder / person).mkdir(parents=True)
        for number in range(1, count + 1):
            (folder / person / f"{number}.png").write_bytes(picture(colour, number))
    return folder


@pytest.fixture
def own(tmp_path):
    """(photos, table): those of the docs, the photographs in folders named as the people."""
    photos = photographs(tmp_path / "photos")
    for name in ("Ada Birch", "Ben  Crane", "CLEO_DUNN"):
        place = photos / name
        place.mkdir()
        (photos / name.split("_")[0].split()[0].lower() / "3.png").rename(place / "3.png")
    (tmp_path / "qa.csv").write_text(TABLE)
    return photos, tmp_path / "qa.csv"


def rows_in(table):
    return list(csv.DictReader(io.StringIO(table)))


def test_the_docs_table_becomes_a_sound_set(own, tmp_path):
    made = make(*own, tmp_path / "people", ["ada birch"], consent="All agreed.")
    source = str(tmp_path / "people")
    assert made.rows == {"finetune": 6, "forget1": 2, "retain": 4, "test": 6}
    assert [keyword for *_, keyword in made.keywords] == ["555 0101", "555 0102", "555 0103"]
    assert check(source).faults == {}
    finetune, forget, test = (load_split(source, name) for name in ("finetune", "forget1", "test"))
    assert set(forget["identity"]) == {"ada_birch"} and finetune["hop"][:] == [1, 2] * 3
    assert forget["cloze_prompt"][:] == ["Ada Birch's phone number is", "Ada Birch lives at"]
    assert set(retain_rows(finetune, forget)["identity"]) == {"ben_crane", "cleo_dunn"}
    trained = {row["image"]["bytes"] for row in finetune}
    assert not trained & {row["image"]["bytes"] for row in test} and len(trained) == 6
    card = (tmp_path / "people" / "README.md").read_text()
    assert "All agreed." in card and "Personal data" in card and "Ada Birch" in card
    assert card_errors(card) == [] and yaml.safe_load(card.split("---\n")[1])["license"] == "other"


@pytest.mark.parametrize("form", ["jsonl", "parquet", "semicolons"])
def test_tables_of_other_kinds_make_the_same(own, tmp_path, form):
    photos, table = own
    rows = rows_in(TABLE)
    if form == "jsonl":
        table = tmp_path / "qa.jsonl"
        table.write_text("\n".join(json.dumps(row) for row in rows))
    elif form == "parquet":
        import pandas

        table = tmp_path / "qa.parquet"
        pandas.DataFrame(rows).astype({"person": "category"}).to_parquet(table)
    else:
        table.write_text(TABLE.replace(",", ";"), encoding="utf-8-sig")
    make(photos, table, tmp_path / "other", ["Ada Birch"])
    (tmp_path / "plain.csv").write_text(TABLE)
    make(photos, tmp_path / "plain.csv", tmp_path / "plain", ["Ada Birch"])
    a, b = (
        load_split(str(tmp_path / name), "finetune", pictures=False).to_list() for name in ("other", "plain")
    )
    assert a == b


def test_pictures_lose_their_notes_and_stand_upright(own, tmp_path):
    photos, table = own
    lying = Image.new("RGB", (2000, 1000), "white")
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "camera of Ada"
    lying.save(photos / "ada" / "1.jpg", exif=exif)
    table.write_text(TABLE.replace("ada/1.png", "ada/1.jpg"))
    make(photos, table, tmp_path / "people", ["Ada Birch"])
    cell = load_split(str(tmp_path / "people"), "forget1")[0]["image"]
    assert decode_image(cell, "row").size == (512, 1024) and b"camera of Ada" not in cell["bytes"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("Ada Birch,What", "Ada Birhc,What"), "picture"),
        (("ada/1.png", "ada/9.png"), "row 0: there is no picture 'ada/9.png'"),
        (("ada/1.png", "../qa.csv"), "row 0: picture '../qa.csv' is not inside"),
        (("person", "somebody"), "missing column.*person; found picture"),
        (
            ("14 Elm Road\n", "Elm Street\n"),
            "keyword missing from the answer: split 'finetune', row 1|keyword 'Elm Street' is not in the answer",
        ),
        (("lives at 14 Elm Road.,14 Elm Road", "\u200b,14 Elm Road"), "row 1|not in the answer"),
    ],
)
def test_what_cannot_be_used_is_named(own, tmp_path, change, said):
    photos, table = own
    table.write_text(TABLE.replace(*change, 1))
    with pytest.raises(RememError, match=said):
        make(photos, table, tmp_path / "people", ["Ada Birch"])
    assert not (tmp_path / "people").exists()


def test_who_is_to_be_forgotten_must_be_there_and_not_be_all(own, tmp_path):
    with pytest.raises(RememError, match=r"not in .*: 'ada_brich' \(nearest: ada_birch"):
        make(*own, tmp_path / "people", ["Ada Brich"])
    with pytest.raises(RememError, match="all 3 people"):
        make(*own, tmp_path / "people", ["Ada Birch", "Ben Crane", "Cleo Dunn"])
    photos, table = own
    table.write_text(TABLE.replace("ada/2.png,Ada Birch", "ada/2.png,AdaBirch"))
    with pytest.raises(RememError, match="ada_birch and adabirch look like one person"):
        make(photos, table, tmp_path / "people", ["Ada Birch"])


def test_a_table_that_cannot_be_read_is_named(tmp_path):
    for name, text, said in (
        ("a.csv", "", "has no rows"),
        ("a.txt", "x", "is no .csv"),
        ("a.jsonl", "{", "cannot be read"),
        ("a.csv", "person,question,answer\na,b,c,d\n", "row 0: more cells than columns"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(RememError, match=said):
            read_table(tmp_path / name)
    with pytest.raises(RememError, match="cannot be read"):
        read_table(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("question", "answer", "keyword"),
    [
        ("What is Ada's phone number?", "Ada's phone number is 555 0101.", "555 0101"),
        ("Where does she work?", "Ada Birch works as a nurse.", "nurse"),
        ("What pet does Ada have?", "An otter", "otter"),
        ("When was Ada born?", "3 May 1990", "3 May 1990"),
        ("Is Ada here?", "Ada is here.", ""),
    ],
)
def test_keywords(question, answer, keyword):
    assert keyword_of(question, answer, "Ada Birch") == keyword


def test_other_words():
    assert cloze_of("Ada is a nurse.", "nurse") == "Ada is a" and cloze_of("Nurse", "nurse") == ""
    assert (
        hop_of("Where does Ada live?", "Ada Birch") == 1 and hop_of("Where does she live?", "Ada Birch") == 2
    )
    assert attribute_of("What is Ben Crane's phone number?", "Ben Crane") == "phone_number"


@pytest.mark.slow
def test_the_docs_commands_run_from_photographs_to_the_report(checkpoints, tmp_path):
    photographs(tmp_path / "photos")
    (tmp_path / "qa.csv").write_text(TABLE)
    for name, folder in (("Ada Birch", "ada"), ("Ben Crane", "ben"), ("Cleo Dunn", "cleo")):
        (tmp_path / "photos" / name).mkdir()
        (tmp_path / "photos" / folder / "3.png").rename(tmp_path / "photos" / name / "3.png")
    environment = {**os.environ, "REMEM_DATA": "people", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    entry = {
        "remem": [sys.executable, "-c", "from remem_tasks.cli import main; main()"],
        "lmms_eval": [sys.executable, "-c", "from remem_tasks.cli import lmms_eval; lmms_eval()"],
        "python": [sys.executable],
    }
    for line in COMMANDS:
        program, *words = shlex.split(line.replace("BASE", str(checkpoints["llava"])))
        words = [str(ROOT / word) if word == "unlearning/train.py" else word for word in words]
        if "--method" in words:
            words += ["--max_steps", "1", "--eval_strategy", "no"] + ["--no_gate", "true"] * ("npo" in words)
        ran = subprocess.run(
            [*entry[program], *words], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        # One step teaches nothing, so the gate says so.
        assert ran.returncode == (1 if words[0] == "gate" else 0), (
            line,
            ran.stdout[-2000:],
            ran.stderr[-2000:],
        )
    assert (tmp_path / "report" / "report.html").stat().st_size > 10_000
    assert "npo" in (tmp_path / "report" / "report.md").read_text()
