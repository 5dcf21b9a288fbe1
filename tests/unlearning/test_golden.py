"""L_forget of every method on one example of three answer tokens, worked out by hand; defect 2: a loss that is overwritten.

The forget answer, with p and p_ref over a vocabulary of three (logits are their logarithms):

    token  p              p_ref          y   p_y
    1      1/2 1/4 1/4    1/4 1/2 1/4    0   1/2
    2      1/4 1/2 1/4    1/2 1/4 1/4    0   1/4
    3      1/8 1/8 3/4    1/4 1/4 1/2    2   3/4

so l = ln 2, ln 4, ln 4/3; N = ln 32/3; N_ref = ln 16. The refusal, and the other answer: two tokens of
p_y = 1/2 each (N = ln 4) where the reference has 1/4 (ln 16). Three random answers of one token each: p_y =
1/2, 1/4, 1/8. The retain answer: one token, p = (1/2, 1/4, 1/4), p_ref = (1/4, 1/2, 1/4), y = 1.
"""

from dataclasses import replace
from math import exp, log, sqrt

import pytest
import torch

from unlearning import losses
from unlearning.arguments import parse
from unlearning.forward import Answers, Batch
from unlearning.mechanisms import steering
from unlearning.mechanisms.alternatives import masks
from unlearning.methods import METHODS, NAMES
from unlearning.retain_losses import RETAIN_LOSSES

LN2 = log(2)
FORGET = [[1 / 2, 1 / 4, 1 / 4], [1 / 4, 1 / 2, 1 / 4], [1 / 8, 1 / 8, 3 / 4]]
FORGET_REF = [[1 / 4, 1 / 2, 1 / 4], [1 / 2, 1 / 4, 1 / 4], [1 / 4, 1 / 4, 1 / 2]]
FLAT_TWO = [[1 / 2, 1 / 4, 1 / 4]] * 2
REF_TWO = [[1 / 4, 1 / 2, 1 / 4]] * 2


def answers(p, p_ref, labels, lengths, hidden=None, reference_hidden=None) -> Answers:
    p, p_ref, labels = torch.tensor(p).double(), torch.tensor(p_ref).double(), torch.tensor(labels)
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    found, before = (table.log().gather(1, labels[:, None])[:, 0] for table in (p, p_ref))
    empty = torch.zeros(mask.shape, dtype=torch.float64)
    log_probs, ref_log_probs = (empty.masked_scatter(mask, value) for value in (found, before))
    tensor = lambda value: None if value is None else torch.tensor(value).double()  # noqa: E731
    return Answers(
        log_probs,
        mask,
        labels,
        -ref_log_probs.sum(1),
        p.log(),
        p_ref.log(),
        tensor(hidden),
        tensor(reference_hidden),
    )


def example() -> Batch:
    forget = answers(
        FORGET, FORGET_REF, [0, 0, 2], [3], [[1.0, 2.0], [0.0, 0.0], [3.0, 4.0]], [[3.0, 4.0]] * 3
    )
    retain = answers([FORGET[0]], [FORGET_REF[0]], [1], [1], [[1.0, 0.0]], [[0.0, 2.0]])
    two = answers(FLAT_TWO, REF_TWO, [0, 0], [2])
    other = answers([FORGET[0], FORGET[1], FORGET[2]], FORGET_REF, [0, 0, 0], [1, 1, 1])
    return Batch(None, forget, retain, two, two, other)


