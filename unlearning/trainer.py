"""UnlearnTrainer: a TRL SFTTrainer whose step is one forward over forget and retain rows together.

A method is a subclass in `methods/` that says which rows it needs and how its forget loss is made:

    L = γ · L_forget + α · L_retain

Every loss is the mean over a micro-batch (over examples for sequence losses, over answer tokens for
token losses). Accumulation steps and processes are then averaged with equal weight, so that two
processes give the gradient of one process with two accumulation steps.
"""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from transformers import TrainerCallback
from transformers.trainer_utils import EvalLoopOutput, TrainOutput
from trl import SFTTrainer

from remem_tasks import checkpoints
from remem_tasks.audit.push import refusal
from remem_tasks.benchmarks.training_rows import TrainingRows
from remem_tasks.checkpoint_files import digest
from remem_tasks.errors import NonFiniteError, RememError, Terminated
from unlearning import evaluation, losses
from unlearning import weights as checkpoint
from unlearning.data import IGNORE, Collator, Encoder, Examples, Pairs, Role, stop_ids
from unlearning.mechanisms import activations, alternatives, reference, vectors


class NotFinite(NonFiniteError):
    """A loss, a gradient or an evaluation that is no finite number: the run has failed, it did not forget."""


@dataclass
class Answers:
    """What the model says of the labels of some rows.

    Attributes:
        log_probs: [B, T], ln p of each label, 0 where there is none.
        mask: [B, T] bool, answer tokens.
        labels: [N], ids of the answer tokens in row order.
        reference_nll: [B], N_ref in nats, NaN where unknown; None without a table.
        logits, reference_logits: [N, V] over the answer tokens; None unless asked for.
        hidden, reference_hidden: [N, d], a layer's output at the answer tokens; None unless asked for.
    """

    log_probs: torch.Tensor
    mask: torch.Tensor
    labels: torch.Tensor
    reference_nll: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    reference_logits: torch.Tensor | None = None
    hidden: torch.Tensor | None = None
    reference_hidden: torch.Tensor | None = None

    @property
    def token_nll(self) -> torch.Tensor:
        """Mean over answer tokens, a scalar."""
        return losses.token_nll(self.log_probs, self.mask)

    @property
    def sequence_nll(self) -> torch.Tensor:
        """Sum over each answer, [B]."""
        return losses.sequence_nll(self.log_probs, self.mask)

    @property
    def tokens(self) -> torch.Tensor:
        """Number of tokens of each answer, [B]."""
        return self.mask.sum(dim=1)

    @property
    def position(self) -> torch.Tensor:
        """Place of each answer token in its answer, from 0, [N]."""
        return (self.mask.cumsum(dim=1) - 1)[self.mask]

    def every(self, kinds: int) -> torch.Tensor:
        """Σ of the token NLLs of `kinds` groups, where the rows of a pair stand together, one of each group."""
        at = torch.arange(len(self.mask), device=self.mask.device) % kinds
        return torch.stack([self.of(at == kind).token_nll for kind in range(kinds)]).sum()

    def of(self, rows: torch.Tensor) -> Answers | None:
        """Some of the rows, chosen by a boolean mask [B]; None if there are none."""
        if not rows.any():
            return None
        tokens = rows[:, None].expand_as(self.mask)[self.mask]

        by_row = ("log_probs", "mask", "reference_nll")
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return Answers(
            **{
                name: None if value is None else value[rows if name in by_row else tokens]
                for name, value in values.items()
            }
        )


@dataclass
class Batch:
    """The answers of a fused batch by role; None where the batch has no such row."""

    plain: Answers | None
    forget: Answers | None
    retain: Answers | None
    idk: Answers | None
    alt: Answers | None = None
    other: Answers | None = None


@dataclass(frozen=True)
class Option:
    """A method's own flag: its default, its help text, and what it may be if that is a closed list."""

    default: float | int | str | bool
    help: str
    choices: tuple[str, ...] = ()


