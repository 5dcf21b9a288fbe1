"""What attacks recovered, in sentences."""

import json

import pytest
from support.made import model

from remem_tasks.errors import RememError
from remem_tasks.report.attacked import read_attacks, recovered
from remem_tasks.report.conclusion import conclusion
from remem_tasks.report.summary import report_of

FOUND = {
    "npo": {
        "none": {"em": 0.0, "leak_em": 0.0, "leak_em_low": 0.0},
        "relearn_rest": {"em": 0.44, "leak_em": 0.40, "leak_em_low": 0.2},
        "quantise_nf4": {"em": 0.5, "leak_em": 0.5, "leak_em_low": -0.1},  # its interval holds 0
        "worst_weights": {"em": 0.9, "leak_em": 0.9, "leak_em_low": 0.8},  # a set of attacks, not one
    },
    "strong": {
        "none": {"em": 0.0, "leak_em": 0.0},
        "relearn_rest": {"em": 0.04, "leak_em": 0.04, "leak_em_low": 0.01},
    },
    "unread": {"none": {"em": 0.0}, "prompt": {"not_available": "no wordings"}},
}


def test_the_attack_that_got_most_is_named_with_gold_beside_it():
    assert recovered(FOUND, "runs/models/npo", "any", "npo") == (
        "Learning a part of the forget set again (the attack relearn_rest) makes npo say 44.0 % of the secrets asked for "
        "(without it 0.0 %), "
        "40.0 points more than it makes gold say."
    )
    assert (
        recovered(FOUND, "x", "strong", "s") == "None of 1 attacks on s recovered more than it does of gold."
    )
    assert recovered(FOUND, "x", "unread", "u") == "No attack on u could be measured against gold."
    assert recovered(FOUND, "x/other", "other", "o") == recovered({}, "npo", "npo", "npo") == ""


def test_the_report_says_it(tmp_path):
    for name in ("start", "gold", "npo"):
        model(tmp_path / "runs", name, [float(name == "start")] * 10, [1.0] * 10)
    (tmp_path / "attacks.json").write_text(json.dumps(FOUND))
    report = report_of([str(tmp_path / "runs")], "gold", "start", attacks=str(tmp_path))
    assert conclusion(report.groups[0])[-1].startswith("Learning a part of the forget set again (the attack")
    assert "attack" not in " ".join(
        conclusion(report_of([str(tmp_path / "runs")], "gold", "start").groups[0])
    )


@pytest.mark.parametrize("text", [None, "[]", '{"npo": []}', '{"npo": {"a": 1}}', "{"])
def test_another_file_is_refused(tmp_path, text):
    if text is not None:
        (tmp_path / "attacks.json").write_text(text)
    with pytest.raises(RememError, match=r"attacks\.json"):
        read_attacks(tmp_path)