MEAN = log(32 / 3) / 3
GOLDEN = {
    "ga": -MEAN,
    "grad_diff": -MEAN,
    "kl": -MEAN,
    "mmunlearner": -MEAN,
    "pava": -MEAN,
    "task_vector": MEAN,
    "idk": LN2,
    "smfa": LN2,
    "llmu": LN2 - MEAN,
    # Log-ratios: ln 16 − ln 4 of the preferred, ln 16 − ln 32/3 of the answer; their difference is ln 8/3.
    "dpo": 20 * log(1 + exp(-0.1 * log(8 / 3))),
    "altpo": 20 * log(1 + exp(-0.1 * log(8 / 3))),
    # N − N_ref = ln 2/3
    "npo": 20 * log(1 + exp(-0.1 * log(2 / 3))),
    "simnpo": 2 / 4.5 * log(1 + exp(-4.5 * MEAN)),
    # ‖h_ref‖ = 5, c = 25, u = (.6, .8): ‖h − (15, 20)‖² / 2 is 260, 312.5 and 200.
    "rmu": (260 + 312.5 + 200) / 3,
    # β = ln 2 halves p_ref of y: q = (1, 4, 2)/7, (1, 1, 1)/3, (1, 1, 1)/3.
    "undial": (13 / 7 * LN2 + 5 / 3 * LN2 + (6 * LN2 + log(4 / 3)) / 3) / 3,
    "wga": -(LN2 / 2 + log(4) / 4 + 3 / 4 * log(4 / 3)) / 3,
    # p⁵ (1 − p) l
    "satimp": -(LN2 / 64 + 3 / 4096 * log(4) + 243 / 4096 * log(4 / 3)) / 3,
    # Without the first token: q = (0, 2, 1)/3 and (1, 1, 0)/2.
    "ceu": (4 / 3 * LN2 + 3 * LN2) / 2,
    # max − mean of the logits: ⅔ ln 2, ⅔ ln 2, ⅔ ln 6
    "pdu": 4 / 27 * (2 * LN2**2 + log(6) ** 2),
    # KL: ¼ ln 2, ¼ ln 2, ½ ln 4/3
    "scrub": -(LN2 / 2 + log(4 / 3) / 2) / 3,
    "sku": 2.5 * MEAN + (LN2 + 2 * LN2 + 3 * LN2),
    # P of the refusal ½, of the answer (½ + ¼ + ¾)/3 = ½
    "flat": -1 / 2 + exp(1 / 2 - 1),
    # On F, "No idea" as tokens 1 and 0 in turn: p = ¼, ¼, ⅛, each ln 2 + ½ [p ln p − (1 + p) ln(1 + p)].
    "jensun": LN2
    + ((1 / 4 * log(1 / 4) - 5 / 4 * log(5 / 4)) * 2 + 1 / 8 * log(1 / 8) - 9 / 8 * log(9 / 8)) / 6,
    "rna": (260 + 312.5 + 200) / 3,
    # r = (1, 1): ‖h − (4, 5)‖² / 2 is 9, 20.5 and 1.
    "lunar": (9 + 20.5 + 1) / 3,
    # The true answer has tokens 0 and 2, the other 0 alone: at both tokens ¼ ln ½ + ½ ln 2, without word 2.
    "siu": 0.9 * LN2 + 0.75 * LN2 / 4,
}
SETTINGS = {"undial": ("--undial_beta", str(LN2))}
RETAIN = {
    "nll": log(4),
    "kl": LN2 / 4,
    "nll+kl": log(4) + LN2 / 4,
    # m = (3/8, 3/8, 1/4): each side ¼ ln 2/3 + ½ ln 4/3
    "js": log(2 / 3) / 4 + log(4 / 3) / 2,
    "hidden": (1 + 4) / 2,
}


@pytest.fixture
def bare(monkeypatch):
    monkeypatch.setattr(steering, "direction", lambda seed, like: torch.tensor([0.6, 0.8]).to(like))

    def make(name: str, *flags: str):
        base = ["--model_name_or_path", "m", "--output_dir", "never_written", "--use_cpu", "true"]
        trainer = object.__new__(METHODS[name])
        trainer.args, trainer.dual, trainer._seen = parse(["--method", name, *base, *flags])[1], 3.0, []
        trainer.state = type("State", (), {"global_step": 0})()
        trainer.cycle, trainer.shift = [1, 0], torch.tensor([1.0, 1.0])
        return trainer

    return make


def test_every_forget_loss_has_its_golden_value():
    wanted = {name for name in NAMES if METHODS[name].rows_from == "pairs" and METHODS[name].trains}
    assert set(GOLDEN) == wanted and set(RETAIN) == set(RETAIN_LOSSES)


@pytest.mark.parametrize("name", GOLDEN)
def test_defect_02_and_03_the_loss_is_the_formula_and_nothing_after_it(bare, name):
    """Upstream defects 2 and 3: a DPO loss that is overwritten; NPO over the vocabulary or on the mean NLL."""
    trainer = bare(name, *SETTINGS.get(name, ()))
    assert trainer.forget_loss(example()).item() == pytest.approx(GOLDEN[name], rel=1e-6)