# By name: L_retain of the retain rows, and what of the model before unlearning it needs.
RETAIN_LOSSES: dict[str, tuple[Callable[[Answers], torch.Tensor], str | None]] = {
    "nll": (lambda rows: rows.token_nll, None),
    "kl": (lambda rows: losses.kl_to_reference(rows.reference_logits, rows.logits), "logits"),
    "nll+kl": (
        lambda rows: rows.token_nll + losses.kl_to_reference(rows.reference_logits, rows.logits),
        "logits",
    ),
    "js": (lambda rows: losses.js_to_reference(rows.reference_logits, rows.logits), "logits"),
    "hidden": (lambda rows: F.mse_loss(rows.hidden, rows.reference_hidden), "hidden"),
}


class _Hooks(TrainerCallback):
    """What the trainer does at points of the loop that have no method of their own."""

    def __init__(self, trainer: UnlearnTrainer):
        self.trainer = trainer

    def on_step_end(self, args, state, control, **kwargs):
        self.trainer.after_step()

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        trainer = self.trainer
        if trainer.is_world_process_zero() and (points := evaluation.trajectory(state.log_history)):
            evaluation.write(args.output_dir, points)
        for rule in args.stop_rules:
            found = (metrics or {}).get(f"eval_{rule.figure}")
            if found is not None and rule.reached(found):
                trainer.stopped = f"--stop_on: {rule} at step {state.global_step} ({found:.4g})"
                control.should_training_stop = True


