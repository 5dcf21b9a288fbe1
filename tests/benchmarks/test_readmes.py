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
# benchmark: the forget set's task and score, the least that a model that memorised has of it, the most that gold and a
# model that forgot have; the same of a set that is kept: the least that both have.
EXPECTED = {
    "fiubench": {
        ("fiubench_forget10", "fiubench_em"): {"full": (0.6, 1), "gold": (0, 0.2), "forgot": (0, 0.2)},
        ("fiubench_forget10", "fiubench_exposure"): {"full": (0.7, 1), "gold": (0, 0.4), "forgot": (0, 0.5)},
        ("fiubench_forget10", "fiubench_minkpp"): {"full": (0.3, 9), "gold": (0, 0.2), "forgot": (0, 0.2)},
        ("fiubench_forget10", "fiubench_ks_quality"): {"forgot": (-6, 1e-9)},
        ("fiubench_retain15", "fiubench_em"): {"full": (0.6, 1), "forgot": (0.4, 1)},
    },
    "umu": {
        ("umu_forget_15", "umu_qa_image_rouge"): {"full": (0.9, 1), "gold": (0, 0.75), "forgot": (0, 0.75)},
        ("umu_retain_85", "umu_qa_image_rouge"): {"full": (0.9, 1), "gold": (0.9, 1), "forgot": (0.8, 1)},
    },
    "offside": {
        ("offside_forget_private", "offside_generation_bleu"): {
            **{"full": (0.88, 1), "gold": (0, 0.8), "forgot": (0, 0.8)}
        },
        ("offside_retain", "offside_generation_bleu"): {
            **{"full": (0.84, 1), "gold": (0.84, 1), "forgot": (0.55, 1)}
        },
    },
    "mlubench": {
        ("mlubench_forget_a", "mlubench_rouge_recall"): {
            **{"full": (0.9, 1), "gold": (0, 0.7), "forgot": (0, 0.7), "forgot_ab": (0, 0.7)}
        },
        ("mlubench_forget_b", "mlubench_rouge_recall"): {
            **{"full": (0.9, 1), "gold": (0.8, 1), "forgot_ab": (0, 0.7)}
        },
        ("mlubench_retain_a", "mlubench_rouge_recall"): {
            "full": (0.8, 1),
            "gold": (0.8, 1),
            "forgot": (0.7, 1),
        },
    },
    "unlok": {
        ("unlok_forget", "unlok_accuracy"): {"full": (0.8, 1), "gold": (0, 0.2), "forgot": (0, 0.4)},
        ("unlok_forget", "unlok_exposure"): {"full": (0.8, 1), "gold": (0, 0.5), "forgot": (0, 0.6)},
        ("unlok_forget", "unlok_candidate_success"): {"full": (0.2, 1), "gold": (0, 0.1)},
        ("unlok_retain", "unlok_accuracy"): {"full": (0.8, 1), "gold": (0.8, 1), "forgot": (0.5, 1)},
        ("unlok_neighbours", "unlok_accuracy"): {"full": (0.8, 1), "gold": (0.8, 1)},
    },
    "safeeraser": {
        ("safeeraser_forget", "safeeraser_rouge_f"): {"full": (0.6, 1), "gold": (0, 0.5), "forgot": (0, 0.5)},
        ("safeeraser_forget", "safeeraser_refusal_rate"): {
            "full": (0, 0.1),
            "refuses": (0.5, 1),
            "refuses_pd": (0.5, 1),
        },
        ("safeeraser_retain", "safeeraser_rouge_precision"): {
            "full": (0.9, 1),
            "gold": (0.9, 1),
            "forgot": (0.6, 1),
        },
        ("safeeraser_decoys", "safeeraser_sarr"): {
            "full": (0, 0.1),
            "gold": (0, 0.1),
            "refuses": (0.4, 1),
            "refuses_pd": (0, 0.3),
        },
    },
    "vlmunbench": {
        ("vlmunbench_forget", "vlmunbench_macro_said"): {
            "full": (0.9, 1),
            "gold": (0, 0.5),
            "forgot": (0, 0.6),
        },
        ("vlmunbench_forget", "vlmunbench_micro_likeliest"): {
            "full": (0.9, 1),
            "gold": (0, 0.5),
            "forgot": (0, 0.6),
        },
        ("vlmunbench_retain", "vlmunbench_micro_said"): {
            "full": (0.9, 1),
            "gold": (0.9, 1),
            "forgot": (0.6, 1),
        },
    },
    "pebench": {
        ("pebench_forget_people", "pebench_efficacy"): {
            "full": (0, 0.4),
            "gold": (0.8, 1),
            "forgot": (0.8, 1),
        },
        ("pebench_forget_people", "pebench_exposure"): {
            "full": (0.7, 1),
            "gold": (0, 0.4),
            "forgot": (0, 0.5),
        },
        ("pebench_retain_people", "pebench_person_said"): {
            "full": (0.8, 1),
            "gold": (0.8, 1),
            "forgot": (0.6, 1),
        },
    },
}


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
    assert any(line.startswith("remem report") for line in lines)
    for line in lines:
        call(line)
    scores = {folder.name: read_scores(newest_results(folder)) for folder in (tmp_path / "results").iterdir()}
    for (task, metric), runs in EXPECTED[name].items():
        for run, (least, most) in runs.items():
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