@pytest.mark.parametrize("kind", RETAIN)
def test_retain_losses_by_hand(kind):
    assert RETAIN_LOSSES[kind][0](example().retain).item() == pytest.approx(RETAIN[kind], rel=1e-6)


def test_whole_losses_by_hand(bare, monkeypatch):
    """γ L_forget + α L_retain with each method's own weights and retain term."""
    batch = example()
    monkeypatch.setattr(steering, "noise", lambda seed, step, rows, like: torch.tensor([[5.0, 0.0]]).to(like))
    for name, expected in {
        "grad_diff": GOLDEN["grad_diff"] + log(4),
        "pava": GOLDEN["pava"] + 3 * log(4),
        "kl": GOLDEN["kl"] + LN2 / 4,
        "simnpo": 0.125 * GOLDEN["simnpo"] + log(4),
        "satimp": 0.1 * GOLDEN["satimp"] + log(4),
        "scrub": GOLDEN["scrub"] + log(4) + LN2 / 4,
        "jensun": GOLDEN["jensun"] + RETAIN["js"],
        "rmu": GOLDEN["rmu"] + 2.5,
        "lunar": GOLDEN["lunar"] + 2.5,
        # δ = (½, 0): ‖h − (½, 2)‖² / 2
        "rna": GOLDEN["rna"] + (0.25 + 4) / 2,
        "siu": GOLDEN["siu"] + log(4) + LN2 / 4,
        "llmu": GOLDEN["llmu"] + LN2 / 4,
        "sku": GOLDEN["sku"] - 0.5 * LN2 / 4,
        "pdu": GOLDEN["pdu"] + 3.0 * (log(4) - 0.3),  # λ = 3
    }.items():
        assert bare(name).losses_of(batch)["loss"].item() == pytest.approx(expected, rel=1e-6), name


def test_options_of_losses_by_hand(bare):
    batch = example()
    scaled = bare("dpo", "--dpo_scale", "1").forget_loss(batch).item()
    assert scaled == pytest.approx(GOLDEN["dpo"] / 20, rel=1e-6)
    # KL(p ‖ p_ref): ½ ln 2 − ¼ ln 2 twice; ¼ ln ½ + ¾ ln 3/2
    other = bare("scrub", "--scrub_forget_kl", "model").forget_loss(batch).item()
    assert other == pytest.approx(-(LN2 / 2 - LN2 / 4 + 3 / 4 * log(3 / 2)) / 3, rel=1e-6)
    # T = 2 takes the square root of p: (√2, 1, 1)/(2 + √2) and (1, √2, 1)/(2 + √2), and (1, 1, √6)/(2 + √6) and (1, 1, √2)/(2 + √2).
    root = sqrt(2)
    tempered = bare("scrub", "--scrub_temperature", "2").forget_loss(batch).item()
    pair = (1 * log(1 / root) + root * log(root)) / (2 + root)
    third = (
        2 * log((2 + sqrt(6)) / (2 + root)) + root * log(root / sqrt(6) * (2 + sqrt(6)) / (2 + root))
    ) / (2 + root)
    assert tempered == pytest.approx(-4 * (2 * pair + third) / 3, rel=1e-6)
    # m = (3/4, 1/8, 1/8): KL(p ‖ m) = ½ ln 2/3 + ½ ln 2, KL(onehot ‖ m) = ln 4/3
    told = bare("jensun", "--jensun_target", "answer").forget_loss(replace(batch, forget=None)).item()
    assert told == pytest.approx((log(2 / 3) / 2 + LN2 / 2 + log(4 / 3)) / 2, rel=1e-6)
    # ‖h − 2u‖² / 2 with u = (.6, .8): (.04 + .16)/2, 2, (3.24 + 5.76)/2
    constant = bare("rmu", "--rmu_coeff", "2").forget_loss(batch).item()
    assert constant == pytest.approx((0.1 + 2 + 4.5) / 3, rel=1e-6)
    moved = bare("simnpo", "--simnpo_beta", "2", "--simnpo_delta", "0.5").forget_loss(batch).item()
    assert moved == pytest.approx(log(1 + exp(0.5 - 2 * MEAN)), rel=1e-6)
    none = bare("wga", "--wga_beta", "0").forget_loss(batch).item()
    assert none == pytest.approx(GOLDEN["grad_diff"], rel=1e-6)


