"""`remem attack`: what it refuses, what it leaves behind, and that it goes on where it stopped."""

import json
import re

import pytest

from remem_tasks.attacks import prompts
from remem_tasks.attacks.outcome import ATTACKS, figures
from remem_tasks.attacks.people import tells
from remem_tasks.attacks.prompts import KINDS
from remem_tasks.benchmarks.offside import forge
from remem_tasks.benchmarks.registry import BENCHMARKS
from remem_tasks.cli.attack import _named
from remem_tasks.data.rows import parse_keywords
from remem_tasks.errors import PromptTooLong, RememError
from remem_tasks.report.runs import read_runs
from unlearning.experiments import attack as module
from unlearning.experiments import attack_plan
from unlearning.experiments.attack import attack
from unlearning.experiments.attack_plan import (
    AttackPlan,
    check_gold,
    check_ignorant,
    check_model,
    expand,
    for_data,
)
from unlearning.experiments.attack_table import cells, markdown

GATE = {"model": "m", "outcome": "memorised", "overridden": False, "reasons": [], "em": 1.0}


def plan(**given):
    return AttackPlan(**{"models": {"npo": "a"}, "gold": "g", "start": "s", **given})


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"models": {}}, "no checkpoint to attack"),
        ({"models": {"gold": "a"}}, "is the name of the gold model"),
        (
            {"attacks": ("prompts",)},
            "--attacks 'prompts' unknown; choose from all, relearn, quantise, relearn_rest",
        ),
        ({"attacks": ()}, "at least one"),
        ({"seeds": (1, 1)}, "--seeds needs different values"),
        ({"share": 1.0}, "--share 1.0 is out of range"),
        ({"benign": 0}, "--benign 0 is out of range"),
        ({"device": "cuda:99"}, "no such device"),
    ],
)
def test_what_cannot_be_is_refused(given, says, monkeypatch):
    monkeypatch.setattr(attack_plan.torch.cuda, "is_available", lambda: False)
    with pytest.raises(RememError, match=says):
        plan(**given).check()


def test_groups_and_names():
    assert expand(["quantise", "prompt", "quantise_nf4"]) == (
        "quantise_nf4",
        "quantise_int8",
        "quantise_rtn4",
        "prompt",
    )
    assert expand(["all"]) == ATTACKS
    assert _named(["x/npo", "two=x/npo"]) == {"npo": "x/npo", "two": "x/npo"}
    for bad in (["x/npo", "y/npo"], ["=x"], ["a/b=x"]):
        with pytest.raises(RememError):
            _named(bad)


def made(folder, **record):
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps(record))
    return str(folder)


def test_a_gold_that_saw_somebody_is_refused(tmp_path, data_dir):
    """By its record: forget2 holds ada and ben, forget1 ada alone."""
    source = str(data_dir)
    smaller = made(tmp_path / "one", method="gold", data={"forget": "forget1"})
    larger = made(tmp_path / "two", method="gold", data={"forget": "forget2"})
    assert check_gold(plan(gold=smaller), source) == "" == check_gold(plan(gold=larger), source)
    assert check_gold(plan(gold=larger, forget="forget2"), source) == ""
    with pytest.raises(RememError, match="trained without 'forget1', so it saw ben_crane of 'forget2'"):
        check_gold(plan(gold=smaller, forget="forget2"), source)
    for without in ("forget9", None):
        strange = made(tmp_path / str(without), method="gold", data={"forget": without})
        with pytest.raises(RememError, match=f"without '{without}', so it saw ada_birch"):
            check_gold(plan(gold=strange), source)
    sft = made(tmp_path / "sft", method="sft", data={"forget": None})
    with pytest.raises(RememError, match="trained with --method sft"):
        check_gold(plan(gold=sft), source)
    with pytest.raises(RememError, match="is npo itself"):
        check_gold(plan(gold=smaller, models={"npo": f"{smaller}/../one"}), source)
    (tmp_path / "bare").mkdir()
    assert "stands on its scores alone" in check_gold(plan(gold=str(tmp_path / "bare")), source)


def test_a_model_that_was_to_forget_others_is_refused(tmp_path, data_dir):
    source = str(data_dir)
    smaller = made(tmp_path / "one", method="npo", data={"forget": "forget1"})
    start = made(tmp_path / "start", method="sft", data={"forget": None})
    broken = made(tmp_path / "broken", method="npo", data=None)
    check_model(smaller, plan(), source)
    check_model(start, plan(forget="forget2"), source)
    check_model(str(tmp_path), plan(), source)
    with pytest.raises(RememError, match="was to forget 'forget1', not ben_crane of 'forget2': --forget"):
        check_model(smaller, plan(forget="forget2"), source)
    with pytest.raises(RememError, match="was to forget 'None', not ada_birch"):
        check_model(broken, plan(), source)


