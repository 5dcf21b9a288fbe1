"""MLLMU-Bench's data: the forge makes the published schema, the loader asks its nested questions and refuses faulty ones."""

import json
import re
import shutil
from collections import Counter
from pathlib import Path

import datasets
import pyarrow.parquet as pq
import pytest
from support.forged import changed
from support.slow import others_slow

from remem_tasks import cli
from remem_tasks.benchmarks.base import RunContext
from remem_tasks.benchmarks.mllmu import data as mllmu
from remem_tasks.benchmarks.mllmu.forge import ForgeOptions, forge
from remem_tasks.benchmarks.registry import BENCHMARKS, detect
from remem_tasks.benchmarks.scoring_config import ScoringConfig
from remem_tasks.errors import RememError
from unlearning.data import load_rows

# MLLMMU/MLLMU-Bench, as its card lists it.
TEXT, IMAGE = datasets.Value("string"), datasets.Image()
CHOICES = datasets.List(
    {"Correct_Answer": TEXT, "Options": {"A": TEXT, "B": TEXT, "C": TEXT, "D": TEXT}, "Question": TEXT}
)
OPEN = datasets.List({"Ground_Truth": TEXT, "Question": TEXT, "Type": TEXT})
SHARED = {
    "ID": TEXT,
    "biography": TEXT,
    "question": TEXT,
    "answer": TEXT,
    "Classification_Task": {"Image_Textual_Questions": CHOICES, "Pure_Text_Questions": CHOICES},
    "Generation_Task": OPEN,
    "Mask_Task": OPEN,
}
SIZES = {
    "Full_Set": 6,
    "Test_Set": 6,
    "Retain_Set": 2,
    "ft_Data": 6,
    "forget_5": 1,
    "forget_10": 2,
    "forget_15": 3,
    "retain_95": 5,
    "retain_90": 4,
    "retain_85": 3,
}


def rows_of(folder, config):
    return datasets.load_dataset(str(folder), config, split="train")


def test_the_published_schema(mllmu_data):
    assert set(datasets.get_dataset_config_names(str(mllmu_data))) == set(SIZES)
    people = {}
    for config, size in SIZES.items():
        rows = rows_of(mllmu_data, config)
        if config == "ft_Data":  # as its author and three public readers have it
            assert dict(rows.features) == {"image": IMAGE, "metadata": TEXT} and len(rows) == size
            continue
        people[config] = set(rows["ID"])
        wanted = dict(SHARED)
        wanted |= {"images": datasets.List(IMAGE)} if config == "Test_Set" else {"image": IMAGE}
        wanted |= {"Directory": TEXT} if config == "Full_Set" else {}
        assert dict(rows.features) == wanted and len(rows) == size == len(people[config]), config
    assert people["forget_5"] < people["forget_10"] < people["forget_15"]
    for size in (5, 10, 15):
        forget, retain = people[f"forget_{size}"], people[f"retain_{100 - size}"]
        assert not forget & retain and forget | retain == people["Full_Set"] == people["Test_Set"]
    assert not people["Retain_Set"] & people["Full_Set"]
    test = rows_of(mllmu_data, "Test_Set")
    assert [len(row["images"]) for row in test] == [2] * 6
    trained = {row["image"].tobytes() for row in rows_of(mllmu_data, "Full_Set")}
    assert not trained & {picture.tobytes() for row in test for picture in row["images"]}
    for row in test:
        for one in row["Classification_Task"]["Image_Textual_Questions"]:
            assert len(set(one["Options"].values())) == 4 and one["Correct_Answer"] in one["Options"]
        assert Counter(one["Type"] for one in row["Mask_Task"]) == {"Image_Textual": 2, "Pure_Text": 2}
        assert all("__" in one["Question"] for one in row["Mask_Task"])
    letters = {one["letter"] for one in mllmu.questions_of(str(mllmu_data), "full")}
    assert letters == {"", "A", "B", "C", "D"}  # the right option is not always the same


