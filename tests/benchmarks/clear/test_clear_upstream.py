"""The tasks and the entry point that docs/upstream offers to lmms-eval, in the release that is installed: the scores of ours."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import lmms_eval
import pytest
from rouge_score.rouge_scorer import RougeScorer
from support.scripted import Scripted, run

from remem_tasks.benchmarks.clear import data as clear
from remem_tasks.benchmarks.clear.questions import CAPTION_QUESTIONS, PUBLISHED

ROOT = Path(__file__).resolve().parents[3]
UPSTREAM = ROOT / "docs" / "upstream"
TASKS = UPSTREAM / "lmms_eval" / "tasks" / "clear"
THEIRS = {
    "clear_forget10_caption": ("clear_forget10_perturbed", "caption"),
    "clear_forget10_name": ("clear_forget10_perturbed", "name"),
    "clear_forget10_text": ("clear_forget10+tofu", "text"),
    "clear_retain_caption": ("clear_retain_perturbed", "caption"),
    "clear_faces": ("clear_real_faces", "faces"),
    "clear_world": ("clear_real_world", "world"),
}
"""Task there → ours with the same samples, and their kind."""
CHOICES = {
    "clear_forget10_name_choice": ("forget10_perturbed", "name"),
    "clear_faces_choice": ("real_faces", "faces"),
    "clear_world_choice": ("real_world", "world"),
}
"""Task there → config and kind of the same questions."""


@pytest.fixture(scope="module")
def utils():
    spec = importlib.util.spec_from_file_location("clear_utils_of_upstream", TASKS / "utils.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def theirs(clear_here, tmp_path, monkeypatch):
    """The folder with the tasks, of the forged data in place of the Hub's; ours ask the published questions, as they do."""
    folder = shutil.copytree(TASKS, tmp_path / "clear")
    template = folder / "_default_template_yaml"
    text, changed = re.subn(
        "(?m)^dataset_path: .*$", f"dataset_path: {clear_here}", template.read_text(encoding="utf-8")
    )
    assert changed == 1
    template.write_text(text, encoding="utf-8")
    monkeypatch.setenv("REMEM_CAPTION_QUESTIONS", PUBLISHED)
    return folder


def scores(samples, kind=None):
    """Of the rows of a kind, or of one of their tasks, in order: (reply, ROUGE-L recall)."""
    name = f"clear_{kind}_rouge" if kind else "clear_rougeL_recall"
    return [(one["filtered_resps"][0], one[name]) for one in samples if name in one]


def half(row):
    """A reply that has some of it right, another for each row."""
    words = row["answer"].split()
    return " ".join(["well", *words[len(row["answer"]) % 2 :: 2], "Perhaps?"])


def test_no_task_has_a_name_of_ours():
    names = [file.stem for file in TASKS.glob("*.yaml")]
    ours = [file.stem for file in (ROOT / "remem_tasks" / "benchmarks" / "clear" / "tasks").glob("*.yaml")]
    assert len(names) == 25 and not set(names) & set(ours)


@pytest.mark.parametrize("simple", [False, True])
def test_the_same_prompts_and_scores_as_ours(theirs, simple):
    mine = list(dict.fromkeys(task for task, _ in THEIRS.values()))
    model, other = Scripted(half, simple=simple), Scripted(half, simple=simple)
    there = run(model, list(THEIRS), include_path=str(theirs), log_samples=True)
    here = run(other, mine, log_samples=True)

    def asked(of, kinds):
        """What was asked of rows of these kinds, by task."""
        rows = ((one["row"], one) for one in of.asked)
        found = [
            (one["text"], [picture.tobytes() for picture in one["pictures"]])
            for row, one in rows
            if kinds(row)
        ]
        return sorted(found)

    shared = {(own.removeprefix("clear_"), kind) for own, kind in THEIRS.values()}
    same = asked(other, lambda row: (row["config"], row["kind"]) in shared)
    assert asked(model, lambda row: True) == same and len(same) == 26
    assert {tuple(one["settings"]["until"]) for one in model.asked} == {()}
    for task, (own, kind) in THEIRS.items():
        found, same = scores(there["samples"][task]), scores(here["samples"][own], kind)
        assert found == [(reply, pytest.approx(score, rel=1e-12)) for reply, score in same] and found
        assert there["results"][task]["clear_rougeL_recall,none"] == pytest.approx(
            here["results"][own][f"clear_{kind}_rouge,none"]
        )
        assert there["results"][task]["clear_empty,none"] == 0
    assert 0 < there["results"]["clear_forget10_caption"]["clear_rougeL_recall,none"] < 1


def test_choices_are_of_the_same_answers(theirs, clear_here):
    right = Scripted(lambda row: f"({row['target']})")
    found = run(right, list(CHOICES), include_path=str(theirs))
    assert {found["results"][task]["clear_accuracy,none"] for task in CHOICES} == {1.0}
    wrong = run(Scripted(lambda row: "I do not know them"), list(CHOICES), include_path=str(theirs))
    for task in CHOICES:
        told = wrong["results"][task]
        assert (told["clear_accuracy,none"], told["clear_no_choice,none"]) == (0.0, 1.0)
    asked = [one["row"] for one in right.asked]
    rows = (row for config, _ in CHOICES.values() for row in clear.questions_of(str(clear_here), config)[0])
    ours = [[row["answer"], *row["wrong"]] for row in rows if row["kind"] != "caption"]
    assert sorted(sorted(row["choices"]) for row in asked) == sorted(map(sorted, ours))
    assert len({row["target"] for row in asked}) > 2


