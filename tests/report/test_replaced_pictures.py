"""Pictures replaced below the same texts: two real runs are not compared, in the report, on the board, by the gate."""

import pytest
from support.forged import changed
from support.kept import mirrored
from support.rows import people_splits, write_parquet

from remem_tasks.benchmarks.clear import forge
from remem_tasks.errors import RememError
from remem_tasks.evaluate import score_here
from remem_tasks.report.compare import groups_of
from remem_tasks.report.leaderboard import append, entries_of
from remem_tasks.report.runs import read_runs
from remem_tasks.report.summary import report_of

SHORT = "max_new_tokens=2"


def remem(tmp_path):
    """(variable, task, data, the same texts with one picture of the forget set flipped)"""
    folders = []
    for name in ("data", "other"):
        splits = people_splits()
        if name == "other":
            splits["forget1"][3]["image"] = mirrored(splits["forget1"][3]["image"])
        write_parquet(tmp_path / name, splits)
        folders.append(tmp_path / name)
    return "REMEM_DATA", "remem_forget1", *folders


def clear(tmp_path):
    def replace(table):
        table[-1]["image"] = mirrored(table[-1]["image"])

    forge.forge(
        tmp_path / "data",
        forge.ForgeOptions(identities=6, images=1, qa=1, real=2, world=2, retain_perturbed=1, image_size=56),
    )
    other = changed(tmp_path / "data", tmp_path / "other", "forget01", replace)
    return "REMEM_CLEAR_DATA", "clear_forget01", tmp_path / "data", other


@pytest.mark.parametrize("made", [remem, clear])
def test_runs_on_other_pictures_are_not_compared(made, checkpoints, tmp_path):
    variable, task, data, other = made(tmp_path)
    given = {"REMEM_METRICS": "em", "REMEM_CACHE": str(tmp_path / "cache")}
    for name, source in (("start", data), ("again", data), ("replaced", other)):
        score_here(checkpoints["llava"], [task], tmp_path / "runs" / name, {**given, variable: str(source)}, gen_kwargs=SHORT)  # fmt: skip
    runs = read_runs([str(tmp_path / "runs")])
    assert len({run.task_results[task].fingerprint for run in runs}) == 1  # the texts are the same
    together, apart = groups_of(runs)
    assert [run.name for run in together.runs] == ["again", "start"]
    assert [run.name for run in apart.runs] == ["replaced"]
    assert apart.why.startswith(f"'replaced' differs from 'again' in {task}: pictures ")
    report = report_of([str(tmp_path / "runs")], start=str(tmp_path / "runs" / "start"))
    with pytest.raises(RememError, match="these runs belong on no one board: 'replaced' differs .*pictures"):
        entries_of(report)
    # Each entered by itself, the board refuses the second.
    board, names = tmp_path / "board.jsonl", ("again", "replaced")
    first, second = (entries_of(report_of([str(tmp_path / "runs" / name)])) for name in names)
    assert append(board, first, no_gate=True) == 1
    second[0]["samples"] = "0" * 16  # (a model with weights at random says the same whatever it sees)
    with pytest.raises(RememError, match=rf"entry 'replaced': {task}: pictures \w+, the board \w+"):
        append(board, second, no_gate=True)