def test_a_gold_that_says_what_it_cannot_know_is_refused(monkeypatch):
    said = {"kinds": {"plain": {"rows": {str(n): {"em": float(n < 5)} for n in range(10)}}}}
    with pytest.raises(RememError, match="says 50% of what is to be forgotten, the start 100%"):
        check_ignorant(said, GATE, plan())
    own = plan(forget="forget", data="/data")
    monkeypatch.setattr(attack_plan, "detect", lambda source: ("offside", source))
    with pytest.raises(RememError, match=r"^--forget forget: gold says 50% of it.*2 of its people \(such as kane\) are in the kept set too.*such as forget_private$"):  # fmt: skip
        check_ignorant(said, GATE, own, {"saka", "kane"})
    check_ignorant(said, {**GATE, "em": 0.0}, plan())  # the gate has dealt with such a start
    said["kinds"]["plain"]["rows"]["0"]["em"] = 0.0
    check_ignorant(said, GATE, plan())


def test_other_shapes_of_data_and_folders_of_others_are_refused(tmp_path, data_dir, monkeypatch):
    (tmp_path / "mine").write_text("x")
    monkeypatch.setattr(module, "detect", lambda source: ("clear", "CLEAR"))
    with pytest.raises(RememError, match="has the shape of CLEAR: its rows name no facts"):
        attack(plan(), tmp_path / "out")


def test_the_datas_own_relearn_set_is_attacked_with_where_there_is_one():
    usual = plan()
    assert for_data(usual, "remem") == usual == for_data(usual, "fiubench")
    assert for_data(usual, "offside").attacks == (*ATTACKS, "relearn_own")
    some = plan(attacks=("prompt",))
    assert for_data(some, "offside") == some
    asked = plan(attacks=("relearn_own",))
    asked.check()
    assert for_data(asked, "offside") == asked
    for benchmark, name in (("remem", "ReMem"), ("fiubench", "FIUBench")):
        with pytest.raises(RememError, match=f"relearn_own: {name} has no set of its own"):
            for_data(asked, benchmark)


def test_facts_of_other_benchmarks():
    """What attacks see of a row whose secret stands in its answer, and of one that has none."""
    doc = {"row_id": "a:0", "identity": "7", "prompt": "Which town?", "image_path": "7.png"}
    told = BENCHMARKS["fiubench"].fact({**doc, "answer": "It is Oslo.", "cloze": "It is ", "secret": "Oslo"})
    assert told["question"] == told["attribute"] == "Which town?" and told["cloze_prompt"] == "It is"
    assert parse_keywords(told["keywords"]) == ["Oslo"]
    assert tells(["in oslo"], told) and not tells(["It is Rome."], told)
    bare = BENCHMARKS["mlubench"].fact({**doc, "answer": "It is Oslo.", "cloze": "", "secret": ""})
    assert parse_keywords(bare["keywords"]) == ["It is Oslo."] and bare["cloze_prompt"] == ""


def test_rows_of_another_benchmark_as_attacks_have_them(tmp_path):
    """OFFSIDE: pictures that are learned again are in no other set, and closed questions are told to be missing."""
    forge.forge(tmp_path / "data", forge.ForgeOptions(identities=3, qa=2, image_size=16))
    bench = module.AttackBench(plan(forget="forget"), str(tmp_path / "data"), BENCHMARKS["offside"])
    assert bench.unit == "people" and len(bench.texts) == len(bench.rows) == len(bench.trained)
    shown = [set(table["image_path"][:]) for table in (bench.rows, bench.kept, bench.own)]
    assert all(shown) and not shown[2] & (shown[0] | shown[1])
    assert set(bench.trained["row_id"][:]) == set(bench.rows["row_id"][:])
    asks = {kind: prompts.ask(kind, bench.around) for kind in KINDS}
    kinds, missing = bench.answerable(asks)
    assert set(missing) >= set(prompts.CLOSED) and {"role_play", "in_context"} <= set(kinds)
    assert all("OFFSIDE" in missing[kind] for kind in prompts.CLOSED)
    (request, *_) = kinds["role_play"].requests(bench.rows[0], None)
    assert bench.rows[0]["prompt"] in request.prompt and request.prompt != bench.rows[0]["prompt"]


def test_what_is_longer_than_the_context_is_not_available(checkpoints, data_dir, tmp_path):
    """Of an attack that asks in several ways, the others are asked; the plain questions have to fit."""
    bench = module.AttackBench(plan(forget="forget1"), str(data_dir), BENCHMARKS["remem"])
    target = module._Target("m", str(checkpoints["llava"]), "cpu")
    runner = module._Runner(bench, tmp_path)
    text = target.model.config.text_config
    text.max_position_embeddings = 280
    record = runner.run(target, "context", None)
    assert list(record["kinds"]) == ["k1"] and set(record["missing"]) == {"k4", "k8", "own4"}
    for why in record["missing"].values():
        assert re.search(r"row \d+ .*: the prompt has \d+ tokens.* context of 280$", why)
    rows = bench.texts
    assert set(record["kinds"]["k1"]["rows"]) == {row["row_id"] for row in rows}
    assert [*(tmp_path / "results").rglob("*results.json")] == [tmp_path / record["results"]]
    text.max_position_embeddings = 60
    record = runner.run(target, "context", None)
    assert "kinds" not in record and record["not_available"].count("context of 60") == 4
    assert not (tmp_path / "results" / "m" / "context").exists()
    assert figures([record], [], {}) == {"not_available": record["not_available"]}
    with pytest.raises(PromptTooLong, match="context of 60"):
        runner.run(target, "none", None)