def test_groups_and_directions(theirs):
    results = run(Scripted(lambda row: row["answer"]), "clear_split01", include_path=str(theirs), limit=1)
    higher = {task: found.get("clear_rougeL_recall") for task, found in results["higher_is_better"].items()}
    assert len(results["group_subtasks"]["clear_split01"]) == 10
    assert higher["clear_forget01_caption"] is False and higher["clear_retain_caption"] is True


def test_rouge_is_that_of_the_library(utils, clear_data):
    library = RougeScorer(["rougeL"], use_stemmer=True)
    rows = clear.questions_of(str(clear_data), "forget10")[0]
    for row, other in zip(rows, rows.select(range(len(rows) - 1, -1, -1))):
        for said in (half(row), other["answer"], row["question"], ""):
            wanted = library.score(target=row["answer"], prediction=said)["rougeL"].recall
            assert utils.rouge_l_recall(said, row["answer"]) == pytest.approx(wanted, rel=1e-12)


def test_captions_are_asked_for_as_we_ask_for_the_published(utils, monkeypatch):
    assert (
        CAPTION_QUESTIONS[PUBLISHED] == utils.CAPTION_QUESTIONS and utils.NAME_QUESTION == clear.NAME_QUESTION
    )


# The entry point


@pytest.fixture
def patched(tmp_path):
    """A copy of the installed `lmms_eval.tasks` with the patch, without the built-in tasks; put beside it under its name."""
    file = tmp_path / "lmms_eval" / "tasks" / "__init__.py"
    file.parent.mkdir(parents=True)
    shutil.copy(Path(lmms_eval.__file__).parent / "tasks" / "__init__.py", file)
    subprocess.run(
        ["git", "apply", "--include=lmms_eval/*", str(UPSTREAM / "task_entry_points.patch")],
        cwd=tmp_path,
        env={
            **os.environ,
            "GIT_CEILING_DIRECTORIES": str(tmp_path.parent),
            "GIT_DIR": str(tmp_path / "none"),
        },
        check=True,
        capture_output=True,
    )
    spec = importlib.util.spec_from_file_location("lmms_eval_tasks_patched", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_patch_finds_the_tasks_of_an_installed_package(patched, theirs, tmp_path, monkeypatch):
    """CLEAR's tasks as a package of its own, which names its folder as an entry point."""
    site = tmp_path / "site"
    shutil.copytree(theirs, site / "clear_for_lmms_eval")
    (site / "clear_for_lmms_eval" / "__init__.py").write_text("")
    info = site / "clear_for_lmms_eval-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: clear-for-lmms-eval\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[lmms_eval.tasks]\nclear = clear_for_lmms_eval\n")
    assert "clear_faces" not in patched.TaskManager().all_tasks
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delitem(sys.modules, "clear_for_lmms_eval", raising=False)
    manager = patched.TaskManager()
    assert {"clear_faces", "clear_split01"} <= set(manager.all_tasks)
    assert "clear_faces" not in patched.TaskManager(include_defaults=False).all_tasks
    (task,) = patched.get_task_dict(["clear_faces"], manager, "chat").values()
    assert task.eval_docs[0]["question"] == clear.NAME_QUESTION
    sys.modules.pop("clear_for_lmms_eval", None)


# On the real command line


@pytest.mark.slow
def test_the_tests_that_go_along(tmp_path):
    """Those of the pull request, against the installed release with its files added."""
    package = shutil.copytree(
        Path(lmms_eval.__file__).parent,
        tmp_path / "lmms_eval",
        ignore=lambda folder, names: (
            [name for name in names if not name.startswith("_")]
            if folder.endswith("lmms_eval/tasks")
            else ["__pycache__"]
        ),
    )
    shutil.copytree(TASKS, package / "tasks" / "clear")
    tests = shutil.copytree(UPSTREAM / "test", tmp_path / "test")
    patch = ["git", "apply", "--include=lmms_eval/*", str(UPSTREAM / "task_entry_points.patch")]
    alone = {**os.environ, "GIT_DIR": str(tmp_path / "none"), "PYTHONPATH": str(tmp_path)}
    subprocess.run(patch, cwd=tmp_path, env=alone, check=True, capture_output=True)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests)],
        cwd=tmp_path,
        env=alone,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and re.search(r"\d\d passed", done.stdout), done.stdout[-3000:] + done.stderr


@pytest.mark.slow
def test_llava_hf_by_include_path(theirs, checkpoints, clear_here, tmp_path):
    """lmms-eval's own model and command line: the replies and scores of our tasks in the same run."""
    tasks = {name: own for name, own in THEIRS.items() if name != "clear_forget10_text"}
    named = [*tasks, "clear_faces_choice", *dict.fromkeys(own for own, _ in tasks.values())]
    done = subprocess.run(
        [sys.executable, "-m", "lmms_eval", "--model", "llava_hf", "--model_args",
         f"pretrained={checkpoints['llava']},device=cpu,device_map=cpu", "--include_path", str(theirs), "--tasks", ",".join(named),
         "--gen_kwargs", "max_new_tokens=8", "--limit", "4", "--output_path", str(tmp_path / "out"), "--log_samples"],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]

    def samples(task):
        (file,) = (tmp_path / "out").rglob(f"*_samples_{task}.jsonl")
        return sorted(
            map(json.loads, file.read_text(encoding="utf-8").splitlines()), key=lambda one: one["doc_id"]
        )

    for task, (own, kind) in tasks.items():
        mine = scores(samples(own), kind)
        assert mine and scores(samples(task))[: len(mine)] == mine
        assert all(reply for reply, _ in mine)
    assert {one["clear_accuracy"] for one in samples("clear_faces_choice")} <= {0.0, 1.0}