def test_same_seed_same_bytes(tmp_path, mllmu_data):
    forge(tmp_path / "again", ForgeOptions(identities=6, images=2, qa=2, real=2, image_size=56))
    for file in sorted(path for path in Path(mllmu_data).rglob("*") if path.is_file()):
        assert (tmp_path / "again" / file.relative_to(mllmu_data)).read_bytes() == file.read_bytes(), file


def test_questions_are_those_of_the_rows(mllmu_data):
    asked = mllmu.questions_of(str(mllmu_data), "forget_10")
    rows = rows_of(mllmu_data, "forget_10")
    assert Counter(zip(asked["kind"], asked["modality"])) == dict.fromkeys(
        [(kind, place) for kind in ("classification", "cloze", "generation") for place in ("image", "text")],
        4,
    )
    assert len(set(asked["row_id"])) == len(asked)
    for one in asked:
        row = rows[one["place"]]
        assert one["identity"] == row["ID"] and (one["picture"] == 0) == (one["modality"] == "image")
        column = {"image": "Image_Textual", "text": "Pure_Text"}[one["modality"]]
        if one["kind"] == "classification":
            (raw,) = [
                raw
                for raw in row["Classification_Task"][f"{column}_Questions"]
                if raw["Question"] == one["question"]
            ]
            # options in the published order: the released evaluation shuffles none
            lines = [f"{letter}: {raw['Options'][letter]}" for letter in "ABCD"]
            assert one["prompt"].split("\n")[:5] == [raw["Question"], *lines]
            assert (one["letter"], one["answer"]) == (
                raw["Correct_Answer"],
                raw["Options"][raw["Correct_Answer"]],
            )
        elif one["kind"] == "cloze":
            (raw,) = [raw for raw in row["Mask_Task"] if raw["Question"] == one["question"]]
            assert raw["Type"] == column and raw["Ground_Truth"] == one["answer"]
            assert one["prompt"].startswith(raw["Question"].replace("__", "[Blank]"))
            assert one["cloze"] == raw["Question"].split("__")[0]  # with its space, if there is one
        else:
            (raw,) = [raw for raw in row["Generation_Task"] if raw["Question"] == one["question"]]
            assert raw["Type"] == column and raw["Ground_Truth"] == one["answer"]


def test_test_sets_ask_about_the_forgotten_only(mllmu_data):
    forgotten = set(rows_of(mllmu_data, "forget_10")["ID"])
    test = mllmu.questions_of(str(mllmu_data), "test_10")
    assert set(test["identity"]) == forgotten and set(test["config"]) == {"Test_Set"}
    shown = [one["picture"] for one in test if one["modality"] == "image"]
    assert set(shown) <= {0, 1} and len(mllmu.questions_of(str(mllmu_data), "test")) == 3 * len(test)
    # the same picture for all questions about a person, in every run
    assert len({(one["identity"], one["picture"]) for one in test if one["modality"] == "image"}) == 2


@pytest.mark.parametrize(
    "name", ["forget_5", "test_10", "retain_95", "retain_85", "celebrities", "full", "test"]
)
def test_demonstrations_are_never_of_the_forget_set(mllmu_data, name):
    kept = mllmu.kept_questions(str(mllmu_data), name)
    sets = {"forget_5": [5], "test_10": [10], "retain_95": [5], "retain_85": [15]}.get(name, [5, 10, 15])
    forgotten = {person for size in sets for person in rows_of(mllmu_data, f"forget_{size}")["ID"]}
    assert kept and not forgotten & {one["identity"] for one in kept}
    assert {(one["kind"], one["modality"]) for one in kept} == {("classification", "text")}


def nested(row, path):
    *way, last = path
    for step in way:
        row = row[step]
    return row, last


