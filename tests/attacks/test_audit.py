"""The audit sheet: what may be claimed, and that nothing of others becomes markup."""

import json

import numpy as np
import pytest

from remem_tasks.attacks import audit
from remem_tasks.attacks.outcome import ATTACKS
from remem_tasks.benchmarks.views import view_for
from remem_tasks.errors import RememError
from remem_tasks.report.compare import Group
from remem_tasks.report.model_run import Row, RowReply, Run, TaskResult
from remem_tasks.report.summary import Report, findings_of


def values(em=0.0, leak=0.0, low=None, **more):
    bounds = {} if low is None else {"leak_em_low": low, "leak_em_high": leak + 0.1}
    return {
        "em": em,
        "requests": 1.0,
        "rows": 9.0,
        "coverage": 1.0,
        "refusal_rate": 0.0,
        "leak_em": leak,
        **bounds,
        **more,
    }


def run(name, em, method, fingerprint="f1"):
    rows = tuple(Row(f"forget1:{n}", "ada", 1, "city", "x", True, "q", "a", "p.png") for n in range(len(em)))
    result = TaskResult(
        task="remem_forget1",
        benchmark_view=view_for({"remem_rows": 1}),
        split="forget1",
        data="d",
        fingerprint=fingerprint,
        suite={},
        missing={},
        rows=rows,
        replies=tuple(RowReply("x") for _ in rows),
        scores={"em": np.array(em, dtype=float)},
        of_set={},
        means={},
    )
    return Run(
        name,
        name,
        None,
        f"models/{name}",
        "today",
        {"method": method, "steps": 7},
        None,
        {"remem_forget1": result},
        (),
        "w",
    )


@pytest.fixture
def report():
    runs = [
        run("start", [1] * 20, "sft"),
        run("gold", [0] * 20, "gold"),
        run("<b>npo", [0] * 19 + [1], "npo"),
    ]
    return Report([findings_of(Group(runs), runs[1], runs[0])], [])


def folder(tmp_path, by_attack, missing=None):
    (tmp_path / "attacks.json").write_text(json.dumps({"gold": {"prompt": values(0.1)}, "<b>npo": by_attack}))
    place = tmp_path / "records" / "<b>npo"
    place.mkdir(parents=True)
    (place / "prompt.json").write_text(json.dumps({"attack": "prompt", "missing": missing or {}}))
    return tmp_path


def test_the_sheet_has_all_that_it_is_to_say(report, tmp_path):
    place = folder(
        tmp_path,
        {"none": values(), "prompt": values(0.6, 0.5, 0.2), "lens": {"not_available": "<i>no norm"}},
        {"reverse": "no row can be asked so"},
    )
    page = audit.sheet(report, "<b>npo", place)
    assert (
        "<b>npo" not in page
        and "&lt;b&gt;npo" in page
        and "&lt;i&gt;no norm" in page
        and "<script" not in page
    )
    for part in (
        "remem_forget1: 20 questions about 1 people, data f1",
        "memorised",
        "em 1.00 (needed 0.80)",
        "<td>remem_forget1, em</td><td>1.00</td><td>0.00</td><td>0.05",
        "<td>prompt</td><td>0.60</td><td>0.10</td><td>+0.50 [+0.20, +0.60]</td>",
        "prompt, reverse: no row can be asked so",
        "relearn_rest was not asked for",
        "method npo, steps 7",
        "still accessible in &lt;b&gt;npo, by prompt (em 0.60, +0.50 above gold)",
    ):
        assert part in page, part
    assert audit.write(page, tmp_path / "out").read_text() == page


def test_without_attacks_nothing_is_claimed(report):
    page = audit.sheet(report, "<b>npo", None)
    assert "No attack was run" in page
    assert all(f"{name} was not asked for" in page for name in ATTACKS)


@pytest.mark.parametrize(
    ("by_attack", "says"),
    [
        ({"none": values(), "prompt": values()}, "is not accessible in m under these probes: prompt. This does not say"),
        ({"none": values(), "prompt": values(0.5, 0.5, -0.1)}, "is not accessible"),
        ({"none": values(), "prompt": values(0.5, 0.5)}, "still accessible in m, by prompt"),
        ({"none": values(0.9, 0.9, 0.8), "prompt": values()}, "still accessible in m, by none"),
        ({"none": values(), "lens": {"top4": 0.9, "leak_top4": 0.5, "requests": 1.0}}, "still accessible in m, by lens"),
        ({"none": values(), "relearn_all": values(1.0, 0.5, 0.4)}, "is not accessible"),
        ({"none": values(), "lens": {"not_available": "x"}}, "No attack could be run"),
        ({"none": values()}, "No attack could be run"),
        ({"none": values(coverage=0.0), "prompt": values()}, "under none most requests were refused or invalid"),
        ({"none": values(), "prompt": {"em": 0.0, "requests": 1.0}}, "prompt were not held against a gold model"),
        (None, "No attack was run"),
    ],
)  # fmt: skip
def test_what_may_be_claimed(by_attack, says):
    assert says in audit.claim("m", by_attack)


def test_what_is_not_there_is_told(report, tmp_path):
    with pytest.raises(RememError, match="--audit 'x' is none of the runs: start, gold"):
        audit.sheet(report, "x", None)
    place = folder(tmp_path, {})
    with pytest.raises(RememError, match="holds no attack on 'start', only on gold"):
        audit.sheet(report, "start", place)
    for text in ("[]", '{"npo": {"none": 3}}', "{", '{"npo": 3}'):
        (tmp_path / "attacks.json").write_text(text)
        with pytest.raises(RememError, match="attacks.json"):
            audit.sheet(report, "<b>npo", tmp_path)
    for value in ("NaN", '"0.1"', "true", "null", "Infinity"):
        (tmp_path / "attacks.json").write_text(f'{{"<b>npo": {{"none": {{"leak_em": {value}}}}}}}')
        with pytest.raises(RememError, match="none: leak_em is"):
            audit.sheet(report, "<b>npo", tmp_path)
    with pytest.raises(RememError, match="cannot be read"):
        audit.sheet(report, "<b>npo", tmp_path / "nowhere")
