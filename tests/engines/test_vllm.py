"""A real vLLM server on this machine, scored through `remem_vllm`: the values of `remem_hf`, to stated tolerances."""

import json
import os
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from scipy.stats import chisquare
from support import scripted
from support.engines import free_port, scores_side_by_side, serving, show

from remem_tasks.engine.prompts import Chat
from remem_tasks.errors import RememError
from remem_tasks.harness.generation import sampling_options
from remem_tasks.harness.remem_hf import RememHF
from remem_tasks.harness.remem_openai import RememOpenAI
from remem_tasks.harness.remem_vllm import NO_MOMENTS, NO_SEARCH, RememVLLM

ROOT = Path(__file__).resolve().parents[2]
SAME = (
    "em",
    "keyword_recall",
    "rougel",
    "memo",
    "reference_exposure",
    "exact_memorisation",
    "extraction_strength",
)
"""Scores that come from which token is the likeliest, or from an order: no rounding of float32 moves them here."""
CLOSE = {
    "secret_bits": 1e-5, "cloze_prob": 1e-5, "extraction_rate": 1e-4, "member_loss": 1e-5, "member_zlib": 1e-5,
    "member_mink40": 1e-5, "member_minkpp40": 1e-4,
}  # fmt: skip
"""Scores that are sums of log-probabilities, and how far they may be apart relatively."""
DRAWN = {"rollout_extraction_rate": 0.08, "rollout_exposure": 0.15}
"""Scores of 64 rollouts a row, drawn anew: how far the means over rows may be apart."""


@pytest.fixture(scope="module")
def vllm(python_of, tmp_path_factory):
    """vllm(checkpoint) -> a context with the address of a server."""

    @contextmanager
    def start(checkpoint):
        port, log = free_port(), tmp_path_factory.mktemp("vllm") / "log"
        command = [python_of("vllm"), "-m", "vllm.entrypoints.openai.api_server", "--model", str(checkpoint)]
        options = ["--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--enforce-eager"]
        limits = ["--max-model-len", "1024", "--max-logprobs", "500"]
        with serving([*command, *options, *limits], port, log, VLLM_CPU_KVCACHE_SPACE="1") as (url, _):
            yield url

    return start


@pytest.fixture(scope="module")
def qwen(vllm, wide):
    """A Qwen2.5-VL of random weights: (address, its folder)."""
    with vllm(wide["qwen2_5_vl"]) as url:
        yield url, wide["qwen2_5_vl"]


@pytest.fixture(scope="module")
def llava(vllm, taught):
    """A LLaVA that has learned the rows: (address, its folder)."""
    with vllm(taught) as url:
        yield url, taught


def _asked(monkeypatch, **settings):
    for name, value in {"ROLLOUTS": "16", "ESTIMATOR": "frequency", **settings}.items():
        monkeypatch.setenv(f"REMEM_{name}", value)


def _compared(here, there, task):
    found, wanted = here["results"][task], there["results"][task]
    for name in SAME:
        assert found[f"remem_{name},none"] == wanted[f"remem_{name},none"], name
    for name, tolerance in CLOSE.items():
        assert found[f"remem_{name},none"] == pytest.approx(wanted[f"remem_{name},none"], rel=tolerance), name
    assert scripted.texts(here, task) == scripted.texts(there, task)


@pytest.mark.parametrize("served", ["qwen", "llava"])
def test_every_score_is_that_of_remem_hf(served, request, remem_data, monkeypatch, capfd):
    url, folder = request.getfixturevalue(served)
    drawn = served == "llava"
    _asked(monkeypatch, METRICS="em,memo,exposure,membership,memorisation", ROLLOUTS="64" if drawn else "8")
    model = RememVLLM(url, logprobs=-1, seeded=False)
    here = scripted.run(model, "remem_forget1", log_samples=True)
    there = scripted.run(
        RememHF(str(folder), device="cpu", dtype="float32"), "remem_forget1", log_samples=True
    )
    of = (there, here)
    value = lambda side, name: scripted.value(of[side], "remem_forget1", f"remem_{name}")  # noqa: E731
    show(capfd, f"{served}: score, remem_hf, remem_vllm", scores_side_by_side((*SAME, *CLOSE, *DRAWN), value))
    _compared(here, there, "remem_forget1")
    assert model.otherwise <= 2
    if drawn:
        for name, apart in DRAWN.items():
            one, other = (scripted.value(of, "remem_forget1", f"remem_{name}") for of in (here, there))
            assert abs(one - other) < apart, name
        assert scripted.value(here, "remem_forget1", "remem_em") > 0.2


def test_what_it_cannot_give_is_said(qwen, remem_data, monkeypatch):
    url, _ = qwen
    _asked(monkeypatch, METRICS="exposure,membership", ESTIMATOR="exact,distinct", ROLLOUTS="2")
    found = scripted.run(RememVLLM(url, seeded=False), "remem_forget1", limit=1)
    told = found["configs"]["remem_forget1"]["metadata"]
    assert told["not_available"]["exact"] == told["not_available"]["distinct"] == NO_SEARCH
    assert told["not_available"]["membership"] == NO_MOMENTS and told["suite"]["estimator"] == "frequency"
    scores = found["results"]["remem_forget1"]
    assert "remem_exposure,none" not in scores and "remem_rollout_exposure,none" in scores


