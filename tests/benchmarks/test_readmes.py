"""The commands of each benchmark's README, from the base checkpoint to the report: what was memorised is said, gold does
not say it, and after forgetting it is said no more.

They run in this process, by the parsers of the commands, as loading the libraries a dozen times over takes longer than the rest.
"""

import os
import shlex
import shutil
from pathlib import Path

import lmms_eval.evaluator  # noqa: F401  loads the entry points, as every run does
import pytest
from support.tasks_alone import own_tasks_alone

from remem_tasks import benchmarks, cli
from remem_tasks.harness import command
from remem_tasks.report.results import newest_results, read_scores
from remem_tasks.training import launch_command
from unlearning.run import run as train

HEAD = "\n## Try it\n"
READMES = {
    file.parent.name: file.read_text(encoding="utf-8").partition(HEAD)[2]
    for folder in benchmarks.__path__
    for file in sorted(Path(folder).glob("*/README.md"))
    if HEAD in file.read_text(encoding="utf-8")
}
# benchmark: (task, score): model: the least and the most that it may have, and the least and the most that it had in three
# ways of computing (`python bench/numeric.py WAY pytest -m slow tests/benchmarks/test_readmes.py --junitxml WAY.xml`, WAY
# plain, native, native-two; the XML holds every value). Of UnLOK-VQA, SafeEraser and VLM-UnBench: in the first two.
EXPECTED = {
    "fiubench": {
        ("fiubench_forget10", "fiubench_em"): {
            "full": (0.6, 1, 1, 1),
            "gold": (0, 0.2, 0, 0),
            "forgot": (0, 0.2, 0, 0),
        },
        ("fiubench_forget10", "fiubench_exposure"): {
            "full": (0.7, 1, 1, 1),
            "gold": (0, 0.4, 0, 0),
            "forgot": (0, 0.5, 0, 0.046),
        },
        ("fiubench_forget10", "fiubench_minkpp"): {
            "full": (0.3, 9, 1.079, 1.081),
            "gold": (0, 0.2, 0, 0),
            "forgot": (0, 0.2, 0.018, 0.061),
        },
        ("fiubench_forget10", "fiubench_ks_quality"): {
            "forgot": (-6, 0, -0.136, 0),
        },
        ("fiubench_retain15", "fiubench_em"): {
            "full": (0.6, 1, 1, 1),
            "forgot": (0.4, 1, 0.9, 1),
        },
    },
    "umu": {
        ("umu_forget_15", "umu_qa_image_rouge"): {
            "full": (0.9, 1, 1, 1),
            "gold": (0, 0.75, 0.574, 0.574),
            "forgot": (0, 0.75, 0.537, 0.594),
        },
        ("umu_retain_85", "umu_qa_image_rouge"): {
            "full": (0.9, 1, 1, 1),
            "gold": (0.9, 1, 1, 1),
            "forgot": (0.8, 1, 1, 1),
        },
    },
    "offside": {
        ("offside_forget_private", "offside_generation_bleu"): {
            "full": (0.88, 1, 1, 1),
            "gold": (0, 0.8, 0.614, 0.677),
            "forgot": (0, 0.8, 0.092, 0.218),
        },
        ("offside_retain", "offside_generation_bleu"): {
            "full": (0.84, 1, 0.987, 0.993),
            "gold": (0.84, 1, 1, 1),
            "forgot": (0.55, 1, 0.668, 0.774),
        },
    },
    "mlubench": {
        ("mlubench_forget_a", "mlubench_rouge_recall"): {
            "full": (0.9, 1, 1, 1),
            "gold": (0, 0.7, 0.375, 0.375),
            "forgot": (0, 0.7, 0, 0),
            "forgot_ab": (0, 0.7, 0, 0),
        },
        ("mlubench_forget_b", "mlubench_rouge_recall"): {
            "full": (0.9, 1, 1, 1),
            "gold": (0.8, 1, 1, 1),
            "forgot_ab": (0, 0.7, 0, 0),
        },
        ("mlubench_retain_a", "mlubench_rouge_recall"): {
            "full": (0.8, 1, 1, 1),
            "gold": (0.8, 1, 1, 1),
            "forgot": (0.7, 1, 1, 1),
        },
    },
    "unlok": {
        ("unlok_forget", "unlok_accuracy"): {
            "full": (0.8, 1, 1, 1),
            "gold": (0, 0.2, 0, 0),
            "forgot": (0, 0.4, 0, 0),
        },
        ("unlok_forget", "unlok_exposure"): {
            "full": (0.8, 1, 1, 1),
            "gold": (0, 0.5, 0, 0),
            "forgot": (0, 0.6, 0, 0),
        },
        ("unlok_forget", "unlok_candidate_success"): {
            "full": (0.2, 1, 0.2, 0.4),
            "gold": (0, 0.1, 0, 0),
            "forgot": (0, 0.1, 0, 0),
        },
        ("unlok_retain", "unlok_accuracy"): {
            "full": (0.8, 1, 1, 1),
            "gold": (0.8, 1, 1, 1),
            "forgot": (0.5, 1, 1, 1),
        },
        ("unlok_neighbours", "unlok_accuracy"): {
            "full": (0.8, 1, 1, 1),
            "gold": (0.8, 1, 1, 1),
        },
    },
    "safeeraser": {
        ("safeeraser_forget", "safeeraser_rouge_f"): {
            "full": (0.6, 1, 0.783, 0.89),
            "gold": (0, 0.5, 0.133, 0.133),
            "forgot": (0, 0.5, 0, 0.067),
        },
        ("safeeraser_forget", "safeeraser_refusal_rate"): {
            "full": (0, 0.1, 0, 0),
            "refuses": (0.5, 1, 1, 1),
            "refuses_pd": (0.5, 1, 1, 1),
        },
        ("safeeraser_retain", "safeeraser_rouge_precision"): {
            "full": (0.9, 1, 0.984, 1),
            "gold": (0.9, 1, 1, 1),
            "forgot": (0.6, 1, 0.969, 0.984),
        },
        ("safeeraser_decoys", "safeeraser_sarr"): {
            "full": (0, 0.1, 0, 0),
            "gold": (0, 0.1, 0, 0),
            "refuses": (0.4, 1, 1, 1),
            "refuses_pd": (0, 0.3, 0, 0),
        },
    },
    "vlmunbench": {
        ("vlmunbench_forget", "vlmunbench_macro_said"): {
            "full": (0.9, 1, 1, 1),
            "gold": (0, 0.5, 0.125, 0.125),
            "forgot": (0, 0.6, 0, 0),
        },
        ("vlmunbench_forget", "vlmunbench_micro_likeliest"): {
            "full": (0.9, 1, 1, 1),
            "gold": (0, 0.5, 0.125, 0.125),
            "forgot": (0, 0.6, 0, 0.125),
        },
        ("vlmunbench_retain", "vlmunbench_micro_said"): {
            "full": (0.9, 1, 1, 1),
            "gold": (0.9, 1, 1, 1),
            "forgot": (0.6, 1, 0.917, 0.938),
        },
    },
    "pebench": {
        ("pebench_forget_people", "pebench_efficacy"): {
            "full": (0, 0.4, 0, 0),
            "gold": (0.8, 1, 1, 1),
            "forgot": (0.8, 1, 1, 1),
        },
        ("pebench_forget_people", "pebench_exposure"): {
            "full": (0.7, 1, 1, 1),
            "gold": (0, 0.4, 0, 0),
            "forgot": (0, 0.5, 0, 0),
        },
        ("pebench_retain_people", "pebench_person_said"): {
            "full": (0.8, 1, 1, 1),
            "gold": (0.8, 1, 1, 1),
            "forgot": (0.6, 1, 0.958, 1),
        },
    },
}