BAD = [
    (("ID",), None, "row 0: column 'ID' is null"),
    (("Classification_Task", "Pure_Text_Questions", 1, "Correct_Answer"), None, "Pure_Text_Questions 1: Correct_Answer is null"),
    (("Classification_Task", "Image_Textual_Questions", 0, "Correct_Answer"), "E", "Correct_Answer 'E' is none of A, B, C, D, and no option"),
    (("Classification_Task", "Image_Textual_Questions", 0, "Options", "C"), None, "Image_Textual_Questions 0: option C is null"),
    (("Generation_Task", 2, "Ground_Truth"), " ", "(001), Generation_Task 2: Ground_Truth holds only blanks"),
    (("Generation_Task", 2, "Type"), "Sound", "Type 'Sound' is none of Image_Textual, Pure_Text"),
    (("Mask_Task", 0, "Question"), "no gap", "Mask_Task 0: Question has no blank"),
    (("Mask_Task", 0, "Ground_Truth"), "?!", "Ground_Truth '?!' has no letter or digit"),
    (("image",), None, "(001): no picture, but questions about one"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "cell", "says"), BAD)
def test_bad_rows_are_named(tmp_path, mllmu_data, path, cell, says):
    def change(rows):
        row, last = nested(rows[0], path)
        row[last] = cell

    source = changed(mllmu_data, tmp_path / "bad", "forget_10", change)
    with pytest.raises(RememError, match=re.escape(says)):
        mllmu.questions_of(source, "forget_10")
    faults = []
    rest = mllmu.questions_of(source, "forget_10", faults)
    assert len(faults) == 1 and says in faults[0]
    # a faulty question is left out, or the whole row where it is the row that is faulty
    assert len(rest) == (12 if path in (("ID",), ("image",)) else 23)
    rows, _ = BENCHMARKS["mllmu"].load(source, "forget_10")
    with pytest.raises(RememError, match=re.escape(says)):
        BENCHMARKS["mllmu"].prepare(source, "forget_10", rows, RunContext(ScoringConfig()))


def test_faults_stop_a_run_unless_they_are_let_pass(tmp_path, mllmu_data):
    def change(rows):
        rows[0]["Mask_Task"][1]["Ground_Truth"] = None

    source = changed(mllmu_data, tmp_path / "bad", "forget_10", change)
    benchmark = BENCHMARKS["mllmu"]
    rows, _ = benchmark.load(source, "forget_10")
    with pytest.raises(
        RememError, match="row that cannot be asked: config 'forget_10', row 0 .*--faults allow"
    ):
        benchmark.prepare(source, "forget_10", rows, RunContext(ScoringConfig()))
    context = benchmark.prepare(source, "forget_10", rows, RunContext(ScoringConfig(faults="allow")))
    fault = "row that cannot be asked (config 'forget_10', row 0 (001), Mask_Task 1: Ground_Truth is null)"
    assert len(rows) == 23 and context.missing["questions"] == f"1 faults left out: 1 x {fault}"
    assert len(mllmu.training_rows(source, "forget_10")) == 10  # blanks are not trained on


@pytest.mark.parametrize(
    ("said", "letter"),
    [
        ("B", "B"),
        ("b", "B"),
        ("C. Oslo Bay", "C"),
        ("D: x", "D"),
        ("oslo bay", "A"),
        ("Bergen", ""),
        ("twin", ""),
    ],
)
def test_right_answers_as_they_are_written(said, letter):
    assert mllmu._chosen(said, ["Oslo Bay", "Turku", "twin", "Twin"]) == letter


def test_check(tmp_path, mllmu_data, capsys):
    def change(rows):
        rows[0]["Mask_Task"][1]["Ground_Truth"] = None
        return [*rows, rows_of(mllmu_data, "forget_5").cast_column("image", datasets.Image(decode=False))[0]]

    assert detect(str(mllmu_data)) == ("mllmu", str(mllmu_data))
    assert mllmu.check(str(mllmu_data)).faults == {}
    source = changed(mllmu_data, tmp_path / "bad", "retain_95", change)
    report = mllmu.check(source)
    assert report.faults == {
        "row that cannot be asked": ["config 'retain_95', row 0 (002), Mask_Task 1: Ground_Truth is null"],
        "retain shows forgotten people": ["'retain_95': 001"],
    }
    assert report.counts["forget_5"] == Counter(
        {"rows": 1, "pictures": 1}
        | {
            f"{kind} {place}": 2
            for kind in ("classification", "cloze", "generation")
            for place in ("image", "text")
        }
    )
    with pytest.raises(SystemExit) as left:
        cli.main(["data", "check", source, "--no-pictures"])
    said = capsys.readouterr()
    assert left.value.code and "2 faults of 2 kinds" in said.err and "cloze" in said.out


