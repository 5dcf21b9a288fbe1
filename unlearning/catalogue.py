"""The page of methods, made from the registry: a method's docstring, attributes and flags are its documentation."""

from __future__ import annotations

from types import SimpleNamespace

from unlearning.config import SHARED
from unlearning.data import Role
from unlearning.mechanisms import reference
from unlearning.methods import METHODS, NAMES
from unlearning.refusals import REFUSALS
from unlearning.trainer import UnlearnTrainer

WEIGHTS = 7.063e9  # of LLaVA-1.5-7B

INTRODUCTION = f"""# Forget methods

Made by `python -m unlearning.methods > docs/methods.md`; a test compares this page with the registry.

Every method is

    L = γ · L_forget + α · L_retain

with γ = {SHARED["gamma"]:g}, α = {SHARED["alpha"]:g}, L_retain = {SHARED["retain_loss"]} and learning rate \
{SHARED["learning_rate"]:g} unless its entry says otherwise.

- Tokens: a loss counts the answer tokens y of an example (the set M, with the end-of-turn token), never prompt,
  image or padding tokens. l_t = −ln p_θ(y_t | x, y_<t), N = Σ l_t, n = |M|; the mean NLL is N/n. z are logits, σ is
  the logistic function, p_ref and z_ref belong to the model before unlearning. KL is Σ p_ref ln(p_ref/p_θ) at an
  answer token, averaged over them.
- Means: sequence losses are averaged over the examples of an optimizer step, token losses over its answer tokens,
  those of all its micro-batches and processes together: 8 × 1 is 1 × 8.
- L_retain (`--retain_loss`): `nll` is the mean NLL of the retain rows; `kl` the KL to the model before
  unlearning; `nll+kl` both; `js` their Jensen-Shannon divergence; `hidden` the mean squared distance of a layer's
  output from what it was (rmu); `none` leaves retain rows out, as `--alpha 0` does.
- Refusals are drawn from a list of {len(REFUSALS)} sentences by row and epoch. Plausible other answers (`altpo`) are the wrong
  answers that stand beside the rows (config `perturbed`), or are sampled from the model (`--alternatives`).
- The model before unlearning is held in the cheapest way that the loss can do with, and the log says which:
  log-probabilities of whole answers computed once before the first step and kept in `reference.json`; with LoRA the
  same weights with the adapter off; only else a second frozen model.
- Memory, by arithmetic and without activations (autocast's copies of weights count among those): full fine-tuning holds
  4 bytes per weight and 12 more per trained weight (gradient and AdamW's two moments; all in float32), which is 113 GB
  for the 7.06 billion of LLaVA-1.5-7B; 4 bytes per weight (28 GB) more where the table says "a second frozen model"; and
  what a method keeps of its own. Per method that is the column "7B, full"; FSDP2 (`--accelerate fsdp2`) divides it by the
  number of GPUs. The forward is in bfloat16 all the same (`--bf16`), and as many weights move as in float32. Weights in
  bfloat16 are not trained in full: most updates would be rounded away, so that `--dtype bfloat16` without `--use_peft`
  is refused.
- A picture goes through the vision tower once per micro-batch, however many rows show it (forget row, refusal, other
  answer); where the tower and the projector are frozen (LoRA on the language model, `--train language_model`) once per
  step: the reference, `--wrap` and the step's other micro-batches take what was made of it. Where the projector alone
  is trained, the reference takes the tower's output. Losses are the same to rounding. Architectures that do not give
  features by picture (Idefics3, SmolVLM) encode every row's.
- LoRA on a base in bfloat16 holds 2 bytes per weight of the base (14 GB) and 16 per weight of the adapter, under every
  method; on a base in 4 bits (QLoRA: `--use_peft --load_in_4bit true`, with `pip install 'remem-unlearning[qlora]'`)
  .56 bytes per weight of the language model's 6.48 billion in linear maps (3.6 GB), and 2 or 4 bytes (`--dtype`) of the
  other .59 billion (vision tower, projector, embeddings, head: 1.2 or 2.3 GB). The adapter itself stays in float32. Such
  an adapter is scored on the base as it is stored, not in 4 bits: `lmms_eval` measures what `remem merge` would give.
- With `--use_peft`, `--l1_lora λ` adds λ · Σ|θ| over the LoRA matrices to any method (CLEAR, arXiv 2410.18057, swept
  .001, .01 and .1; its table says that every method then stays near the starting model).
- `--wrap` keeps the gradients g_f = γ ∇L_forget and g_r = α ∇L_retain of a step apart (over all its micro-batches and
  processes, with and without LoRA) and works with every method that trains on a forget loss. `sam` (NPO+SAM, arXiv
  2502.05374) takes g_f at θ + ρ g_f/‖g_f‖ (`--sam_rho` [0.01]) and adds g_r at θ. `gru` (arXiv 2503.09117) takes
  g_f − min(⟨g_f, g_r⟩, 0)/‖g_r‖² · g_r; that g_r is added to it, and that no moving average of g_r is kept, is our
  reading. `blur` (arXiv 2506.08164) takes g_f + g_r − min(⟨g_f, g_r⟩, 0)/‖g_f‖² · g_f: forgetting goes first; its paper
  was not read in full, so that this form of its idea is ours. All hold both gradients in float32 beside the optimizer's
  (8 bytes more per trained weight, sam 12), and run neither sharded nor in fp16.

How they compare when each is tuned on the same budget: [sweep.md](sweep.md).

Fidelity says what the code follows: the *paper*; the *official code* where that is what published numbers come
from; *our reading* where a paper leaves open what it computes.
"""