def test_masks_of_another_answer_by_hand():
    """True answers 5 3 and 4 4 1, others 5 2 and 1: what both say, and the words of the true one alone."""
    side = lambda labels, lengths: Answers(  # noqa: E731
        None, torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None], torch.tensor(labels),
        logits=torch.zeros(len(labels), 6),
    )  # fmt: skip
    tokens, words = masks(side([5, 3, 4, 4, 1], [2, 3]), side([5, 2, 1], [2, 1]))
    assert tokens.tolist() == [True, False, True]
    assert [row.nonzero()[:, 0].tolist() for row in ~words] == [[3], [3], [4]]


def test_divergences_of_flat_by_hand():
    """P of the template ½ and 1, of the forget answers 0 and 1 (Nowozin et al. 2016, table 6: g and f*)."""
    template, forget = torch.tensor([0.5, 1.0]).double(), torch.tensor([0.0, 1.0]).double()
    logistic = lambda v: 1 / (1 + exp(-v))  # noqa: E731
    tanh = lambda v: 2 * logistic(2 * v) - 1  # noqa: E731
    by_hand = {
        "kl": (exp(-1) + 1) / 2 - 0.75,
        "tv": tanh(1) / 4 - (tanh(0.5) + tanh(1)) / 4,
        # f*(u) = −ln(2 − eᵘ) at u = ln 2σ(v): −ln(2 − 2σ(v))
        "js": (-log(2 - 1) - log(2 - 2 * logistic(1))) / 2
        - (log(2 * logistic(0.5)) + log(2 * logistic(1))) / 2,
        "pearson": (0 + 1.25) / 2 - 0.75,
    }
    assert set(by_hand) == set(losses.DIVERGENCES)
    for name, expected in by_hand.items():
        assert losses.flat(template, forget, name).item() == pytest.approx(expected, abs=1e-12), name


def test_js_of_a_label_is_that_of_the_whole_distribution():
    """Against Σ over the vocabulary, and at its ends: ln 2 where p_y is 0, 0 where it is 1."""
    logits = torch.randn(6, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    p, labels = logits.softmax(-1), torch.arange(6)
    onehot = torch.nn.functional.one_hot(labels, 9).double()
    middle = (p + onehot) / 2
    naive = ((p * (p / middle).log()).sum(-1) - middle.gather(1, labels[:, None])[:, 0].log()) / 2
    mask = torch.ones(1, 6, dtype=torch.bool)
    assert losses.js_to_label(p.gather(1, labels[:, None]).T.log(), mask).item() == pytest.approx(
        naive.mean().item()
    )
    for nats, expected in ((0.0, 0.0), (-300.0, LN2)):
        found = losses.js_to_label(torch.full((1, 6), nats, dtype=torch.float64), mask)
        assert found.item() == pytest.approx(expected, abs=1e-12)


def test_gradients_of_losses_with_constant_parts():
    """wga and satimp: weight / |M| at each log-probability; ceu: p − q at each logit."""
    log_probs = torch.tensor([[0.5, 0.25, 0.75]]).double().log().requires_grad_()
    mask = torch.ones(1, 3, dtype=torch.bool)
    losses.weighted_ascent(log_probs, losses.wga_weights(log_probs, 2.0), mask).backward()
    assert log_probs.grad[0].tolist() == pytest.approx([1 / 12, 1 / 48, 9 / 48])
    log_probs.grad = None
    losses.weighted_ascent(log_probs, losses.satimp_weights(log_probs, 1.0, 1.0), mask).backward()
    assert log_probs.grad[0].tolist() == pytest.approx([1 / 12, 1 / 16, 1 / 16])
    logits = torch.tensor([FORGET[1]]).double().log().requires_grad_()
    losses.ceu(logits, torch.tensor([0])).backward()
    assert logits.grad[0].tolist() == pytest.approx([1 / 4, 1 / 2 - 2 / 3, 1 / 4 - 1 / 3])


def test_l1_by_hand():
    weights = [
        torch.tensor([[1.0, -2.0]], requires_grad=True),
        torch.tensor([[0.5], [0.0]], requires_grad=True),
    ]
    loss = losses.l1(weights)
    loss.backward()
    assert loss.item() == 3.5 and weights[0].grad.tolist() == [[1.0, -1.0]]