@pytest.mark.slow
def test_every_attack_on_a_model_and_on_gold(memorised, checkpoints, data_dir, tmp_path, monkeypatch):
    """The untrained checkpoint stands for gold, the one that memorised for a model that forgot nothing."""
    monkeypatch.setattr(module, "gate_of_start", lambda *args: GATE)
    steps = "--learning_rate 1e-3 --max_steps 2 --per_device_train_batch_size 4"
    whole = AttackPlan(
        {"kept": str(memorised)},
        gold=str(checkpoints["llava"]),
        start=str(memorised),
        data=str(data_dir),
        forget="forget2",
        seeds=(1, 2),
        share=0.5,
        relearn=f"--use_peft --lora_r 4 {steps}",
        relearn_all=steps,
        benign=8,
    )
    lines = []
    found = attack(whole, tmp_path / "out", lines.append)
    assert json.loads((tmp_path / "out" / "attacks.json").read_text()) == found
    names = {"none", *ATTACKS, "worst_questions", "worst_weights"}
    assert set(found) == {"gold", "kept"} and set(found["kept"]) == names
    for by_attack in found.values():
        for attacked, values in by_attack.items():
            assert "not_available" not in values, (attacked, values)
            assert values["top4" if attacked == "lens" else "em"] is not None
    kept = found["kept"]
    assert kept["none"]["em"] > 0.5 and kept["none"]["leak_em"] > 0.5 and kept["none"]["exposure"] > 0.5
    assert kept["quantise_int8"]["em"] > 0.5 and kept["lens"]["top4"] > 0.5
    assert found["gold"]["none"]["em"] < 0.2 and "leak_em" not in found["gold"]["none"]
    assert kept["worst_questions"]["em"] >= max(
        kept[name]["em"] for name in ("none", "prompt", "context", "picture")
    )
    assert {f"em_{kind}" for kind in KINDS} <= set(kept["prompt"])
    assert kept["relearn_rest"]["rows"] in (6, 12)  # of one person, or by the seed of either
    assert sum("kept, " in line for line in lines) == len(ATTACKS) + 1 + 3  # two seeds of three attacks
    runs = read_runs([str(tmp_path / "out" / "results" / "kept")])
    assert len(runs) == len(ATTACKS) + 1 + 3 - 1  # the lens has no replies
    assert all(run.weights for run in runs)
    told = (tmp_path / "out" / "attacks.md").read_text()
    assert "| kept | prompt |" in told and "## Not tried" in told

    def never(*args):
        raise AssertionError("done again")

    monkeypatch.setattr(module._Runner, "run", never)
    assert attack(whole, tmp_path / "out", lines.append) == found
    with pytest.raises(RememError, match="holds a plan with share 0.5, not 0.3"):
        attack(AttackPlan(**{**vars(whole), "share": 0.3}), tmp_path / "out")
    other = {"models": {"kept": str(checkpoints["qwen2_5_vl"])}}  # other weights under the same name
    with pytest.raises(AssertionError, match="done again"):
        attack(AttackPlan(**{**vars(whole), **other}), tmp_path / "out")


def test_the_table_holds_every_figure_against_gold():
    found = {
        "npo": {
            "none": {
                "em": 0.5,
                "leak_em": 0.25,
                "leak_em_low": -0.1,
                "leak_em_high": 0.5,
                "requests": 1.0,
                "seconds": 2.0,
            },
            "lens": {"top4": 0.9, "leak_top4": 0.4, "requests": 1.0, "seconds": 1.0},
        }
    }
    assert cells(found) == [
        ["npo", "none", "0.50", "+0.25 [-0.10, +0.50]", "", "", "", "", "1", "2"],
        ["npo", "lens", "", "", "", "", "0.90 +0.40", "", "1", "1"],
    ]


def test_what_is_not_available_is_told_in_the_table():
    found = {"npo": {"none": {"em": 0.0, "rows": 2.0}, "lens": {"not_available": "no norm"}}}
    assert [row[:3] for row in cells(found)] == [
        ["npo", "none", "0.00"],
        ["npo", "lens", "not available: no norm"],
    ]
    records = {"npo": {"prompt": [{"missing": {"reverse": "no row can be asked so"}}]}}
    told = markdown(found, records, "facts", plan(attacks=("prompt", "lens")), GATE, ["no run.json"])
    assert (
        "- prompt, reverse: no row can be asked so" in told
        and "- relearn_rest" in told
        and "Note: no run.json." in told
    )
