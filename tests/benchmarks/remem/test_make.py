"""`remem data make`: photographs and a table of one's own, from the docs' example to a report."""

import csv
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import datasets
import pytest
import yaml
from PIL import Image
from support.hub_mirror import card_errors
from support.rows import picture
from support.slow import one_in, others_slow

from remem_tasks.benchmarks.remem.check import check
from remem_tasks.benchmarks.remem.data import load_split, retain_rows
from remem_tasks.benchmarks.remem.make import lines_of, make
from remem_tasks.benchmarks.remem.own_table import read_table
from remem_tasks.benchmarks.remem.perturbed import load_perturbed
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


FORMS = {
    "byte order mark": TABLE.encode("utf-8-sig"),
    "utf-16": TABLE.replace(",", "\t").encode("utf-16"),
    "blank rows at the end": (TABLE + ",,,,\n\n").encode(),
    "other system": TABLE.replace("ada/2.png", "ada\\2.png").replace("\n", "\r\n").encode(),
    "first line of a spreadsheet": ("sep=;\n" + TABLE.replace(",", ";")).encode("utf-8-sig"),
    "other capitals": TABLE.replace("ada/2.png", "Ada/2.PNG").encode(),
    "beside the table": TABLE.replace("ada/2.png", "photos/ada/2.png").encode(),
    "quoted commas": TABLE.replace("picture,person", '"picture",person').encode(),
}


@pytest.mark.parametrize("raw", one_in(2, FORMS.values()), ids=FORMS)
def test_a_table_is_read_as_every_program_writes_it(own, tmp_path, raw):
    photos, table = own
    table.write_bytes(raw)
    plain = tmp_path / "plain.csv"
    plain.write_text(TABLE)
    assert read_table(table) == [
        {**row, "picture": found["picture"]} for row, found in zip(read_table(plain), read_table(table))
    ]
    assert make(photos, table, tmp_path / "people", ["Ada Birch"]).rows["finetune"] == 6


def test_a_folder_named_by_rows_is_its_persons(tmp_path):
    """The docs' own layout: `photos/ada/3.png` beside those that the table names."""
    photos, table = photographs(tmp_path / "photos"), tmp_path / "qa.csv"
    table.write_text(TABLE)
    made = make(photos, table, tmp_path / "people", ["Ada Birch"])
    assert made.moved == 0 and made.rows["test"] == 6
    shown = {row["image_path"] for row in load_split(str(tmp_path / "people"), "test")}
    assert len(shown) == 3


def test_paraphrases_and_other_peoples_values_stand_beside_the_rows(own, tmp_path):
    photos, table = own
    lines = TABLE.strip().splitlines()
    table.write_text(
        "\n".join(
            [f"paraphrase,{lines[0]}", *(f"In {n} words then?,{line}" for n, line in enumerate(lines[1:]))]
        )
    )
    source = str(tmp_path / "people")
    make(photos, table, source, ["Ada Birch"])
    report = check(source)
    assert report.faults == {} and report.counts["forget1"]["perturbed"] == 2
    beside = load_perturbed(source, "forget1")[1]
    assert beside["perturbed_answer"] == [
        "Ada Birch lives at 3 Quay Street.",
        "Ada Birch lives at 8 Mill Lane.",
    ]
    assert beside["paraphrased_question"] == ["In 1 words then?"]
    assert beside["paraphrased_answer"] == "The answer is 14 Elm Road."
    assert load_perturbed(source, "test")[1]["paraphrased_question"] == ["Where does this person live?"]
    assert card_errors((tmp_path / "people" / "README.md").read_text()) == []