class UnlearnTrainer(SFTTrainer):
    """The part that all methods share; a subclass declares the rest.

    Class attributes of a method:
        name, aliases: what `--method` takes.
        stage: 1 if it starts from a model that knows nobody yet; 2: from one that has memorised.
        rows_from: `pairs`, `finetune` or `retain`, see `data.load_rows`.
        roles: examples of one pair (or the one role of plain rows); the retain row is left out when α is 0.
        reference: what the forget loss needs of the model before unlearning: `nll` (N of whole answers,
            computed once), `logits`, `hidden` (a frozen reference model runs beside), or None.
        logits: whether the forget loss needs the logits at the answer tokens.
        trains: False for a method that edits the weights once, in `finish`.
        adapters: False for a method that cannot run with `--use_peft`.
        options: flags of its own, each with its default.
        defaults: other defaults than the shared ones, by name of a config field.
        grid: values that a sweep tries beside learning rates and steps, by name of a config field; None:
            α and ten times α, for a method whose α is above 0 (see `sweep`).
        source, fidelity, upstream: for the documentation: the paper; what the code follows (paper,
            official code, our reading); where released code departs.

    Args:
        model: an `AutoModelForImageTextToText`, in memory.
        args: an `unlearning.config.UnlearnConfig`.
        rows: the tables, from `data.load_rows`.
        processing_class: the checkpoint's processor.
        encoder: one that has encoded some of the rows before; None makes one.
        reference_model: the model before unlearning, for `logits` and `hidden` without an adapter.
        load_start: gives a fresh copy of the model before unlearning, for methods that end with
            arithmetic on the weights.

    Attributes:
        notes: what a method found out about its run, for the record.
        stopped: the rule that ended the run, in words; None if none did.
    """

    name: ClassVar[str] = ""
    aliases: ClassVar[Sequence[str]] = ()
    stage: ClassVar[int] = 2
    rows_from: ClassVar[str] = "pairs"
    roles: ClassVar[Sequence[Role]] = (Role.FORGET, Role.RETAIN)
    reference: ClassVar[str | None] = None
    logits: ClassVar[bool] = False
    trains: ClassVar[bool] = True
    adapters: ClassVar[bool] = True
    options: ClassVar[Mapping[str, Option]] = {}
    defaults: ClassVar[Mapping[str, Any]] = {}
    grid: ClassVar[Mapping[str, Sequence[Any]] | None] = None
    source: ClassVar[str] = ""
    fidelity: ClassVar[str] = "paper"
    upstream: ClassVar[str] = ""

    _tag_names = ("remem", "unlearning")
    # Losses are micro-batch means, so the loop has to divide them by the accumulation steps.
    loss_is_scaled_for_ga = False

    def __init__(
        self,
        model,
        args,
        rows: TrainingRows,
        processing_class,
        *,
        eval_rows=None,
        reference_model=None,
        load_start: Callable[[], Any] | None = None,
        encoder: Encoder | None = None,
        **kwargs,
    ):
        tokenizer = processing_class.tokenizer
        self.encoder = encoder or Encoder(processing_class, stop_ids(model), args.picture_cache_mb)
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        self.rows = rows
        self.start = digest(model)
        self.resumed_from: dict[str, Any] | None = None
        super().__init__(
            model=model,
            args=args,
            train_dataset=rows.train,
            eval_dataset=eval_rows,
            data_collator=Collator(pad),
            processing_class=processing_class,
            **kwargs,
        )
        # TRL wants tables at construction; from here on the examples are ours.
        self.train_dataset = self.examples(rows)
        self.eval_dataset = {
            name: Examples(table, Role.PLAIN, self.encoder) for name, table in (eval_rows or {}).items()
        } or None
        self.reference_model = reference_model
        self.load_start = load_start
        self.notes: dict[str, Any] = {}
        self.stopped: str | None = None
        self.layer: int | None = None
        self.add_callback(_Hooks(self))
        if args.l1_lora and not self.lora_weights:
            raise RememError("--l1_lora is a term over LoRA matrices: it needs --use_peft")
        if type(self).finish is not UnlearnTrainer.finish:
            vectors.check_editable(self)
        self.restrict()

    @classmethod
    def references(cls, args) -> set[str]:
        """What a run needs of the model before unlearning: `nll`, `logits`, `hidden`."""
        retains = Role.RETAIN in cls.roles and args.alpha != 0
        return {cls.reference, RETAIN_LOSSES[args.retain_loss][1] if retains else None} - {None}

    @classmethod
    def needs_model(cls, args) -> bool:
        """Whether the model before unlearning runs beside the trained one."""
        return bool(cls.references(args) & {"logits", "hidden"})

    @classmethod
    def swept(cls) -> dict[str, tuple[Any, ...]]:
        """The method's own dimensions of a sweep: values by name of a config field, the default first."""
        if cls.grid is not None:
            return {name: tuple(values) for name, values in cls.grid.items()}
        alpha = cls.defaults.get("alpha", 1.0)
        return {"alpha": (alpha, 10 * alpha)} if Role.RETAIN in cls.roles and alpha > 0 else {}

    @property
    def lora_weights(self) -> list[torch.nn.Parameter]:
        """The trainable LoRA matrices."""
        named = self.model.named_parameters()
        return [value for name, value in named if value.requires_grad and "lora_" in name]

    # What a method may add, each empty here

    def restrict(self) -> None:
        """Before the optimizer is made: freeze what the method leaves alone."""

    def prepare(self) -> None:
        """Before the first step, on the model before unlearning."""

    def weights(self) -> tuple[float, float]:
        """γ and α of the present step."""
        return self.args.gamma, self.args.alpha

    def after_step(self) -> None:
        """After each optimizer step."""

    def finish(self) -> None:
        """After the last step, before the model is saved."""

    def method_state(self) -> dict[str, Any]:
        """What a checkpoint must hold besides weights and optimizer, as JSON; see `load_method_state`."""
        return {}

    def load_method_state(self, state: dict[str, Any]) -> None:
        """Takes up what `method_state` gave."""

    # Data

    def examples(self, rows: TrainingRows) -> Examples | Pairs:
        """What an index of the training sampler gives."""
        if rows.forget is None:
            return Examples(rows.train, self.roles[0], self.encoder)
        roles = [role for role in self.roles if role != Role.RETAIN or self.args.alpha != 0]
        return Pairs(rows.forget, rows.retain, roles, self.encoder)

    def _get_train_sampler(self, train_dataset=None):
        dataset = train_dataset if train_dataset is not None else self.train_dataset
        seed = self.args.data_seed if self.args.data_seed is not None else self.args.seed
        return dataset.sampler(seed)

    def _set_signature_columns_if_needed(self):
        # Examples are no dicts of columns; nothing may be dropped from them.
        self._signature_columns = []

    # Losses

    def forget_loss(self, batch: Batch) -> torch.Tensor:
        """L_forget of a batch, a scalar."""
        raise TypeError(f"the method '{self.name}' defines no forget loss")

    def retain_loss(self, batch: Batch) -> torch.Tensor:
        """L_retain of a batch by `--retain_loss`, a scalar."""
        return RETAIN_LOSSES[self.args.retain_loss][0](batch.retain)

    def answers(
        self,
        model,
        inputs: Mapping[str, torch.Tensor],
        logits: bool = False,
        layer: int | None = None,
    ) -> Answers:
        """One forward: log-probabilities of the labels; on demand the logits behind them and a layer's output.

        On an accelerator TRL's fused head scores the answer positions without keeping logits. On a
        CPU that head scores all positions, so logits are made at the answer positions only.

        Args:
            layer: index of the decoder layer whose output at the answer tokens is kept.
        """
        inputs = {key: value for key, value in inputs.items() if key not in ("roles", "reference_nll")}
        answered = inputs["labels"] != IGNORE
        labels = inputs["labels"][:, 1:]
        with activations.captured(model, layer) as seen:
            if not logits and labels.device.type != "cpu":
                found = model(**inputs, fused_lm_head=True).log_probs
                mask, scores = labels != IGNORE, None
            else:
                del inputs["labels"]
                positions = (labels != IGNORE).any(dim=0).nonzero().squeeze(1)
                labels = labels[:, positions]
                mask = labels != IGNORE
                scores = model(**inputs, logits_to_keep=positions, use_cache=False).logits[mask].float()
                values = -F.cross_entropy(scores, labels[mask], reduction="none")
                found = values.new_zeros(mask.shape).masked_scatter(mask, values)
        hidden = None if layer is None else seen[0][answered].float()
        return Answers(found, mask, labels[mask], logits=scores if logits else None, hidden=hidden)

    def batch(self, model, inputs: Mapping[str, torch.Tensor]) -> Batch:
        """The fused batch through the model, and through the reference where the loss needs it."""
        needed = self.references(self.args)
        wanted = {
            "logits": self.logits or "logits" in needed,
            "layer": self.layer if "hidden" in needed else None,
        }
        answers = self.answers(model, inputs, **wanted)
        answers = replace(answers, reference_nll=inputs.get("reference_nll"))
        if self.needs_model(self.args):
            before = reference.answers(self, inputs, **wanted)
            answers = replace(answers, reference_logits=before.logits, reference_hidden=before.hidden)
        roles = inputs["roles"]
        return Batch(*(answers.of(roles == int(role)) for role in Role))

    def losses_of(self, batch: Batch) -> dict[str, torch.Tensor]:
        """`loss`, and the figures that are logged beside it (scalars; NLL in nats a token)."""
        if batch.plain is not None:
            return {"loss": batch.plain.token_nll}
        figures = {}
        total = 0.0
        gamma, alpha = self.weights()
        if any(rows is not None for rows in (batch.forget, batch.idk, batch.alt, batch.other)):
            figures["forget_loss"] = self.forget_loss(batch)
            total = gamma * figures["forget_loss"]
        if batch.retain is not None:
            figures["retain_loss"] = self.retain_loss(batch)
            total = total + alpha * figures["retain_loss"]
        for role in ("forget", "retain", "idk", "alt", "other"):
            rows = getattr(batch, role)
            if rows is not None:
                figures[f"{role}_nll"] = rows.token_nll
        return {"loss": total, **figures}

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        if not self.model.training:
            # Evaluation sets are plain rows under every method: their loss is the mean NLL of an answer token.
            answers = self.answers(model, inputs)
            return (
                (answers.token_nll, {"log_probs": answers.log_probs}) if return_outputs else answers.token_nll
            )
        figures = self.losses_of(self.batch(model, inputs))
        loss = figures.pop("loss")
        if self.args.l1_lora:
            figures["l1_lora"] = losses.l1(self.lora_weights)
            loss = loss + self.args.l1_lora * figures["l1_lora"]
        for name, value in figures.items():
            self._metrics["train"][name].append(value.detach())
        self._check_finite(loss.detach(), "loss", figures)
        return (loss, figures) if return_outputs else loss

    def _check_finite(
        self, value: torch.Tensor | float, what: str, figures: Mapping[str, torch.Tensor]
    ) -> None:
        if math.isfinite(float(value)):
            return
        shown = ", ".join(f"{name} {float(figure.detach()):.4g}" for name, figure in figures.items())
        raise NotFinite(
            f"step {self.state.global_step + 1}: the {what} is {float(value)}{f' ({shown})' if shown else ''}; "
            "nothing was saved after the last checkpoint. Try a lower --learning_rate"
        )

    def _get_grad_norm(self, model, grad_norm=None):
        # Checked before the optimizer moves: a checkpoint never holds weights that are not finite. The
        # gradient is averaged by now, so all processes stop at the same step.
        grad_norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        # (In fp16 the loss scaler itself meets infinite gradients, and skips the step.)
        if grad_norm is not None and not self.args.fp16:
            self._check_finite(grad_norm, "gradient norm", {})
        return grad_norm

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Means since the last log, over all processes (kept as tensors until now: no sync in a step)."""
        kept = self._metrics["train" if self.model.training else "eval"]
        for name, values in kept.items():
            mean = torch.stack([torch.as_tensor(value, dtype=torch.float32) for value in values]).mean()
            if self.accelerator.num_processes > 1:
                mean = self.accelerator.reduce(mean.to(self.accelerator.device), reduction="mean")
            kept[name] = [mean.item()]
        super().log(logs, start_time)

    # Evaluation

    def evaluation_loop(
        self, dataloader, description, prediction_loss_only=None, ignore_keys=None, metric_key_prefix="eval"
    ):
        """`<prefix>_loss` and `<prefix>_nll`, the mean NLL of an answer token, and `<prefix>_em` of greedy replies.

        Sharded models (FSDP, DeepSpeed) do not generate here: their `em` is left out.
        """
        examples = dataloader.dataset
        if not isinstance(examples, Examples):
            return super().evaluation_loop(
                dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix
            )
        was_training = self.model.training
        self.model.eval()
        replies = self.args.eval_em and not (self.is_fsdp_enabled or self.is_deepspeed_enabled)
        found = evaluation.figures(self, examples, replies)
        self.model.train(was_training)
        metrics = {
            f"{metric_key_prefix}_{name}": value for name, value in {"loss": found["nll"], **found}.items()
        }
        return EvalLoopOutput(predictions=None, label_ids=None, metrics=metrics, num_samples=len(examples))

    # Optimizer

    def create_optimizer(self, model=None):
        """As the base class; `--vision_lr` moves the vision tower into groups with that learning rate."""
        if self.optimizer is not None:
            return self.optimizer
        optimizer = super().create_optimizer(model)
        rate = self.args.vision_lr
        if rate is None:
            return optimizer
        tower = {id(p) for n, p in self.model.named_parameters() if checkpoint.part_of(n) == "vision_tower"}
        moved = 0
        for group in list(optimizer.param_groups):
            inside = [p for p in group["params"] if id(p) in tower]
            group["params"] = [p for p in group["params"] if id(p) not in tower]
            if inside:
                moved += len(inside)
                optimizer.add_param_group({**group, "params": inside, "lr": rate})
        if not moved:
            raise RememError("--vision_lr is given, but no parameter of the vision tower is trained")
        return optimizer

    # The Hub

    def init_hf_repo(self, *args, **kwargs):
        try:
            super().init_hf_repo(*args, **kwargs)
        except (HfHubHTTPError, HFValidationError, OSError) as error:
            name = self.args.hub_model_id or Path(self.args.output_dir).name
            raise RememError(f"--push_to_hub: {refusal(error, name)}") from error

    def push_to_hub(self, *args, **kwargs):
        try:
            return super().push_to_hub(*args, **kwargs)
        except (HfHubHTTPError, HFValidationError, OSError) as error:
            raise RememError(
                f"--push_to_hub: {refusal(error, self.hub_model_id)}; the model is in '{self.args.output_dir}'"
            ) from error

    # Checkpoints

    def set_up(self) -> None:
        """What is made once from the model before unlearning: other answers, N_ref, a method's own."""
        if Role.ALT in self.roles:
            self.train_dataset.alternatives = alternatives.of(self)
        if "nll" in self.references(self.args):
            self.data_collator.reference_nll = reference.table(self)
        self.prepare()
        for name, note in self.notes.items():
            self.accelerator.print(f"{name}: {note}")

    def train(self, resume_from_checkpoint=None, **kwargs):
        """As the base class; what is made from the model before unlearning is made first."""
        self.set_up()
        if not self.trains:
            return TrainOutput(0, 0.0, {})
        if resume_from_checkpoint is True:
            # A run that was killed before its first checkpoint starts again.
            resume_from_checkpoint = checkpoint.last_checkpoint(
                self.args.output_dir, self.accelerator.num_processes
            )
        if resume_from_checkpoint:
            lost = []
            if not (self.is_deepspeed_enabled or self.is_fsdp_enabled):
                lost = checkpoint.check_resumable(
                    resume_from_checkpoint,
                    self.accelerator.num_processes,
                    bool(self.method_state()),
                    self.args.resume_without_state,
                )
            self.resumed_from = {"checkpoint": str(resume_from_checkpoint), "lost": lost}
        try:
            return super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)
        except KeyboardInterrupt as error:
            if self.is_world_process_zero():
                why = "terminated" if isinstance(error, Terminated) else "interrupted"
                checkpoint.mark_interrupted(self.args.output_dir, why)
            raise

    def _save_optimizer_and_scheduler(self, output_dir):
        super()._save_optimizer_and_scheduler(output_dir)
        if self.is_world_process_zero() and (state := self.method_state()):
            (Path(output_dir) / "method_state.json").write_text(json.dumps(state) + "\n")

    def _load_optimizer_and_scheduler(self, checkpoint):
        try:
            super()._load_optimizer_and_scheduler(checkpoint)
        except (
            RuntimeError,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            pickle.UnpicklingError,
        ) as error:
            raise RememError(
                f"optimizer or scheduler of '{checkpoint}' cannot be loaded: {checkpoints.reason(error)}"
            ) from error
        if checkpoint and (path := Path(checkpoint) / "method_state.json").is_file():
            self.load_method_state(json.loads(path.read_text()))

    def _load_rng_state(self, checkpoint):
        try:
            super()._load_rng_state(checkpoint)
        except (
            RuntimeError,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            pickle.UnpicklingError,
        ) as error:
            raise RememError(
                f"the state of random numbers of '{checkpoint}' cannot be loaded: {checkpoints.reason(error)}"
            ) from error

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        """Weights of a checkpoint, strictly.

        The base class loads the saved names with strict=False, but LLaVA and Qwen2.5-VL are saved under
        other names than they have in memory: it would keep the initial weights and only warn.
        """
        model = self.model if model is None else model
        if checkpoint.is_plain_model(self, model):
            checkpoint.load_weights(model, resume_from_checkpoint)
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self):
        if checkpoint.is_plain_model(self, self.model):
            checkpoint.load_weights(self.model, self.state.best_model_checkpoint)
        else:
            super()._load_best_model()

    def create_model_card(self, *args, **kwargs):
        """Nothing: a finished run has a card of its own (`card`)."""

    def _send_telemetry(self):
        """Nothing is sent."""