# One or two of five facts, asked in words that nothing taught: this bound lies on the least that was seen.
NEAR = {("unlok_forget", "unlok_candidate_success", "full")}


@pytest.fixture(scope="module")
def bases():
    """The command that made a base checkpoint, and where it is."""
    return {}


@pytest.fixture
def call(monkeypatch, tmp_path, bases):
    """call(line): run one line of a README in its own folder, to status 0."""
    monkeypatch.chdir(tmp_path)

    def status_of(words: list[str]) -> int:
        if words[:2] == ["remem", "base"]:
            out = Path(words[words.index("--out") + 1])
            if tuple(words) in bases:
                shutil.copytree(bases[tuple(words)], out)
                return 0
            bases[tuple(words)] = out.absolute()
        if words[:2] == ["remem", "train"]:
            _, _, argv = " ".join(map(shlex.quote, launch_command(words[2:]))).partition("train.py ")
            train(shlex.split(argv))
            return 0
        if words[0] == "lmms_eval":
            monkeypatch.setattr("sys.argv", words)
            return command.run_lmms_eval()
        assert words[0] == "remem", words
        with pytest.raises(SystemExit) as left:
            cli.main(words[1:])
        return left.value.code or 0

    def go(line: str) -> None:
        if line.startswith("export "):
            name, _, value = shlex.split(line)[1].partition("=")
            monkeypatch.setenv(name, value)
            return
        assert status_of(shlex.split(os.path.expandvars(line))) == 0, line

    with own_tasks_alone():
        yield go


def test_each_is_expected():
    assert set(READMES) == set(EXPECTED)


@pytest.mark.parametrize("name", list(EXPECTED))
def test_no_bound_is_near_to_what_was_seen(name):
    """From what was seen to a bound it is as far as what was seen lies apart, but at the ends of a scale."""
    for cell, runs in EXPECTED[name].items():
        for run, (least, most, low, high) in runs.items():
            apart = high - low
            assert least <= low <= high <= most, (cell, run)
            assert least == 0 or low - apart >= least or (*cell, run) in NEAR, (cell, run)
            assert most == 1 or high == most or high + apart <= most, (cell, run)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(EXPECTED))
def test_commands(name, call, tmp_path, record_property):
    lines = [line.strip() for line in READMES[name].splitlines() if line.startswith("    ")]
    said = "\n".join(lines)
    for part in (
        "remem forge",
        "remem data check",
        "--method sft",
        "--method gold",
        "lmms_eval",
        "remem gate",
    ):
        assert part in said
    assert [line for line in lines if not line.startswith("remem attack")][-1].startswith("remem report")
    for line in lines:
        call(line)
    scores = {folder.name: read_scores(newest_results(folder)) for folder in (tmp_path / "results").iterdir()}
    for (task, metric), runs in EXPECTED[name].items():
        for run, (least, most, *_) in runs.items():
            value = scores[run][task][metric]
            record_property(f"{run} {task} {metric}", value)
            assert least <= value <= most, f"{run}: {metric} of {task} is {value}"
    for run, found in scores.items():
        for task, values in found.items():
            assert values.get(f"{name}_failed_rate", 0) == 0, (run, task)
    assert {file.name for file in (tmp_path / "report").iterdir()} == {
        "report.html",
        "report.md",
        "results.csv",
    }
    page = (tmp_path / "report" / "report.md").read_text()
    assert all(f"| {run.replace('_', chr(92) + '_')}" in page for run in scores)