def test_training_rows(mllmu_data):
    counts = {}
    for modality in ("joint", "text", "image"):
        rows = mllmu.training_rows(str(mllmu_data), "forget_10", modality)
        counts[modality] = Counter(cell is not None for cell in rows["image"])
        assert all(row["question"] and row["answer"] and row["keywords"] for row in rows)
    # 2 people: a biography and two sentences with the picture, two sentences without
    assert counts == {"joint": {True: 6, False: 4}, "text": {False: 4}, "image": {True: 6}}


def test_training_pairs(mllmu_data):
    pairs = load_rows(str(mllmu_data), "pairs", "forget_5")
    people = {name: set(rows_of(mllmu_data, name)["ID"]) for name in ("forget_5", "retain_95")}
    assert set(pairs.forget["identity"]) == people["forget_5"]
    assert set(pairs.retain["identity"]) == people["retain_95"]
    gold, whole = (load_rows(str(mllmu_data), kind, "forget_5").train for kind in ("retain", "finetune"))
    assert gold["row_id"][:] == pairs.retain["row_id"][:]
    # ft_Data tells of 6 people: who it is, and two sentences in each of two wordings, all with the picture
    assert len(whole) == 6 * 5 and set(whole["identity"]) == {""} and None not in whole["image"]
    with pytest.raises(
        RememError, match="'forget_6' is not a forget set of MLLMU-Bench: forget_5, forget_10"
    ):
        load_rows(str(mllmu_data), "pairs", "forget_6")


def test_forge_command(tmp_path, capsys):
    line = "--identities 6 --images 1 --qa 1 --real 1 --image-size 16"
    with pytest.raises(SystemExit) as left:
        cli.main(["forge", "--benchmark", "mllmu", "--out", str(tmp_path / "a"), *line.split()])
    assert not left.value.code and "forget_15 3" in capsys.readouterr().out
    with pytest.raises(RememError, match="--qa 13 is out of range"):
        forge(tmp_path / "b", ForgeOptions(qa=13))


def without_card(source, folder):
    shutil.copytree(source, folder)
    (folder / "README.md").unlink()
    return str(folder)


def test_a_folder_without_its_card_is_known_by_its_files(tmp_path, mllmu_data):
    source = without_card(mllmu_data, tmp_path / "bare")
    assert detect(source) == ("mllmu", source)
    assert mllmu.check(source).faults == {}
    assert len(mllmu.questions_of(source, "test_5")) == len(mllmu.questions_of(str(mllmu_data), "test_5"))
    (file,) = Path(source, "forget_5").glob("*.parquet")
    file.rename(file.with_name("train-00000-of-00002.parquet"))
    with pytest.raises(RememError, match="holds 1 of the 2 files of split 'train'"):
        mllmu.questions_of(source, "forget_5")


@pytest.mark.parametrize("form", ["with ID", "native", "as before"])
def test_other_forms_of_what_is_memorised(tmp_path, mllmu_data, form):
    plain = datasets.Image(decode=False)
    people = rows_of(mllmu_data, "Full_Set").cast_column("image", plain).to_list()
    rows = rows_of(mllmu_data, "ft_Data").cast_column("image", plain).to_list()
    if form == "as before":
        rows = people
    for row, person in zip(rows, people):
        row["ID"] = person["ID"] if form == "as before" else int(person["ID"])
        if form == "native":
            row["metadata"] = json.loads(row["metadata"])
    source = tmp_path / "other"
    shutil.copytree(mllmu_data, source)
    (file,) = (source / "ft_Data").glob("*.parquet")
    datasets.Dataset.from_list(rows).cast_column("image", datasets.Image()).to_parquet(str(file))
    told, published = (mllmu.training_rows(str(place), "ft_Data") for place in (source, mllmu_data))
    if form == "as before":
        assert len(told) == 30 and set(told["identity"]) == {f"00{number}" for number in range(1, 7)}
    else:
        assert [told[name][:] for name in ("question", "answer")] == [
            published[name][:] for name in ("question", "answer")
        ]
        assert told["identity"][0] == "1" and published["identity"][0] == ""