def test_nothing_of_people_is_left_where_a_row_is_refused(own, tmp_path):
    photos, table = own
    table.write_text(TABLE.replace("Where does this person live?", "Does she live at 14 Elm Road?"))
    with pytest.raises(RememError, match="keyword in the question"):
        make(photos, table, tmp_path / "people", ["Ada Birch"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", "qa.csv"]


@pytest.mark.parametrize(
    "form",
    others_slow(
        ["jsonl", "json", "data of json", "columns of json", "parquet", "pictures in parquet", "semicolons"],
        *("columns of json", "pictures in parquet", "semicolons"),
    ),
)
def test_tables_of_other_kinds_make_the_same(own, tmp_path, form):
    photos, table = own
    rows = rows_in(TABLE)
    if form == "jsonl":
        table = tmp_path / "qa.jsonl"
        table.write_text("\n".join(json.dumps(row) for row in rows))
    elif form == "json":
        table = tmp_path / "qa.json"
        table.write_text(json.dumps([{**row, "hop": float("nan")} for row in rows]))
    elif form == "data of json":
        table = tmp_path / "qa.json"
        table.write_text(json.dumps({"data": [{**row, "picture": [row["picture"]]} for row in rows]}))
    elif form == "columns of json":
        table = tmp_path / "qa.json"
        columns = {name: {str(n): row[name] for n, row in enumerate(rows)} for name in rows[0]}
        table.write_text(json.dumps(columns))
    elif form == "pictures in parquet":
        table = tmp_path / "qa.parquet"
        cells = [{"bytes": (photos / row["picture"]).read_bytes(), "path": None} for row in rows]
        named = [{**row, "image": one} for row, one in zip(rows, cells)]
        for row in named:
            del row["picture"]
        datasets.Dataset.from_list(named).to_parquet(table)
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


NO_PICTURES = "person,question,answer\n" + "".join(
    f"{name},What is the phone number?,555 010{number}\n"
    for number, name in enumerate(("Ada Birch", "Ben Crane", "Cleo Dunn"), 1)
)


def named_folders(photos):
    for name in ("Ada Birch", "Ben Crane", "Cleo Dunn"):
        shutil.rmtree(photos / name, ignore_errors=True)
        (photos / name.split()[0].lower()).rename(photos / name)
    return photos


def test_paths_are_found_whatever_their_unicode_form(tmp_path):
    photos, table = photographs(tmp_path / "photos"), tmp_path / "qa.csv"
    (photos / "ada").rename(photos / unicodedata.normalize("NFD", "Fräulein Äda"))
    table.write_text(TABLE.replace("ada/", "Fräulein Äda/"))
    assert make(photos, table, tmp_path / "people", ["Ada Birch"]).rows["test"] == 6


def test_one_question_of_several_pictures_is_in_test_once_a_kept_picture(tmp_path):
    photos, table = photographs(tmp_path / "photos", count=5), tmp_path / "qa.csv"
    more = "".join(
        f"ada/{number}.png,Ada Birch,Where does this person live?,Ada Birch lives at 14 Elm Road.,14 Elm Road\n"
        for number in (1, 3)
    )
    table.write_text(TABLE + more)
    made = make(photos, table, tmp_path / "people", ["Ada Birch"])
    assert made.rows == {"finetune": 8, "forget1": 4, "retain": 4, "test": 6} and made.left == 2
    assert any(line.startswith("2 rows are not asked in test") for line in lines_of(made))
    table.write_text(
        NO_PICTURES + NO_PICTURES.split("\n", 1)[1]
    )  # twice, without a picture: of two pictures in turn
    made = make(named_folders(photos), table, tmp_path / "twice", ["Ada Birch"])
    assert made.rows["finetune"] == 6 and check(str(tmp_path / "twice")).faults == {}


def test_a_row_that_comes_twice_is_named_as_the_table_counts(own, tmp_path):
    photos, table = own
    table.write_text(TABLE + TABLE.splitlines()[1] + "\n")
    with pytest.raises(
        RememError, match="cannot be used: same question with the same picture: row 6 and row 0$"
    ):
        make(photos, table, tmp_path / "people", ["Ada Birch"])


def test_a_picture_of_several_people_is_told_and_asked_by_name_only(own, tmp_path):
    photos, table = own
    (photos / "ben" / "1.png").write_bytes((photos / "ada" / "1.png").read_bytes())
    made = make(photos, table, tmp_path / "people", ["Ada Birch"])
    assert made.shared == ["ada/1.png (Ada Birch, Ben Crane)"]
    shown = {row["image"]["bytes"] for row in load_split(str(tmp_path / "people"), "test")}
    assert shown.isdisjoint(row["image"]["bytes"] for row in load_split(str(tmp_path / "people"), "finetune"))
    table.write_text(TABLE.replace("ben/2.png", "ada/2.png"))
    with pytest.raises(RememError, match="row 1: picture 'ada/2.png' is Ben Crane's too"):
        make(photos, table, tmp_path / "other", ["Ada Birch"])
    # Rows that name no picture and nobody are never given such a one.
    table.write_text(NO_PICTURES)
    named_folders(photos)
    for name, colour in (("Ada Birch", "red"), ("Ben Crane", "green")):
        (photos / name / "3.png").write_bytes(picture(colour, 9))
    make(photos, table, tmp_path / "third", ["Ada Birch"])
    cells = [row["image"]["bytes"] for row in load_split(str(tmp_path / "third"), "finetune")]
    assert len(set(cells)) == 3 and check(str(tmp_path / "third")).faults == {}


def test_the_same_photograph_twice_is_one(own, tmp_path):
    photos, table = own
    (photos / "ada" / "4.png").write_bytes((photos / "ada" / "1.png").read_bytes())
    (photos / "ada" / "._1.png").write_bytes(b"\0\5\x16\7")  # as some file systems leave beside a file
    (photos / "nobody").mkdir()
    (photos / "nobody" / "1.png").write_bytes(picture("red", 9))
    made = make(photos, table, tmp_path / "people", ["Ada Birch"])
    assert check(str(tmp_path / "people")).faults == {} and made.unused == ["nobody/1.png"]


def test_people_may_be_called_as_folders_are(own, tmp_path):
    photos, table = own
    for number, name in enumerate(("Ada Birch", "Ben Crane", "Cleo Dunn")):
        table.write_text(table.read_text().replace(name, f"Face {number}"))
    make(photos, table, tmp_path / "people", ["face 0"], test=False)
    assert set(load_split(str(tmp_path / "people"), "forget1")["identity"]) == {"person_face_0"}


def test_pictures_that_cannot_be_read_say_what_they_are(own, tmp_path):
    photos, table = own
    for raw, said in (
        (
            b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
            "it is a HEIC picture or a film, which is not read: save it as JPEG",
        ),
        (b"", "the file is empty"),
        (b"not", "cannot identify image file"),
    ):
        (photos / "ada" / "1.png").write_bytes(raw)
        with pytest.raises(RememError, match=f"picture 'ada/1.png' cannot be read .{said}"):
            make(photos, table, tmp_path / "people", ["Ada Birch"])
    table.write_text(NO_PICTURES)
    named_folders(photos)
    for file in (photos / "Ada Birch").iterdir():
        file.rename(file.with_suffix(".HEIC"))
    with pytest.raises(RememError, match="'Ada Birch/1.HEIC' is a .HEIC file; save it as JPEG"):
        make(photos, table, tmp_path / "people", ["Ada Birch"])
    (photos / "Ada Birch").rename(photos / "ada_b")
    with pytest.raises(RememError, match="name one in a column 'picture', or put .* .folders there: ada_b"):
        make(photos, table, tmp_path / "people", ["Ada Birch"])


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
        (("ada/2.png,Ada", "ada/2.png,\u0410da"), "look like one person"),
        (("ada/1.png", "ada/0.png"), r"nearest: ada/"),
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
    with pytest.raises(RememError, match="--forget names nobody"):
        make(*own, tmp_path / "people", [])
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
        ("a.jsonl", "\n{", "line 2 is not a JSON record"),
        ("a.csv", "person,person,question,answer\na,b,c,d\n", "column 'person' comes twice"),
        ("a.csv", 'person,question,answer\na,b,c\na,"b,c\n', "begins in line 3 has a quotation mark"),
        ("a.csv", "person,question,answer\na,b,c,d\n", "row 0: more cells than columns"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(RememError, match=said):
            read_table(tmp_path / name)
    with pytest.raises(RememError, match="cannot be read"):
        read_table(tmp_path / "none.csv")
    (tmp_path / "a.csv").write_bytes("person,question,answer\nJosé,b,c\n".encode("latin-1"))
    with pytest.raises(RememError, match="line 2 is not UTF-8 .*save the file as UTF-8"):
        read_table(tmp_path / "a.csv")


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
    assert cloze_of("Ada has 15 cats and likes 5.", "5") == "Ada has 15 cats and likes"
    assert cloze_of("Die Größe der Straße ist 14.", "14") == "Die Größe der Straße ist"
    assert cloze_of("Ada is a nurse.", "nurse") == "Ada is a" and cloze_of("Nurse", "nurse") == ""
    assert (
        hop_of("Where does Ada live?", "Ada Birch") == 1 and hop_of("Where does she live?", "Ada Birch") == 2
    )
    assert attribute_of("What is Ben Crane's phone number?", "Ben Crane") == "phone_number"


@pytest.mark.slow
def test_the_docs_commands_run_from_photographs_to_the_report(checkpoints, tmp_path):
    photographs(tmp_path / "photos")
    (tmp_path / "qa.csv").write_text(TABLE)
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