def test_its_sampling_is_from_p(qwen, remem_data):
    """χ² of 2,000 draws of a first token against p of the same prompt, by the weights; tokens that are no text never come."""
    url, folder = qwen
    own, served = RememHF(str(folder), device="cpu", dtype="float32"), RememVLLM(url, seeded=False)
    chat = Chat([{"role": "user", "content": [{"type": "text", "text": "Who is it?"}]}], "row")
    p = own.decoder.prefill([chat]).logp[0].exp().double()
    options = sampling_options({"do_sample": True, "max_new_tokens": 1})
    drawn = Counter(token for (token,) in served.said(chat, [], options, count=2000))
    assert not [token for token in drawn if p[token] == 0]
    order = torch.argsort(p, descending=True)[
        :40
    ].tolist()  # the likeliest, each expected about eight times or more
    counts = [drawn[token] for token in order]
    rest = 2000 - sum(counts)
    expected = [2000 * float(p[token]) for token in order]
    assert chisquare([*counts, rest], [*expected, 2000 - sum(expected)]).pvalue > 1e-6
    assert len(drawn) > 200


def test_replies_that_begin_as_told(qwen, remem_data):
    """What `remem_vllm` asks for where no request can hold a beginning."""
    served = RememVLLM(qwen[0], seeded=False)
    chat = Chat([{"role": "user", "content": [{"type": "text", "text": "Who is it?"}]}], "row")
    for text in ("The h", "O (b", " 1"):
        (tokens,) = served.said(chat, [], {"do_sample": False, "max_new_tokens": 12}, begins=text)
        assert served.prompts.text(tokens).startswith(text)


def test_twenty_log_probabilities_a_place_are_nearly_all_of_them(llava, remem_data, monkeypatch):
    """A model that has learned its rows gives tokens that are no text next to nothing."""
    url, folder = llava
    _asked(monkeypatch, METRICS="em,exposure", ROLLOUTS="2")
    here = scripted.run(RememVLLM(url, seeded=False), "remem_forget1")
    there = scripted.run(RememHF(str(folder), device="cpu", dtype="float32"), "remem_forget1")
    for name in ("secret_bits", "cloze_prob"):
        one, other = (scripted.value(of, "remem_forget1", f"remem_{name}") for of in (here, there))
        assert one == pytest.approx(other, rel=0.02), name


def test_another_processor_and_another_server_are_refused(qwen, llava, remem_data):
    url, _ = qwen
    wrong = RememVLLM(url, pretrained=str(llava[1]), seeded=False)
    with pytest.raises(RememError, match="row 0.*the server reads a prompt of .* tokens, the processor"):
        scripted.run(wrong, "remem_forget1", limit=1)
    assert RememOpenAI(url).server == "vllm"
    with pytest.raises(RememError, match="no server at"):
        RememVLLM("http://127.0.0.1:1/v1", retries=0)


def test_the_command_line(qwen, remem_data, tmp_path):
    """The command of docs/how-to/vllm.md, in a process of its own."""
    url, _ = qwen
    arguments = f"--model remem_vllm --model_args base_url={url},seeded=False --tasks remem_forget1 --limit 2"
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("lmms_eval")),
            *arguments.split(),
            "--rollouts",
            "4",
            "--output_path",
            str(tmp_path),
        ],
        env={**os.environ, "REMEM_DATA": str(remem_data)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_lmms_evals_own_backend(python_of, taught, remem_data, tmp_path, monkeypatch, capfd):
    """vLLM in lmms-eval's process: the replies of remem_hf, prompted Exposure by its own drawing, what it has not said."""
    arguments = (
        f"-m lmms_eval --model vllm --model_args model={taught},dtype=float32,enforce_eager=True,max_model_len=1024 "
        f"--batch_size 6 --tasks remem_forget1,remem_test --output_path {tmp_path} --log_samples"
    )
    asked = {"METRICS": "em,memo,exposure", "ESTIMATOR": "frequency", "ROLLOUTS": "8"}
    for name, value in asked.items():
        monkeypatch.setenv(f"REMEM_{name}", value)
    done = subprocess.run(
        [python_of("lmms_vllm"), *arguments.split()],
        env={**os.environ, "PYTHONPATH": str(ROOT), "VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (file,) = tmp_path.rglob("*_results.json")
    here = json.loads(file.read_text())
    monkeypatch.setenv("REMEM_METRICS", "em")
    own = RememHF(str(taught), device="cpu", dtype="float32")
    there = scripted.run(own, "remem_forget1,remem_test", log_samples=True)
    for task in ("remem_forget1", "remem_test"):
        (samples,) = tmp_path.rglob(f"*_samples_{task}.jsonl")
        rows = sorted(map(json.loads, samples.read_text().splitlines()), key=lambda one: one["doc_id"])
        assert [row["filtered_resps"][0] for row in rows] == scripted.texts(there, task)
        for score in ("em", "keyword_recall", "rougel", "blank_rate"):
            assert scripted.value(here, task, f"remem_{score}") == scripted.value(
                there, task, f"remem_{score}"
            )
    of = (there, here)
    value = lambda side, name: scripted.value(of[side], "remem_forget1", f"remem_{name}")  # noqa: E731
    same = ("em", "keyword_recall", "rougel", "blank_rate")
    drawn = scripted.value(here, "remem_forget1", "remem_prompted_exposure")
    show(
        capfd,
        "lmms-eval's vllm: score, remem_hf, vllm",
        [*scores_side_by_side(same, value), f"prompted_exposure {drawn:.8g}"],
    )
    scores = here["results"]["remem_forget1"]
    assert scores["remem_em,none"] > 0.2 and 0 <= scores["remem_prompted_exposure,none"] <= 1
    assert {"memo", "exposure"} <= set(here["configs"]["remem_forget1"]["metadata"]["not_available"])