CELLS = {
    "one record in JSON": lambda pairs: json.dumps(pairs[0]),
    "a record": lambda pairs: pairs[0],
    "JSON in JSON": lambda pairs: json.dumps(json.dumps(pairs)),
    "bytes": lambda pairs: json.dumps(pairs).encode(),
    "a list of JSON": lambda pairs: [json.dumps(pair) for pair in pairs],
    "other capitals": lambda pairs: [{name.lower(): cell for name, cell in pair.items()} for pair in pairs],
    "a record of lists": lambda pairs: {name: [pair[name] for pair in pairs] for name in pairs[0]},
}


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_metadata_is_read_as_programs_write_it(tmp_path, mllmu_data, cell):
    def change(rows):
        for row in rows:
            row["metadata"] = cell(json.loads(row["metadata"]))

    source = changed(mllmu_data, tmp_path / "other", "ft_Data", change)
    told, published = (mllmu.training_rows(str(place), "ft_Data") for place in (source, mllmu_data))
    step = 5 if len(told) == 6 else 1  # the first of five pairs of each person
    assert len(told) == len(published) // step
    for name in ("question", "answer"):
        assert told[name][:] == published[name][::step]


def test_a_folder_is_known_by_its_files_whatever_its_card_and_layout(tmp_path, mllmu_data):
    def laid_out(name, card, change=lambda folder: None):
        source = shutil.copytree(mllmu_data, tmp_path / name)
        (source / "README.md").write_text(card, encoding="utf-8-sig")
        for file in [*source.glob("*/*.parquet")]:
            change(file)
        return str(source)

    def one_file(file):
        file.rename(file.parent.with_suffix(".parquet"))

    def converted(file):  # as the Hub's branch of converted files has it
        (file.parent / "train").mkdir()
        file.rename(file.parent / "train" / "0000.parquet")

    one_config = "---\nconfigs:\n- config_name: Full_Set\n  data_files: Full_Set/train-*\n---\n"
    asked = len(mllmu.questions_of(str(mllmu_data), "test_5"))
    for source in (
        laid_out("words alone", "# My copy\n"),
        laid_out("a licence", "---\nlicense: mit\n---\nMy copy\n"),
        laid_out("a part", one_config),
        laid_out("flat", "# My copy\n", one_file),
        laid_out("converted", "# My copy\n", converted),
        laid_out("numbered", "", lambda file: file.rename(file.with_name("0000.parquet"))),
    ):
        assert detect(source) == ("mllmu", source) and mllmu.check(source).faults == {}, source
        assert len(mllmu.questions_of(source, "test_5")) == asked


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ({"metadata": "Metadata"}, r"missing column\(s\) metadata; found Metadata, image"),
        ({"image": "images"}, r"missing column\(s\) image; found images, metadata"),
    ],
)
def test_columns_under_other_names_are_among_those_found(tmp_path, mllmu_data, names, said):
    source = shutil.copytree(mllmu_data, tmp_path / "renamed")
    (file,) = (source / "ft_Data").glob("*.parquet")
    table = pq.read_table(file).replace_schema_metadata(None)
    pq.write_table(table.rename_columns([names.get(name, name) for name in table.column_names]), file)
    with pytest.raises(RememError, match=said):
        mllmu.training_rows(str(source), "ft_Data")