def _held(method: type[UnlearnTrainer], peft: bool) -> str:
    args = SimpleNamespace(**{**SHARED, **method.defaults})
    return reference.kind(method.references(args), peft)


def gigabytes(method: type[UnlearnTrainer]) -> int:
    """GB (10⁹ bytes) that full fine-tuning of LLaVA-1.5-7B holds beside activations, under a method's defaults.

    4 bytes per weight, 12 per trained weight (gradient and two moments), 4 per weight of a frozen reference, and what
    the method says that it keeps (`own_bytes`).
    """
    args = SimpleNamespace(**{**SHARED, **method.defaults})
    trained = WEIGHTS * method.trained_share if method.trains else 0.0
    frozen = WEIGHTS if method.needs_model(args) else 0.0
    return round((4 * WEIGHTS + (12 + method.own_bytes) * trained + 4 * frozen) / 1e9)


def entry(method: type[UnlearnTrainer]) -> str:
    """The section of one method."""
    lines = [f"## {method.name}", "", " ".join((method.__doc__ or "").split()), ""]
    lines.append(f"- Source: {method.source}. Fidelity: {method.fidelity}.")
    if method.upstream:
        lines.append(f"- Upstream: {method.upstream}")
    if Role.PLAIN not in method.roles:
        whole, adapted = _held(method, False), _held(method, True)
        lines.append(f"- Reference: {whole}" + ("." if whole == adapted else f"; with LoRA {adapted}."))
    if not method.adapters:
        lines.append("- No `--use_peft`: there is no adapter to train.")
    if method.aliases:
        lines.append(f"- Also called {', '.join(f'`{alias}`' for alias in method.aliases)}.")
    if method.defaults:
        other = ", ".join(f"`--{name} {value}`" for name, value in method.defaults.items())
        lines.append(f"- Other defaults than the shared ones: {other}.")
    if method.rows_from == "pairs" and (swept := method.swept()):
        tried = "; ".join(f"`{name}` {', '.join(map(str, values))}" for name, values in swept.items())
        lines.append(f"- A [sweep](sweep.md) tries beside its learning rates and steps: {tried}.")
    lines += [
        f"- `--{flag}` [{option.default}]: {option.help}."
        + (f" One of {', '.join(option.choices)}." if option.choices else "")
        for flag, option in method.options.items()
    ]
    return "\n".join(lines) + "\n"


def page() -> str:
    """docs/methods.md."""
    rows = [
        "| method | reference (full fine-tuning) | 7B, full | fidelity | source |",
        "|---|---|---|---|---|",
    ]
    for name in NAMES:
        method = METHODS[name]
        held = "none" if Role.PLAIN in method.roles else _held(method, False)
        rows.append(
            f"| [{name}](#{name}) | {held} | {gigabytes(method)} GB | {method.fidelity} | {method.source} |"
        )
    return "\n".join([INTRODUCTION, *rows, "", *(entry(METHODS[name]) for name in NAMES)])
