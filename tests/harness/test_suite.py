"""The whole suite through the harness: against plain forwards of whole sequences, in any batch, on any backend."""

import json
import math
import shutil

import pytest
import torch
from lmms_eval.api.instance import GenerationResult
from lmms_eval.api.model import lmms
from PIL import Image
from support.chats import TEXTS, lively
from support.rows import people_splits, write_parquet
from support.scripted import Scripted, run, value
from support.slow import others_slow
from test_processes import BIN, arguments, call, replies_under, results_under
from transformers import AutoModelForImageTextToText, AutoProcessor

from remem_tasks.benchmarks.scoring_config import ScoringConfig, scoring_config_of
from remem_tasks.checkpoints import save
from remem_tasks.data.pictures import decode_image
from remem_tasks.engine.collapse import PromptWatch
from remem_tasks.errors import RememError
from remem_tasks.harness.backends import capabilities_of
from remem_tasks.harness.remem_hf import RememHF
from remem_tasks.metrics import cut_points, exact_match, exposure, memo, tokens
from remem_tasks.tiny import build as checkpoint
from remem_tasks.whitebox import WhiteBoxResult

ARCHS = checkpoint.ARCHS


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """{arch: folder}: tiny checkpoints that say something else of every row."""
    folders = {}
    for arch in ARCHS:
        folders[arch] = tmp_path_factory.mktemp(f"spoken_{arch}")
        model, processor = checkpoint.build(arch, TEXTS, width=64, layers=2, vocab_size=400)
        save(lively(model), processor, folders[arch])
    return folders


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Short continuations and few guesses; tests set what else they need. Weights are not collected as garbage."""
    monkeypatch.setattr(lmms, "clean", lambda self: None)
    monkeypatch.setenv("REMEM_MEMO_TOKENS", "8")
    monkeypatch.setenv("REMEM_ROLLOUTS", "16")


class Kept(RememHF):
    """Keeps what it answered, by row id, and its weights."""

    def generate_until(self, requests):
        replies = super().generate_until(requests)
        self.inquired = {}
        for request, reply in zip(requests, replies):
            _, messages, _, doc_id, task, split = request.args
            doc = self.task_dict[task][split][doc_id]
            if white_box_request := messages.white_box_request(doc):
                self.inquired[doc["row_id"]] = (
                    doc,
                    white_box_request,
                    WhiteBoxResult.from_text(reply.text, white_box_request.name),
                )
        return replies


def with_rows(folder, monkeypatch, change, split="forget1"):
    """The small data set with `change` applied to the rows of one split, as REMEM_DATA; odd rows are let pass."""
    splits = people_splits()
    change(splits[split])
    write_parquet(folder, splits)
    monkeypatch.setenv("REMEM_DATA", str(folder))
    monkeypatch.setenv("REMEM_FAULTS", "allow")


def kept_values(results, task="remem_forget1"):
    """{row id: the row's values and what the samples file keeps of it}."""
    found = {}
    for sample in results["samples"][task]:
        scores = {name: sample[name] for name in sample if name.startswith("remem_") and name != "remem_rows"}
        if sd := scores.pop("remem_rollout_sd", None):
            scores["remem_rollout_sd"] = sd["sd"]
        found[sample["remem_rows"]["row_id"]] = (scores, sample["remem_rows"])
    return found


def assert_same(left, right):
    """Equal ranks and texts; numbers to 1e-4 (float32, summed in another order)."""
    assert left.keys() == right.keys() and left
    for row, (scores, record) in left.items():
        assert scores == pytest.approx(right[row][0], abs=1e-4)
        other = right[row][1]
        for name in ("guess_rank", "rollout_ranks", "reference_rank", "references"):
            assert record[name] == other[name]
        assert record["secret_bits"] == pytest.approx(other["secret_bits"], abs=1e-3)


class Plain:
    """Scores of one row by `generate` and by forwards of whole sequences: batch of one, nothing shared."""

    def __init__(self, arch, folder):
        self.model = AutoModelForImageTextToText.from_pretrained(folder).float().eval()
        self.processor = AutoProcessor.from_pretrained(folder)
        tokenizer = self.processor.tokenizer
        special = tokenizer.convert_tokens_to_ids(checkpoint.SPECIAL[arch])
        self.end = tokenizer.eos_token_id
        self.banned = [token for token in special if token != self.end]
        self.space = " " if arch == "llava" else ""  # what the template puts before the assistant's words

    def inputs(self, doc, said="", question=True):
        content = [{"type": "image"}] + [{"type": "text", "text": doc["question"]}] * question
        text = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        image = decode_image(doc["image"], "row")
        text += self.space + said if said else ""
        return self.processor(images=[image], text=[text], return_tensors="pt")

    @torch.no_grad()
    def greedy(self, doc, said, limit):
        """The greedy reply; behind the beginning of the answer, what goes on from it.

        The beginning is read in the tokens of the answer that lie in it; the rest of it has to be said first.
        """
        tokenizer, inputs = self.processor.tokenizer, self.inputs(doc)
        start = inputs["input_ids"].shape[1]
        if not said:
            ids = self.model.generate(
                **inputs, max_new_tokens=limit, do_sample=False, suppress_tokens=self.banned
            )
            return tokenizer.decode(ids[0, start:], skip_special_tokens=True)
        begun, pieces = self.space + said, [tokenizer.decode([token]) for token in range(len(tokenizer))]
        taught = self.inputs(doc, doc["answer"])["input_ids"][0, start:].tolist()
        ids = []
        while begun.startswith(tokenizer.decode([*ids, taught[len(ids)]])):
            ids.append(taught[len(ids)])
            if len(ids) == len(taught):
                break
        made = 0
        while made < limit:
            text = tokenizer.decode(ids)
            whole = torch.cat([inputs["input_ids"], torch.tensor([ids], dtype=torch.long)], 1)
            more = {name: value for name, value in inputs.items() if value.shape != inputs["input_ids"].shape}
            for name in set(inputs) - {"input_ids", *more}:
                filled = torch.full((1, len(ids)), int(name == "attention_mask"))
                more[name] = torch.cat([inputs[name], filled.to(inputs[name].dtype)], 1)
            logp = self.next({"input_ids": whole, **more})[-1]
            if left := begun[len(text) :]:
                fits = [left.startswith(piece) or piece.startswith(left) for piece in pieces]
                fits = [fit and bool(piece) and token not in (self.end, *self.banned) for token, (fit, piece) in enumerate(zip(fits, pieces))]  # fmt: skip
                logp[~torch.tensor(fits)] = -math.inf
            token = int(logp.argmax())
            ids.append(token)
            made += pieces[token].startswith(left)
            if token == self.end:
                break
        return tokenizer.decode(ids, skip_special_tokens=True)[len(begun) :]

    @torch.no_grad()
    def next(self, inputs):
        """(length, vocabulary) log-probabilities behind every token of a sequence."""
        logits = self.model(**inputs, use_cache=False).logits[0]
        logits[:, self.banned] = -math.inf
        return logits.log_softmax(-1)

    def logprobs(self, doc, cloze, text, question=True):
        """ln p of each token of a text behind the cloze prompt."""
        start = self.inputs(doc, cloze, question)["input_ids"].shape[1]
        inputs = self.inputs(doc, f"{cloze} {text}", question)
        ids = inputs["input_ids"][0, start:]
        return self.next(inputs)[start - 1 : -1][range(len(ids)), ids]


# Against plain forwards


@pytest.mark.parametrize("arch", ARCHS)
def test_every_score_is_that_of_plain_forwards(remem_data, spoken, arch):
    model, plain = Kept(str(spoken[arch]), device="cpu"), Plain(arch, spoken[arch])
    values = kept_values(run(model, "remem_forget1", limit=3, gen_kwargs="max_new_tokens=8"))
    assert len(model.inquired) == 3
    for row, (doc, white_box_request, findings) in model.inquired.items():
        scores, record = values[row]
        cuts = cut_points(doc["answer"])
        said = [plain.greedy(doc, doc["answer"][:cut], 8) for cut in cuts]
        assert findings.continuations == said
        assert scores["remem_memo"] == pytest.approx(memo(doc["answer"], said))
        assert scores["remem_em"] == exact_match(plain.greedy(doc, "", 8), [doc["keywords"]])
        (secret,), (asked,) = findings.secrets, white_box_request.secrets
        others = [text.strip() for text in asked.others]
        assert (asked.before, asked.text) == (doc["cloze_prompt"], f" {doc['keywords']}")
        naive = plain.logprobs(doc, doc["cloze_prompt"], doc["keywords"])
        assert torch.allclose(torch.tensor(secret.logprobs), naive, atol=1e-4)
        total = float(naive.double().sum())
        assert scores["remem_extraction_rate"] == pytest.approx(math.exp(total), abs=1e-6)
        assert scores["remem_cloze_prob"] == pytest.approx(math.exp(total / len(naive)), abs=1e-4)
        assert record["secret_bits"] == [pytest.approx(-total / math.log(2), abs=1e-3)]
        means = [float(plain.logprobs(doc, doc["cloze_prompt"], other).mean()) for other in others]
        # five other people have another value of the attribute
        assert len(means) == 5
        rank = 1 + sum(mean > float(naive.mean()) for mean in means)
        assert record["reference_rank"] == [rank] and record["references"] == [5]
        assert scores["remem_reference_exposure"] == pytest.approx(1 - math.log2(rank) / math.log2(6))
        assert scores["remem_exposure"] == pytest.approx(exposure(record["guess_rank"][0], 16))
    assert len({tuple(findings.continuations) for _, _, findings in model.inquired.values()}) == 3


def single_words(tokenizer):
    """{word: token}: the words of letters that are one token behind another word."""
    found = {}
    for index in range(len(tokenizer)):
        text = tokenizer.decode([index])
        if text.startswith(" ") and text[1:].isalpha() and tokenizer(text)["input_ids"] == [index]:
            found[text[1:]] = index
    return found


@pytest.mark.parametrize("arch", others_slow(ARCHS, "llava"))
def test_with_a_guess_for_every_token_the_rank_is_the_enumerated_one(tmp_path, monkeypatch, spoken, arch):
    """A secret of one token: its outcomes are the vocabulary, and M is above that."""
    plain, picked = Plain(arch, spoken[arch]), {}
    tokenizer = plain.processor.tokenizer
    words = single_words(tokenizer)
    texts = [tokens(tokenizer.decode([index])) for index in range(len(tokenizer))]

    def pick(rows):
        del rows[3:]
        for place, row in enumerate(rows):
            logp = plain.next(plain.inputs(row, row["cloze_prompt"]))[-1].double()
            order = sorted(words, key=lambda word: float(-logp[words[word]]))
            word = order[[0, len(order) // 2, len(order) - 1][place]]
            row.update(keywords=word, answer=f"{row['cloze_prompt']} {word}.")
            logprob = float(logp[words[word]])
            same = [index for index, text in enumerate(texts) if text == tokens(word)]
            rank = 1 + int((logp > logprob + 1e-5).sum())
            picked[f"forget1:{place}"] = (math.exp(logprob), rank, float(logp[same].exp().sum()))

    with_rows(tmp_path, monkeypatch, pick)
    monkeypatch.setenv("REMEM_METRICS", "exposure")
    monkeypatch.setenv("REMEM_ROLLOUTS", "500")
    values = kept_values(run(RememHF(str(spoken[arch]), device="cpu"), "remem_forget1"))
    ranks = [values[row][1]["guess_rank"] for row in picked]
    assert ranks == [[rank] for _, rank, _ in picked.values()]
    assert ranks[0][0] < ranks[1][0] < ranks[2][0]
    # The other estimator, of a sample: 4 standard errors around the probability of the word in any letters.
    monkeypatch.setenv("REMEM_ESTIMATOR", "frequency")
    monkeypatch.setenv("REMEM_ROLLOUTS", "4000")
    drawn = kept_values(run(RememHF(str(spoken[arch]), device="cpu"), "remem_forget1"))
    for row, (p, _, of_text) in picked.items():
        assert values[row][0]["remem_extraction_rate"] == pytest.approx(p, abs=1e-6)
        error = 4 * math.sqrt(of_text * (1 - of_text) / 4000)
        assert drawn[row][0]["remem_rollout_extraction_rate"] == pytest.approx(of_text, abs=error)
        assert "remem_exposure" not in drawn[row][0] and drawn[row][0]["remem_rollout_exposure"] >= 0


def test_estimators_agree_where_the_secret_is_frequent(tmp_path, monkeypatch, spoken):
    """A model that always gives three words .77, .19 and .04: these are the secrets of three rows."""
    words = single_words(AutoProcessor.from_pretrained(spoken["llava"]).tokenizer)
    chosen = [(word, words[word]) for word in ("phone", "city", "otter")]

    def pick(rows):
        del rows[3:]
        for (word, _), row in zip(chosen, rows):
            row.update(keywords=word, answer=f"{row['cloze_prompt']} {word}.")

    with_rows(tmp_path, monkeypatch, pick)
    monkeypatch.setenv("REMEM_METRICS", "exposure")
    monkeypatch.setenv("REMEM_ROLLOUTS", "200")
    p = [math.exp(logit) / sum(math.exp(other) for other in (0.0, -1.4, -3.0)) for logit in (0.0, -1.4, -3.0)]

    def always(module, inputs, output):
        output.fill_(-40.0)
        for logit, (_, index) in zip((0.0, -1.4, -3.0), chosen):
            output[..., index] = logit
        return output

    # (Such a model would be refused, as it does not read its prompts.)
    monkeypatch.setattr(PromptWatch, "check", lambda self: None)
    monkeypatch.setattr(PromptWatch, "see", lambda self, *args: None)
    for estimator in ("exact", "distinct", "frequency"):
        monkeypatch.setenv("REMEM_ESTIMATOR", estimator)
        model = RememHF(str(spoken["llava"]), device="cpu")
        model._model.lm_head.register_forward_hook(always)
        values = kept_values(run(model, "remem_forget1")).values()
        assert [record["guess_rank"] for _, record in values] == [[1], [2], [3]]
        rates = [scores["remem_extraction_rate"] for scores, _ in values]
        assert rates == pytest.approx(p, abs=1e-4)
        if estimator == "frequency":
            rates = [scores["remem_rollout_extraction_rate"] for scores, _ in values]
            assert rates == pytest.approx(p, abs=0.12)


# The same numbers


def test_batch_order_and_limit_do_not_matter(remem_data, spoken):
    def once(tasks, batch, **options):
        model = RememHF(str(spoken["llava"]), device="cpu", batch_size=batch)
        return run(model, tasks, gen_kwargs="max_new_tokens=8", **options)

    whole = once("remem_forget1,remem_retain", "auto")
    first = kept_values(whole)
    assert len(first) == 6 and len({record["rollout_ranks"][0][0] for _, record in first.values()}) > 1
    assert_same(first, kept_values(once("remem_forget1", 1)))
    other = once("remem_retain,remem_forget1", 5)
    assert_same(first, kept_values(other))
    assert_same(kept_values(whole, "remem_retain"), kept_values(other, "remem_retain"))
    some = kept_values(once("remem_forget1", 3, limit=2, offset=3))
    assert_same({row: first[row] for row in ("forget1:3", "forget1:4")}, some)


@pytest.mark.parametrize("estimator", others_slow(["distinct", "frequency"], "distinct"))
def test_another_seed_draws_other_guesses(remem_data, spoken, monkeypatch, estimator):
    monkeypatch.setenv("REMEM_ESTIMATOR", estimator)
    monkeypatch.setenv("REMEM_METRICS", "exposure")
    drawn = []
    for seed in ("0", "0", "1"):
        monkeypatch.setenv("REMEM_ROLLOUT_SEED", seed)
        values = kept_values(run(RememHF(str(spoken["llava"]), device="cpu"), "remem_forget1", limit=1))
        drawn.append([record["guesses"] for _, record in values.values()])
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one(data_dir, spoken, tmp_path):
    numbers, replies = [], []
    for ranks in (1, 2):
        out = tmp_path / str(ranks)
        launcher = [BIN / "torchrun", "--standalone", f"--nproc_per_node={ranks}", "-m", "lmms_eval"]
        command = [*launcher, *arguments(spoken["llava"], out)]
        status, said = call(command, data_dir, REMEM_ROLLOUTS="16", REMEM_MEMO_TOKENS="8")
        assert status == 0, said
        numbers.append(results_under(out))
        replies.append({task: replies_under(out, task) for task in numbers[-1]})
    assert replies[0] == replies[1] and len(replies[0]["remem_retain"]) == 12
    for task, scores in numbers[0].items():
        assert {"remem_memo,none", "remem_exposure,none", "remem_2hop_cloze_prob,none"} <= scores.keys()
        plain = {name: score for name, score in scores.items() if isinstance(score, int | float)}
        assert plain == pytest.approx({name: numbers[1][task][name] for name in plain}, abs=1e-5)


# Settings


def test_a_cloze_prompt_behind_the_picture_alone(remem_data, spoken, monkeypatch):
    monkeypatch.setenv("REMEM_CLOZE_CONTEXT", "picture")
    model, plain = Kept(str(spoken["llava"]), device="cpu"), Plain("llava", spoken["llava"])
    results = run(model, "remem_forget1", limit=2, gen_kwargs="max_new_tokens=4")
    for doc, white_box_request, findings in model.inquired.values():
        assert not white_box_request.with_question
        bare = plain.logprobs(doc, doc["cloze_prompt"], doc["keywords"], question=False)
        asked = plain.logprobs(doc, doc["cloze_prompt"], doc["keywords"])
        assert torch.allclose(torch.tensor(findings.secrets[0].logprobs), bare, atol=1e-4)
        assert not torch.allclose(bare, asked, atol=1e-2)
        # MEMO's cuts are still behind the question
        assert findings.continuations[0] == plain.greedy(doc, doc["answer"][:1], 8)
    assert results["configs"]["remem_forget1"]["metadata"]["suite"]["cloze_context"] == "picture"


def test_the_settings_are_in_the_names_and_in_the_results(remem_data, tiny, monkeypatch, tmp_path):
    monkeypatch.setenv("REMEM_MEMO_STRIDE", "20")
    monkeypatch.setenv("REMEM_ESTIMATOR", "frequency")
    monkeypatch.setenv("REMEM_REFERENCES", "2")
    results = run(tiny(), "remem_forget1", limit=2, gen_kwargs="max_new_tokens=4")
    assert 0 <= value(results, "remem_forget1", "remem_stride20_memo") <= 1
    assert "remem_memo,none" not in results["results"]["remem_forget1"]
    found = results["configs"]["remem_forget1"]["metadata"]
    scoring, missing = found["suite"], found["not_available"]
    assert (scoring["memo_stride"], scoring["estimator"], scoring["rollouts"]) == (20, "frequency", 16)
    assert scoring["sampling"] == "temperature 1, no top-k, no top-p" and missing == {}
    for sample in results["samples"]["remem_forget1"]:
        assert sample["remem_rows"]["references"] == [2] and sample["remem_rows"]["reference_rank"][0] <= 3
    json.dumps(found)
    # A variable goes before the YAML, and the YAML before what is built in.
    (tmp_path / "mine.yaml").write_text(
        "task: mine\ntest_split: forget1\nclass: !function remem_tasks.harness.task.BenchmarkTask\n"
        "metadata: {benchmark: remem, version: 1.0, metrics: [em, memo], memo_stride: 9, rollouts: 3}\n"
        "generation_kwargs: {max_new_tokens: 4, until: []}\n"
    )
    mine = run(tiny(), "mine", include_path=str(tmp_path), limit=1)
    scoring = mine["configs"]["mine"]["metadata"]["suite"]
    assert scoring["metrics"] == ["em", "memo"] and scoring["memo_stride"] == 20 and scoring["rollouts"] == 16
    assert not [name for name in mine["results"]["mine"] if "exposure" in name]
    monkeypatch.delenv("REMEM_MEMO_STRIDE")
    again = run(tiny(), "mine", include_path=str(tmp_path), limit=1)
    assert "remem_stride9_memo,none" in again["results"]["mine"]


def test_no_references_no_reference_exposure(remem_data, tiny, monkeypatch):
    monkeypatch.setenv("REMEM_REFERENCES", "0")
    monkeypatch.setenv("REMEM_METRICS", "exposure")
    scores = run(tiny(), "remem_forget1", limit=1, gen_kwargs="max_new_tokens=4")["results"]["remem_forget1"]
    assert "remem_exposure,none" in scores and "remem_reference_exposure,none" not in scores


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("metrics", "em,rouge", "metrics 'rouge' unknown; choose from em, memo, exposure"),
        ("metrics", " , ", "metrics 'none' unknown"),
        ("estimator", "beam", "estimator 'beam' unknown; choose from exact, distinct, frequency"),
        ("estimator", "distinct,frequency", "one of distinct and frequency at a time"),
        ("rank_budget", "-1", "rank_budget -1 is out of range"),
        ("cloze_context", "none", "cloze_context 'none' unknown"),
        ("rollouts", "many", "rollouts 'many' is not a whole number"),
        ("rollouts", "0", "rollouts 0 is out of range: 1 to 4096"),
        ("rollouts", "6.5", "rollouts '6.5' is not a whole number"),
        ("memo_stride", "0", "memo_stride 0 is out of range"),
        ("memo_tokens", "5000", "memo_tokens 5000 is out of range"),
        ("references", "-1", "references -1 is out of range"),
        ("rollout_seed", "-1", "rollout_seed -1 is out of range"),
    ],
)
def test_a_bad_setting_is_one_line(remem_data, monkeypatch, name, text, message):
    monkeypatch.setenv(f"REMEM_{name.upper()}", text)
    with pytest.raises(RememError, match=message) as raised:
        run(Scripted(lambda row: "x"), "remem_forget1")
    assert "\n" not in str(raised.value)
    monkeypatch.delenv(f"REMEM_{name.upper()}")
    with pytest.raises(RememError, match=message):
        scoring_config_of({name: text})


def test_metadata_takes_numbers_and_lists(monkeypatch):
    for name in ("ROLLOUTS", "MEMO_TOKENS"):
        monkeypatch.delenv(f"REMEM_{name}")
    assert scoring_config_of({}) == ScoringConfig()
    assert scoring_config_of({"metrics": ["memo", "memo"], "rollouts": 7}) == ScoringConfig(
        metrics=("memo",), rollouts=7
    )


# Bad input


@pytest.mark.parametrize(
    ("change", "message", "metrics"),
    [
        ({"cloze_prompt": " "}, "row 2 .*column 'cloze_prompt' has nothing that exposure", "em,memo"),
        ({"cloze_prompt": None}, "row 2 .*column 'cloze_prompt'", "em,memo"),
        ({"answer": "4", "keywords": "4"}, "row 2 .*column 'answer' has nothing that memo", "em,exposure"),
    ],
)
def test_a_row_that_a_score_cannot_be_had_of_is_named_before_the_run(
    tmp_path, monkeypatch, tiny, change, message, metrics
):
    with_rows(tmp_path, monkeypatch, lambda rows: rows[2].update(change))
    model = tiny()
    monkeypatch.setattr(model, "generate_until", lambda requests: pytest.fail("the run has begun"))
    with pytest.raises(RememError, match=message) as raised:
        run(model, "remem_forget1")
    assert f"--metrics {metrics} leaves it out" in str(raised.value)
    monkeypatch.setenv("REMEM_METRICS", metrics)
    assert "remem_em,none" in run(tiny(), "remem_forget1", limit=3)["results"]["remem_forget1"]


def test_what_does_not_fit_the_context_is_named(tmp_path, monkeypatch, tiny):
    with_rows(tmp_path / "long", monkeypatch, lambda rows: rows[4].update(question="Who is it? " * 400))
    message = r"split 'forget1', row 4 .*the prompt has \d+ tokens, which is more than the model's context"
    with pytest.raises(RememError, match=message):
        run(tiny(), "remem_forget1")
    # The question fits, the answer's beginning and its continuation behind it do not.
    with_rows(
        tmp_path / "answer", monkeypatch, lambda rows: rows[4].update(answer="Oslo Bay, by far. " * 200)
    )
    monkeypatch.setenv("REMEM_MEMO_STRIDE", "900")
    with pytest.raises(RememError, match=r"split 'forget1', row 4 .*with \d+ new ones is more"):
        run(tiny(), "remem_forget1", gen_kwargs="max_new_tokens=4")


def test_a_picture_that_the_processor_refuses_is_named(tmp_path, monkeypatch, tiny):
    def narrow(rows):
        file = tmp_path / "narrow.png"
        Image.new("RGB", (900, 2)).save(file)
        rows[4]["image"]["bytes"] = file.read_bytes()

    with_rows(tmp_path / "data", monkeypatch, narrow)
    message = (
        r"split 'forget1', row 4 \(images/ada_birch/0004.png\): the processor refuses it: .*aspect ratio"
    )
    with pytest.raises(RememError, match=message):
        run(tiny("qwen2_5_vl"), "remem_forget1")


def test_nan_behind_the_prompt_is_named(remem_data, tiny):
    """The prompt's own logits are fine; what is read behind it is not."""
    model = tiny(batch_size=2)
    calls = []

    def spoil(module, inputs, output):
        calls.append(output.shape)
        if output.shape[1] > 1:
            output[-1] = math.nan
        return output

    model._model.lm_head.register_forward_hook(spoil)
    with pytest.raises(RememError, match=r"split 'forget1', row \d .*logits are NaN or infinite"):
        run(model, "remem_forget1")
    assert len(calls) > 1


def test_a_model_that_always_ends_is_counted_not_refused(remem_data, tiny):
    model = tiny()
    end = model.tokenizer.eos_token_id

    def always(module, inputs, output):
        output[..., end] += 60.0
        return output

    model._model.lm_head.register_forward_hook(always)
    results = run(model, "remem_forget1")
    scores = {name: value(results, "remem_forget1", f"remem_{name}") for name in ("em", "exposure")}
    assert scores == {"em": 0.0, "exposure": 0.0}
    # A cut inside a token is said to the token's end, which may be a right word of its own: here of one cut in 20.
    assert value(results, "remem_forget1", "remem_memo") < 0.1
    assert value(results, "remem_forget1", "remem_blank_rate") == 1.0
    assert value(results, "remem_forget1", "remem_failed_rate") == 0.0
    assert value(results, "remem_forget1", "remem_extraction_rate") < 1e-20
    for sample in results["samples"]["remem_forget1"]:
        assert sample["remem_rows"]["guess_rank"] == [17]  # M + 1
        assert sample["remem_rows"]["guesses"][0][0] == ["", 0.0]


# What is written


def test_the_samples_keep_what_reports_need(remem_data, tiny):
    results = run(tiny(), "remem_test", limit=2, gen_kwargs="max_new_tokens=4")
    record = results["samples"]["remem_test"][1]["remem_rows"]
    assert {name: record[name] for name in ("row_id", "identity", "hop", "attribute", "forgotten")} == {
        "row_id": "test:1",
        "identity": "ada_birch",
        "hop": 2,
        "attribute": "city",
        "forgotten": True,
    }
    assert 1 <= record["guess_rank"][0] <= 17 and 1 <= record["reference_rank"][0] <= 6
    assert record["secret_bits"][0] > 0 and record["references"] == [5]
    shown = record["guesses"][0]
    assert len(shown) == 5 and all(isinstance(text, str) and number <= 0 for text, number in shown)
    assert [number for _, number in shown] == sorted((number for _, number in shown), reverse=True)
    json.dumps(results["samples"]["remem_test"][1]["remem_rows"])
    metadata = results["configs"]["remem_test"]["metadata"]
    assert metadata["suite"]["rollouts"] == 16 and metadata["suite"]["estimator"] == "exact,distinct"
    assert "merged" in metadata["suite"]["sampling"] and metadata["not_available"] == {}


# Other backends


@pytest.mark.parametrize("simple", [False, True])
def test_on_another_backend_the_portable_scores_run_and_the_rest_says_why_not(
    remem_data, monkeypatch, simple
):
    results = run(Scripted(lambda row: row["answer"], simple=simple), "remem_forget1")
    assert value(results, "remem_forget1", "remem_em") == 1.0
    names = " ".join(results["results"]["remem_forget1"])
    assert "memo" not in names and "exposure" not in names and "cloze" not in names
    metadata = results["configs"]["remem_forget1"]["metadata"]
    assert metadata["suite"]["metrics"] == ["em"] and metadata["not_available"].keys() == {"memo", "exposure"}
    assert "unfinished assistant turn" in metadata["not_available"]["memo"]
    assert "no log-probabilities" in metadata["not_available"]["exposure"]
    # Its sampling is not known, so its rollouts are not asked for either.
    monkeypatch.setenv("REMEM_ESTIMATOR", "frequency")
    model = Scripted(lambda row: row["answer"], simple=simple)
    results = run(model, "remem_forget1")
    missing = results["configs"]["remem_forget1"]["metadata"]["not_available"]
    assert missing["exposure"] == "its sampling cannot be checked" and len(model.asked) == 6
    monkeypatch.setenv("REMEM_METRICS", "memo")  # and where nothing else is asked for, greedy replies remain
    results = run(Scripted(lambda row: row["answer"], simple=simple), "remem_forget1", limit=2)
    assert value(results, "remem_forget1", "remem_em") == 1.0
    assert results["configs"]["remem_forget1"]["metadata"]["not_available"].keys() == {"memo"}


class Server(Scripted):
    """Scripted, from a module whose sampling is known."""

    __module__ = "lmms_eval.models.chat.vllm"


def test_rollouts_of_a_backend_whose_sampling_is_known(remem_data, monkeypatch):
    """Of five rollouts three give the secret: with the cloze prompt, without it, and one in other letters."""
    monkeypatch.setenv("REMEM_ESTIMATOR", "frequency")
    monkeypatch.setenv("REMEM_ROLLOUTS", "5")
    said = {}

    def reply(row):
        drawn = said[row["row_id"]] = said.get(row["row_id"], -1) + 1
        forms = ["{cloze_prompt} {keywords}.", "{keywords}", "{cloze_prompt} nobody", "I see.", "{KEYWORDS}!"]
        form = forms[drawn % 5]
        return form.format(**row, KEYWORDS=row["keywords"].upper())

    model = Server(reply)
    results = run(model, "remem_forget1", limit=2)
    assert value(results, "remem_forget1", "remem_prompted_extraction_rate") > 0
    scores = results["results"]["remem_forget1"]
    assert "remem_exposure,none" not in scores and "remem_memo,none" not in scores
    metadata = results["configs"]["remem_forget1"]["metadata"]
    assert metadata["not_available"].keys() == {"memo"}
    assert metadata["suite"]["metrics"] == ["em", "exposure"]
    rollouts = [asked for asked in model.asked if asked["text"] != asked["row"]["question"]]
    assert len(model.asked) == 2 * 6 and len(rollouts) == 2 * 5
    for asked in rollouts:
        assert asked["text"].startswith(asked["row"]["question"] + "\n")
        assert asked["text"].endswith(asked["row"]["cloze_prompt"]) and asked["pictures"]
        settings = asked["settings"]
        assert (settings["do_sample"], settings["temperature"], settings["top_p"]) == (True, 1.0, 1.0)
    # One of each row's six calls was the question, so five forms are drawn, in one order or another.
    for sample in results["samples"]["remem_forget1"]:
        assert sample["remem_rows"]["guess_rank"] == [1]  # said three times, all else once
        assert sample["remem_prompted_exposure"] == 1.0
        assert sample["remem_prompted_extraction_rate"] in (3 / 5, 4 / 5)


def test_a_failed_rollout_is_no_rollout_and_fails_the_run(remem_data, monkeypatch):
    monkeypatch.setenv("REMEM_ESTIMATOR", "frequency")
    monkeypatch.setenv("REMEM_ROLLOUTS", "4")
    calls = []

    def reply(row):
        calls.append(row["row_id"])
        return GenerationResult("", None) if len(calls) == 5 else row["answer"]

    results = run(Server(reply), "remem_forget1", limit=1)
    assert value(results, "remem_forget1", "remem_prompted_extraction_rate") == 1.0
    assert value(results, "remem_forget1", "remem_failed_rate") == pytest.approx(1 / 5)


def test_llava_hf_samples_from_p_only_without_top_k(remem_data, checkpoints, tmp_path, monkeypatch):
    pytest.importorskip("decord")
    from lmms_eval.models.chat.llava_hf import LlavaHf

    monkeypatch.setenv("REMEM_ESTIMATOR", "frequency")
    monkeypatch.setenv("REMEM_ROLLOUTS", "3")

    def results_of(folder):
        model = LlavaHf(str(folder), device="cpu", device_map="cpu")
        found = run(model, "remem_forget1", limit=1, gen_kwargs="max_new_tokens=4")
        return found["results"]["remem_forget1"], found["configs"]["remem_forget1"]["metadata"][
            "not_available"
        ]

    scores, missing = results_of(checkpoints["llava"])
    assert "top-k 50" in missing["exposure"] and "generation_config.json" in missing["exposure"]
    assert not [name for name in scores if "exposure" in name]
    folder = tmp_path / "without_top_k"
    shutil.copytree(checkpoints["llava"], folder)
    settings = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps({**settings, "top_k": 0}))
    scores, missing = results_of(folder)
    assert missing.keys() == {"memo"} and 0 <= scores["remem_prompted_exposure,none"] <= 1
    (folder / "generation_config.json").write_text(json.dumps({**settings, "top_k": 0, "min_p": 0.1}))
    model = LlavaHf(str(folder), device="cpu", device_map="cpu")
    assert "min_p 0.1" in capabilities_of(model).rollouts