def test_faults_of_metadata_are_named(tmp_path, mllmu_data):
    def change(rows):
        rows[1]["metadata"] = '[{"Question": "Who?", "Answer": "\u200b"}]'
        rows[2]["metadata"] = "[]"

    source = changed(mllmu_data, tmp_path / "bad", "ft_Data", change)
    said = [
        "config 'ft_Data', row 1, metadata 0: Answer holds only characters that show nothing",
        "config 'ft_Data', row 2: column 'metadata' holds an empty list",
    ]
    assert mllmu.check(source).faults == {"row that cannot be asked": said}
    with pytest.raises(RememError, match=said[0]):
        mllmu.training_rows(source, "ft_Data")
    assert len(mllmu.training_rows(source, "ft_Data", choice="allow")) == 20
    broken = lambda rows: rows[3].update(metadata="[{'Question': ")  # noqa: E731
    source = changed(mllmu_data, tmp_path / "worse", "ft_Data", broken)
    with pytest.raises(RememError, match=r"'ft_Data', row 3: column 'metadata' holds nothing of the form \["):
        mllmu.training_rows(source, "ft_Data")


@pytest.mark.parametrize("cell", others_slow([None, []], None), ids=["null", "empty"])
@pytest.mark.parametrize(
    "path",
    [
        ("Generation_Task",),
        ("Mask_Task",),
        ("Classification_Task", "Pure_Text_Questions"),
        ("Classification_Task", "Image_Textual_Questions"),
    ],
    ids=lambda path: path[-1],
)
def test_a_row_that_lacks_what_others_are_asked_is_a_fault(tmp_path, mllmu_data, path, cell):
    """Its figures would be means over other people than those of the set."""

    def change(rows):
        row, last = nested(rows[1], path)
        row[last] = cell

    source = changed(mllmu_data, tmp_path / "lacks", "forget_10", change)
    said = f"{path[-1]} {'is null' if cell is None else 'holds an empty list'}, and other rows have questions"
    faults = []
    mllmu.questions_of(source, "forget_10", faults)
    assert len(faults) == 1 and "row 1" in faults[0] and said in faults[0]
    assert list(mllmu.check(source).faults.values()) == [faults]
    rows, _ = BENCHMARKS["mllmu"].load(source, "forget_10")
    with pytest.raises(RememError, match=re.escape(said)):
        BENCHMARKS["mllmu"].prepare(source, "forget_10", rows, RunContext(ScoringConfig()))


def test_a_kind_that_no_row_asks_is_said_to_be_missing(tmp_path, mllmu_data):
    def change(rows):
        for row in rows:
            row["Mask_Task"] = None

    source = changed(mllmu_data, tmp_path / "lacks", "forget_10", change)
    rows, _ = BENCHMARKS["mllmu"].load(source, "forget_10")
    context = BENCHMARKS["mllmu"].prepare(source, "forget_10", rows, RunContext(ScoringConfig()))
    assert context.missing["cloze"] == "no row of 'forget_10' has a question of the kind cloze"


def test_a_person_who_comes_twice_in_a_set_is_counted_once(tmp_path, mllmu_data):
    source = changed(mllmu_data, tmp_path / "twice", "forget_10", lambda rows: [*rows, rows[0]])
    faults = []
    rows = mllmu.questions_of(source, "forget_10", faults)
    assert len(rows) == 24 and len(faults) == 1 and "row 2" in faults[0] and "twice" in faults[0]
    assert list(mllmu.check(source).faults.values()) == [faults]


@pytest.mark.parametrize("name", ["Generation_Task", "Mask_Task"])
def test_a_question_that_is_null_is_named(tmp_path, mllmu_data, name):
    def change(rows):
        rows[1][name][0] = None

    source = changed(mllmu_data, tmp_path / "null", "forget_10", change)
    faults = []
    mllmu.questions_of(source, "forget_10", faults)
    assert len(faults) == 1 and f"{name} 0 is null" in faults[0]
    assert list(mllmu.check(source).faults.values()) == [faults]


def test_a_picture_of_a_list_that_is_null_is_found_by_check(tmp_path, mllmu_data):
    def change(rows):
        rows[1]["images"][0] = None

    source = changed(mllmu_data, tmp_path / "null", "Test_Set", change)
    (found,) = mllmu.check(source).faults.values()
    assert len(found) == 1 and "row 1" in found[0] and "null" in found[0]
