"""Exposure of CLEAR's names: against plain forwards and listed outcomes, by the settings of a run, and where it cannot be had."""

import io
import json
import math

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from support.forged import Plain, changed
from support.scripted import Scripted, run, value

from remem_tasks.benchmarks.base import RunContext
from remem_tasks.benchmarks.clear import data as clear
from remem_tasks.benchmarks.exposure import SCORES, measured, scores, seed_sd
from remem_tasks.benchmarks.registry import BENCHMARKS
from remem_tasks.benchmarks.remem.benchmark import _of_findings
from remem_tasks.benchmarks.scoring_config import ScoringConfig
from remem_tasks.errors import RememError
from remem_tasks.harness.remem_hf import RememHF
from remem_tasks.metrics import tokens
from remem_tasks.whitebox import Secret, SecretResult, WhiteBoxResult

SHORT = {"gen_kwargs": "max_new_tokens=3"}
ASKED = clear.NAME_QUESTION
PERTURBED = "clear_forget10_perturbed"


class Names(Plain):
    """Probabilities of texts that begin the assistant's turn, by forwards of whole sequences."""

    def inputs(self, question, picture, said=""):
        """With question None the picture stands alone."""
        if question is not None:
            return super().inputs(question, picture, said)
        text = self.processor.apply_chat_template(
            [{"role": "user", "content": [{"type": "image"}]}], add_generation_prompt=True, tokenize=False
        )
        image = Image.open(io.BytesIO(picture)).convert("RGB")
        text += self.space + said if said else ""
        return self.processor(text=[text], images=[image], return_tensors="pt")

    @torch.no_grad()
    def next(self, question, picture, said=""):
        """(tokens, vocabulary) ln p behind every token, of what is text."""
        logits = self.model(**self.inputs(question, picture, said), use_cache=False).logits[0]
        logits[:, self.banned] = -torch.inf
        return logits.double().log_softmax(-1)

    def ids(self, question, picture, said):
        start = self.inputs(question, picture)["input_ids"].shape[1]
        return start, self.inputs(question, picture, said)["input_ids"][0, start:]

    def logprobs(self, question, picture, said):
        start, ids = self.ids(question, picture, said)
        return self.next(question, picture, said)[start - 1 : -1][range(len(ids)), ids]


def pictures(source, config):
    table = datasets.load_dataset(str(source), config, split="train")
    return [cell["bytes"] for cell in table.cast_column("image", datasets.Image(decode=False))["image"]]


def questions(source, config):
    """(question of a name, its picture) of a config."""
    shown = pictures(source, config)
    rows = clear.questions_of(str(source), config)[0]
    return [(row, shown[row["place"]]) for row in rows if row["kind"] in ("name", "faces")]


def kept_of(results, task):
    return {one["clear_rows"]["row_id"]: (one, one["clear_rows"]) for one in results["samples"][task]}


def by_hand(rank, m):
    """1 − log2 Ĝ / log2(M + 1), and 0 for what is not among the guesses."""
    return 1 - math.log(min(rank, m + 1)) / math.log(m + 1)


@pytest.mark.parametrize(("arch", "context"), [("llava", "picture"), ("qwen2_5_vl", "question")])
def test_every_number_is_that_of_plain_forwards(clear_here, checkpoints, monkeypatch, arch, context):
    monkeypatch.setenv("REMEM_ROLLOUTS", "8")
    monkeypatch.setenv("REMEM_CLOZE_CONTEXT", context)
    plain = Names(arch, checkpoints[arch])
    results = run(RememHF(str(checkpoints[arch]), device="cpu"), "clear_forget01,clear_real_faces", **SHORT)
    for config, kind in (("forget01", "name"), ("real_faces", "faces")):
        task = f"clear_{config}"
        found = {name: [] for name in ("exposure", "reference_exposure", "extraction_rate", "secret_bits")}
        kept = kept_of(results, task)
        asked = questions(clear_here, config)
        assert len(asked) == {"name": 2, "faces": 3}[kind]
        for row, picture in asked:
            question = ASKED if context == "question" else None
            sample, record = kept[row["row_id"]]
            logs = [plain.logprobs(question, picture, text) for text in (row["answer"], *row["wrong"])]
            place = 1 + sum(bool(one.mean() > logs[0].mean()) for one in logs[1:])
            assert record["reference_rank"] == [place] and record["references"] == [len(row["wrong"])]
            assert record["secret_bits"] == [pytest.approx(-float(logs[0].sum()) / math.log(2), abs=1e-3)]
            # the paper's number beside it stands behind the question in either context
            right, *others = (
                plain.mean_logprob(ASKED, picture, text) for text in (row["answer"], *row["wrong"])
            )
            share = math.exp(right) / (math.exp(right) + sum(map(math.exp, others)))
            assert sample[f"clear_{kind}_prob"] == pytest.approx(share, rel=1e-4)
            found["exposure"].append(by_hand(record["guess_rank"][0], 8))
            found["reference_exposure"].append(1 - math.log(place) / math.log(1 + len(row["wrong"])))
            found["extraction_rate"].append(math.exp(float(logs[0].sum())))
            found["secret_bits"].append(-float(logs[0].sum()) / math.log(2))
            for name, values in found.items():
                assert sample[f"clear_{kind}_{name}"] == pytest.approx(values[-1], rel=1e-3, abs=1e-9)
        for name, values in found.items():
            mean = pytest.approx(np.mean(values), rel=1e-3, abs=1e-9)
            assert value(results, task, f"clear_{kind}_{name}") == mean
        # captions are no secrets
        assert all("guess_rank" not in record for _, record in kept.values() if record["kind"] == "caption")


@pytest.fixture
def short_names(clear_here, checkpoints, tmp_path, monkeypatch):
    """short_names(arch) -> (place, ln p of the vocabulary, name's token, wrong ones') of three rows renamed to single tokens.

    They are the likeliest, a middling and the unlikeliest word; the set is $REMEM_CLEAR_DATA.
    """

    def rename(arch):
        plain, found = Names(arch, checkpoints[arch]), []
        tokenizer = plain.processor.tokenizer
        shown = pictures(clear_here, "forget10_perturbed")
        begin = " " if arch == "llava" else ""
        words = {tokenizer.decode([index]).strip() for index in range(len(tokenizer))}
        ids = {word: tokenizer(begin + word, add_special_tokens=False)["input_ids"] for word in words}
        single = {
            word: of[0] for word, of in ids.items() if len(of) == 1 and word.isalpha() and len(word) > 1
        }
        assert len(single) > 20

        def change(rows):
            for place, row in enumerate(rows[:3]):
                logp = plain.next(ASKED, shown[place])[-1]
                order = sorted(single, key=lambda word: float(-logp[single[word]]))
                row["name"] = order[[0, len(order) // 2, -1][place]]
                row["perturbed_names"] = [order[1], order[-2]]
                found.append((place, logp, single[row["name"]], [single[order[1]], single[order[-2]]]))
                assert plain.ids(ASKED, shown[place], row["name"])[1].tolist() == [found[-1][2]]
            return rows[:3]

        monkeypatch.setenv(
            "REMEM_CLEAR_DATA", changed(clear_here, tmp_path / arch, "forget10_perturbed", change)
        )
        monkeypatch.setenv("REMEM_METRICS", "exposure")
        return found, tokenizer

    return rename


@pytest.mark.parametrize("arch", ["llava", "qwen2_5_vl"])
def test_with_a_guess_for_every_token_the_rank_is_the_listed_one(short_names, checkpoints, monkeypatch, arch):
    """Names of one token: the outcomes are the vocabulary, and M is above that."""
    monkeypatch.setenv("REMEM_ROLLOUTS", "500")
    renamed, tokenizer = short_names(arch)
    results = run(RememHF(str(checkpoints[arch]), device="cpu"), PERTURBED, **SHORT)
    kept, ranks = kept_of(results, PERTURBED), []
    for place, logp, name, wrong in renamed:
        sample, record = kept[f"forget10_perturbed/name:{place}"]
        rank = 1 + int((logp > logp[name] + 1e-6).sum())
        among = 1 + sum(bool(logp[other] > logp[name]) for other in wrong)
        assert (record["guess_rank"], record["reference_rank"]) == ([rank], [among])
        text, best = record["guesses"][0][0]
        assert text == tokenizer.decode([int(logp.argmax())], skip_special_tokens=True)
        assert best == pytest.approx(float(logp.max()), abs=1e-3)
        assert sample["clear_name_exposure"] == pytest.approx(by_hand(rank, 500))
        assert sample["clear_name_reference_exposure"] == pytest.approx(1 - math.log(among) / math.log(3))
        assert sample["clear_name_extraction_rate"] == pytest.approx(float(logp[name].exp()), rel=1e-4)
        ranks.append((rank, among))
    assert ranks == sorted(set(ranks)) and [among for _, among in ranks] == [1, 2, 3]


def test_true_rollouts(short_names, checkpoints, monkeypatch):
    """4 standard errors around the probability of the word in any letters."""
    monkeypatch.setenv("REMEM_ROLLOUTS", "2000")
    monkeypatch.setenv("REMEM_ESTIMATOR", "frequency")
    renamed, tokenizer = short_names("llava")
    results = run(RememHF(str(checkpoints["llava"]), device="cpu"), PERTURBED, **SHORT)
    texts = [tokens(tokenizer.decode([index])) for index in range(len(tokenizer))]
    for place, logp, name, _ in renamed:
        sample, record = kept_of(results, PERTURBED)[f"forget10_perturbed/name:{place}"]
        p = float(logp[[index for index, text in enumerate(texts) if text == texts[name]]].exp().sum())
        error = 4 * math.sqrt(p * (1 - p) / 2000)
        assert sample["clear_name_rollout_extraction_rate"] == pytest.approx(p, abs=error)
        drawings = [by_hand(rank, 2000) for rank in record["rollout_ranks"][0]]
        assert record["guess_rank"] == [record["rollout_ranks"][0][0]] and len(drawings) == 2
        assert sample["clear_name_rollout_exposure"] == pytest.approx(sum(drawings) / 2)
        assert sample["clear_rollout_sd"]["sd"] == pytest.approx(np.std(drawings, ddof=1))


def test_golden_values():
    """Third of M = 7 guesses: 1 − log2 3 / 3. Second among 4 names: 1 − 1/2. P = 1/8: 3 bits, √(1/8) a token."""
    scoring = ScoringConfig(rollouts=7)
    secret = SecretResult(
        [math.log(1 / 2), math.log(1 / 4)], 2, 4, (3, 3), (2, 1, 2), guesses=[("Ann", -1.23456)]
    )
    wanted = {
        "exposure": 1 - math.log2(3) / 3,
        "rollout_exposure": 1 - 2 / 9,  # second, first, second: 2/3, 1, 2/3
        "reference_exposure": 1 - math.log2(2) / math.log2(5),
        "extraction_rate": 1 / 8,
        "cloze_prob": math.sqrt(1 / 8),
        "secret_bits": 3.0,
        "rank_interval_rate": 0.0,
        "infinite_bits_rate": 0.0,
    }
    found = scores([secret], scoring)
    assert found.pop("rollout_sd") == {"sd": pytest.approx(math.sqrt(1 / 27))}  # 2/27 over 2
    assert found == pytest.approx(wanted)
    # An interval counts with its upper end; of two secrets the mean; infinite bits are counted and left out.
    wide = SecretResult([-math.inf, -1.0], 1, 0, (2, 8), rollout_ranks=(8,), rollout_rate=0.25)
    assert scores([wide], scoring) == pytest.approx(
        {
            "exposure": 0.0,
            "rollout_exposure": 0.0,
            "extraction_rate": 0.0,
            "rollout_extraction_rate": 0.25,
            "cloze_prob": 0.0,
            "rank_interval_rate": 1.0,
            "infinite_bits_rate": 1.0,
        }
    )
    both = scores([secret, wide], scoring)
    assert both["exposure"] == pytest.approx((1 - math.log2(3) / 3) / 2)
    assert both["reference_exposure"] == pytest.approx(1 - math.log2(2) / math.log2(5))
    assert both["rank_interval_rate"] == both["infinite_bits_rate"] == 1.0 and "secret_bits" not in both


def test_the_sd_over_seeds_of_a_mean_is_that_of_its_rows_together():
    """Rows are drawn apart: variances add. Of 4 rows with s .3, .4, 0 and 0: √(.09 + .16)/4 = .125."""
    assert seed_sd([{"sd": sd} for sd in (0.3, 0.4, 0.0, 0.0)]) == pytest.approx(0.125)


def test_two_secrets_of_a_row_vary_as_their_mean():
    """Drawing by drawing: (1 + 0)/2 and (0 + 1)/2 are alike, so nothing varies."""
    turns = [SecretResult([-1.0], 1, 0, (1, 1), ranks) for ranks in ((1, 8), (8, 1))]
    assert scores(turns, ScoringConfig(rollouts=7))["rollout_sd"] == {"sd": pytest.approx(0.0)}


def of_name(clear_data, scoring, white_box=True, split="forget10", missing=()):
    """(benchmark, setting, rows) of a split under a suite."""
    benchmark = BENCHMARKS["clear"]
    rows, source = benchmark.load(str(clear_data), split)
    run_context = benchmark.prepare(
        source, split, rows, RunContext(scoring, dict(missing), white_box=white_box)
    )
    return benchmark, run_context, rows


def test_a_row_keeps_what_remem_keeps(clear_data):
    """A name of two tokens, 1/2 · 1/4 = 2^−3, and one that cannot be said."""
    scoring = ScoringConfig(rollouts=7)
    benchmark, run_context, rows = of_name(clear_data, scoring)
    doc = next(doc for doc in rows if doc["kind"] == "name")
    for logs, bits in (([math.log(1 / 2), math.log(1 / 4)], 3.0), ([-1.0, -math.inf], None)):
        shown = [("Ann", -1.23456), ("Bo", -2.0)]
        secret = SecretResult(logs, 2, 3, (3, 3), (2, 4), guesses=shown)
        findings = WhiteBoxResult(secrets=[secret], answers=[-1.0, -2.0, -3.0])
        scores = benchmark.score(doc, ["Ann"], run_context, findings)
        row = json.loads(json.dumps(scores["clear_rows"], allow_nan=False))
        wanted = {
            "guess_rank": [3],
            "rollout_ranks": [[2, 4]],
            "secret_bits": [bits],
            "reference_rank": [2],
            "references": [3],
            "guesses": [[["Ann", -1.2346], ["Bo", -2.0]]],
        }
        assert {name: row[name] for name in wanted} == wanted
        assert _of_findings({}, WhiteBoxResult(secrets=[secret]), RunContext(scoring))[1] == wanted
    with pytest.raises(RememError, match="forget10/name', row 0 .*log-probability of the secret: NaN"):
        broken = SecretResult([math.nan], 2, 3, (3, 3))
        benchmark.score(
            doc, ["Ann"], run_context, WhiteBoxResult(secrets=[broken], answers=[-1.0, -2.0, -3.0])
        )


def test_what_is_asked(clear_data):
    scoring = ScoringConfig(
        estimator=("exact", "frequency"), rollouts=9, rollout_seed=4, references=2, cloze_context="picture"
    )
    benchmark, run_context, rows = of_name(clear_data, scoring)
    again, plain, _ = of_name(clear_data, ScoringConfig())
    for doc in rows:
        white_box_request, default = (
            benchmark.white_box_request(doc, run_context),
            again.white_box_request(doc, plain),
        )
        assert white_box_request.answers == default.answers
        if doc["kind"] == "caption":  # the settings do not concern it
            assert white_box_request == default and not white_box_request.secrets
            continue
        (secret,), wrong = white_box_request.secrets, white_box_request.secrets[0].others
        assert (secret.before, secret.text, white_box_request.with_question) == ("", doc["answer"], False)
        assert (white_box_request.estimators, white_box_request.rollouts, white_box_request.seed) == (
            ("exact", "frequency"),
            9,
            4,
        )
        assert len(set(wrong)) == 2 and set(wrong) < set(doc["wrong"])
        assert white_box_request == benchmark.white_box_request(doc, run_context)
        assert default.secrets == (Secret("", doc["answer"], tuple(doc["wrong"])),) and default.with_question
    drawn = [
        [
            benchmark.white_box_request(
                doc, of_name(clear_data, ScoringConfig(references=2, rollout_seed=seed))[1]
            )
            for doc in rows
        ]
        for seed in (0, 1)
    ]
    assert [one.secrets for one in drawn[0]] != [one.secrets for one in drawn[1]]


def names_of(benchmark, run_context, rows, split="forget10"):
    return {
        metric.name: metric.higher_is_better
        for metric in benchmark.metrics(rows, split, run_context)
        if any(metric.name.endswith(name) for name in SCORES)
    }


def test_where_it_is_measured(clear_data):
    whole = {f"clear_name_{name}" for name in measured(ScoringConfig())}
    for split, kind, higher in (
        ("forget10", "name", False),
        ("retain_perturbed", "name", True),
        ("real_faces", "faces", True),
        ("real", "faces", True),
    ):
        benchmark, run_context, rows = of_name(clear_data, ScoringConfig(), split=split)
        wanted = {f"clear_{kind}_{name}": higher == SCORES[name] for name in measured(ScoringConfig())}
        assert names_of(benchmark, run_context, rows, split) == wanted
        assert not {"exposure", "reference_exposure"} & set(run_context.missing)
    assert set(names_of(*of_name(clear_data, ScoringConfig()))) == whole
    benchmark, run_context, rows = of_name(clear_data, ScoringConfig(references=0))
    assert set(names_of(benchmark, run_context, rows)) == whole - {"clear_name_reference_exposure"}
    assert run_context.missing["reference_exposure"].startswith("--references 0")
    (asked, *_) = [benchmark.white_box_request(doc, run_context) for doc in rows if doc["kind"] == "name"]
    assert asked.secrets[0].others == ()


@pytest.mark.parametrize("metrics", [("em",), ("em", "memo")])
def test_it_can_be_left_out(clear_data, metrics):
    benchmark, run_context, rows = of_name(clear_data, ScoringConfig(metrics=metrics))
    assert names_of(benchmark, run_context, rows) == {} and "exposure" not in run_context.missing
    for doc in rows:
        white_box_request = benchmark.white_box_request(doc, run_context)
        assert white_box_request.answers and not white_box_request.secrets


def test_without_partner_there_is_no_name_to_ask_for(clear_data, tmp_path):
    source = changed(
        clear_data,
        tmp_path / "set",
        "forget10_perturbed",
        lambda rows: [{**row, "caption": "another"} for row in rows],
    )
    benchmark, run_context, rows = of_name(source, ScoringConfig())
    assert names_of(benchmark, run_context, rows) == {}
    for name in ("exposure", "reference_exposure"):
        assert (
            "no question asks for a name: no row of config 'forget10_perturbed'" in run_context.missing[name]
        )
    for split in ("full", "forget05+tofu"):
        _, run_context, _ = of_name(clear_data, ScoringConfig(), split=split)
        assert f"config '{split}' has no perturbed partner" in run_context.missing["reference_exposure"]


def test_backends_that_give_text_alone(clear_here):
    results = run(Scripted(lambda row: row["answer"]), "clear_forget10", limit=2)
    scores = results["results"]["clear_forget10"]
    assert not [name for name in scores if "expos" in name or "extraction" in name]
    assert results["configs"]["clear_forget10"]["metadata"]["not_available"]["exposure"]
    benchmark, run_context, rows = of_name(
        clear_here, ScoringConfig(estimator=("frequency",)), white_box=False
    )
    assert "log-probabilities" in run_context.missing["exposure"] and not names_of(
        benchmark, run_context, rows
    )
    reason = {"exposure": "its sampling cannot be checked", "memo": "x"}
    _, run_context, _ = of_name(
        clear_here, ScoringConfig(metrics=("em",)), white_box=False, missing=reason.items()
    )
    assert run_context.missing["exposure"] == reason["exposure"] and "memo" not in run_context.missing
