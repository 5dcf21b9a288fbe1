"""UnlearnTrainer: a TRL SFTTrainer whose step is one forward over forget and retain rows together.

A method is a subclass in `methods/` that says which rows it needs and how its forget loss is made:

    L = γ · L_forget + α · L_retain

Every loss is a mean over an optimizer step: over the examples of all its micro-batches and processes for
sequence losses, over their answer tokens for token losses. How a step is cut into micro-batches and
processes changes nothing (see `forward.counts`).
"""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, EvalLoopOutput, TrainOutput, rotate_checkpoints
from trl import SFTTrainer

from remem_tasks import checkpoints, checksums
from remem_tasks.audit.push import refusal
from remem_tasks.benchmarks.training_rows import TrainingRows
from remem_tasks.checkpoint_files import some
from remem_tasks.errors import NonFiniteError, RememError
from remem_tasks.files import write_whole
from remem_tasks.reading import read_object
from unlearning import evaluation, forward, losses, qlora, sharding
from unlearning import weights as checkpoint
from unlearning.data import Collator, Encoder, Examples, Pairs, Role, stop_ids
from unlearning.forward import Answers, Batch, Forward
from unlearning.mechanisms import alternatives, gradients, pictures, reference, vectors
from unlearning.mechanisms.reference import Entry

LARGEST = 1e6
"""A trained weight beyond it is one that a run flung away: those of released models are below a thousand."""


class NotFinite(NonFiniteError):
    """A loss, a gradient or an evaluation that is not a finite number: the run has failed, it did not forget."""


@dataclass(frozen=True)
class Option:
    """A method's own flag: its default, its help text, and what it may be if that is a closed list."""

    default: float | int | str | bool
    help: str
    choices: tuple[str, ...] = ()


def _kl(rows: Answers) -> torch.Tensor:
    return losses.kl_to_reference(rows.reference_logits, rows.logits, rows.token_count)


# By name: L_retain of the retain rows, and what of the model before unlearning it needs.
RETAIN_LOSSES: dict[str, tuple[Callable[[Answers], torch.Tensor], str | None]] = {
    "nll": (lambda rows: rows.token_nll, None),
    "kl": (lambda rows: _kl(rows), "logits"),
    "nll+kl": (lambda rows: rows.token_nll + _kl(rows), "logits"),
    "js": (
        lambda rows: losses.js_to_reference(rows.reference_logits, rows.logits, rows.token_count),
        "logits",
    ),
    "hidden": (
        lambda rows: losses.hidden_distance(rows.hidden, rows.reference_hidden, rows.token_count),
        "hidden",
    ),
}


class _Hooks(TrainerCallback):
    """What the trainer does at points of the loop that have no method of their own."""

    def __init__(self, trainer: UnlearnTrainer):
        self.trainer = trainer

    def on_step_end(self, args, state, control, **kwargs):
        self.trainer.seen.clear()
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
        trained_share: of the weights of a model of 7 billion, what full fine-tuning moves, for the table of memory.
        own_bytes: what the method keeps per trained weight beside the optimizer, at most, for the same table.
        trains: False for a method that edits the weights once, in `finish`.
        adapters: False for a method that cannot run with `--use_peft`.
        whole: True for a method that reads or edits whole weights: neither FSDP nor DeepSpeed.
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
        identity: of the run, as its record has it; kept in checkpoints, which no other run goes on from.
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
    trained_share: ClassVar[float] = 1.0
    own_bytes: ClassVar[int] = 0
    trains: ClassVar[bool] = True
    adapters: ClassVar[bool] = True
    whole: ClassVar[bool] = False
    options: ClassVar[Mapping[str, Option]] = {}
    defaults: ClassVar[Mapping[str, Any]] = {}
    grid: ClassVar[Mapping[str, Sequence[Any]] | None] = None
    source: ClassVar[str] = ""
    fidelity: ClassVar[str] = "paper"
    upstream: ClassVar[str] = ""

    _tag_names = ("remem", "unlearning")
    # The losses of a step's micro-batches are averaged by the loop.
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
        self.start = sharding.digest(model)
        self.resumed_from: dict[str, Any] | None = None
        self.identity: dict[str, Any] | None = None
        super().__init__(
            model=model,
            args=args,
            train_dataset=rows.train,
            eval_dataset=eval_rows,
            data_collator=Collator(pad),
            processing_class=processing_class,
            **kwargs,
        )
        if getattr(self.model, "is_loaded_in_4bit", False):
            qlora.adapter_in_single_precision(self.model)
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
        self._losses: list[dict[str, torch.Tensor]] = []  # of the micro-batches since the last step
        self.seen = pictures.Seen()
        self.add_callback(_Hooks(self))
        if args.l1_lora and not self.lora_weights:
            raise RememError("--l1_lora is a term over LoRA matrices: it needs --use_peft")
        if type(self).finish is not UnlearnTrainer.finish:
            vectors.check_editable(self.name, self.model, self.sharded, load_start is not None)
        if self.sharded:
            self.check_sharded()
        self.two_gradients: gradients.TwoGradients | None = None
        if args.wrap != "none":
            gradients.check(args.wrap, self)
            self.two_gradients = gradients.TwoGradients(self, args.wrap)
        self.restrict()

    @classmethod
    def references(cls, args) -> set[str]:
        """What a run needs of the model before unlearning: `nll`, `logits`, `hidden`."""
        retains = cls.weighs_retain(args.alpha)
        return {cls.reference, RETAIN_LOSSES[args.retain_loss][1] if retains else None} - {None}

    @classmethod
    def weighs_retain(cls, alpha: float) -> bool:
        """Whether retain rows stand beside the forget rows at this α."""
        return Role.RETAIN in cls.roles and cls.rows_from == "pairs" and alpha != 0

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

    @property
    def sharded(self) -> bool:
        """Whether weights are spread over processes (FSDP, DeepSpeed)."""
        return self.is_fsdp_enabled or self.is_deepspeed_enabled

    @property
    def forward(self) -> Forward:
        """A forward of examples through the model as it is now."""
        return Forward(
            self.model, self.data_collator, self._prepare_inputs, self.compute_loss_context_manager
        )

    def check_sharded(self) -> None:
        """Raise a RememError if the run asks for what weights spread over processes do not give."""
        args = self.args
        if self.whole:
            raise RememError(f"{self.name} needs whole weights: neither FSDP nor DeepSpeed")
        if getattr(self.model, "is_loaded_in_4bit", False):
            raise RememError("--load_in_4bit: a base in 4 bits is not sharded")
        if any(rule.figure == "forget_em" for rule in args.stop_rules):
            raise RememError("--stop_on forget_em: a sharded model gives no replies; use forget_nll")
        if Role.ALT in self.roles and not alternatives.given(args.alternatives, self.rows):
            raise RememError(
                f"{self.name}: a sharded model invents no other answers; give them beside the rows (config 'perturbed')"
            )

    # What a method may add, each empty here

    @property
    def skip(self) -> int:
        """Tokens at the beginning of each forget answer that the forget loss leaves out."""
        return 0

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
        return Pairs(
            rows.forget, rows.retain, roles, self.encoder, self.args.retain_per_forget, self.turns(roles)
        )

    def turns(self, roles: Sequence[Role]) -> Sequence[Sequence[Role]]:
        """The roles of the examples of one epoch and the next, in turn."""
        return (roles,)

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

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """As the base class; each micro-batch is told the counts of its whole step (see `forward.counts`)."""
        samples, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        if samples:
            parts = [
                part for inputs in samples for part in (inputs.values() if self.two_gradients else [inputs])
            ]
            found = sum(forward.counts(inputs, self.skip).to(device) for inputs in parts)
            if self.accelerator.num_processes > 1:
                found = self.accelerator.reduce(found, reduction="sum")
            found = found / (len(samples) * self.accelerator.num_processes)
            for inputs in parts:
                inputs["counts"] = found
        return samples, items

    def get_train_dataloader(self):
        if self.two_gradients is None:
            return super().get_train_dataloader()
        whole, self.data_collator = self.data_collator, gradients.SplitCollator(self.data_collator)
        try:
            return super().get_train_dataloader()
        finally:
            self.data_collator = whole

    def floating_point_ops(self, inputs):
        parts = inputs.values() if self.two_gradients else [inputs]
        return sum(super(UnlearnTrainer, self).floating_point_ops(part) for part in parts)

    def training_step(self, model, inputs, num_items_in_batch=None):
        if self.two_gradients is None:
            return super().training_step(model, inputs, num_items_in_batch=num_items_in_batch)
        return self.two_gradients.micro_step(inputs)

    @cached_property
    def sees_with(self) -> frozenset[str]:
        """Which parts of what makes a picture's features are trained."""
        return pictures.trained_parts(self.model)

    def batch(self, model, inputs: Mapping[str, torch.Tensor]) -> Batch:
        """The fused batch through the model, and through the reference where the loss needs it."""
        needed = self.references(self.args)
        wanted = {
            "logits": self.logits or "logits" in needed,
            "layer": self.layer if "hidden" in needed else None,
        }
        # The fused head scores all positions on a CPU, and reads its weight past the hooks that put it together.
        fused = inputs["labels"].device.type != "cpu" and not self.sharded
        ids = inputs.get(pictures.IDS)
        if self.sharded:  # all processes gather the tower as often
            self.seen.clear()
        with pictures.shared(model, ids, self.seen, self.sees_with):
            answers = forward.answers(model, inputs, **wanted, fused=fused)
        answers = replace(answers, reference_nll=inputs.get("reference_nll"))
        if self.needs_model(self.args):
            unwrapped = self.accelerator.unwrap_model(model)
            with pictures.shared(self.reference_model or unwrapped, ids, self.seen, self.sees_with):
                before = reference.answers(unwrapped, self.reference_model, inputs, **wanted)
            answers = replace(answers, reference_logits=before.logits, reference_hidden=before.hidden)
        return Batch.of(answers, inputs)

    def losses_of(self, batch: Batch) -> dict[str, torch.Tensor]:
        """`loss`, and the figures that are logged beside it (scalars; NLL in nats per token)."""
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
            answers = forward.answers(model, inputs)
            return (
                (answers.token_nll, {"log_probs": answers.log_probs}) if return_outputs else answers.token_nll
            )
        loss, figures = self.loss_of(model, inputs)
        if self.args.l1_lora:
            figures["l1_lora"] = sharding.whole(losses.l1(self.lora_weights))
            self._metrics["train"]["l1_lora"].append(figures["l1_lora"].detach())
            loss = loss + self.args.l1_lora * figures["l1_lora"]
        return (loss, figures) if return_outputs else loss

    def loss_of(
        self, model, inputs: Mapping[str, torch.Tensor], log: bool = True
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """γ · L_forget + α · L_retain of the rows of a batch, a scalar, and the figures beside it.

        Args:
            log: whether its figures are logged, and checked before the optimizer moves.
        """
        figures = self.losses_of(self.batch(model, inputs))
        loss = figures.pop("loss")
        if log:
            for name, value in figures.items():
                self._metrics["train"][name].append(value.detach())
            self._losses.append(
                {"loss": loss.detach(), **{name: value.detach() for name, value in figures.items()}}
            )
        return loss, figures

    def l1_gradient(self) -> list[torch.Tensor] | None:
        """The gradient of `--l1_lora`'s term by trained parameter; None without one."""
        if not self.args.l1_lora:
            return None
        figure = losses.l1(self.lora_weights)
        self._metrics["train"]["l1_lora"].append(figure.detach())
        trained = [value for value in self.model.parameters() if value.requires_grad]
        found = torch.autograd.grad(self.args.l1_lora * figure, trained, allow_unused=True)
        return [torch.zeros_like(value) if g is None else g for value, g in zip(trained, found)]

    def check_losses(self) -> None:
        """Raise a NotFinite if a loss of the step is none: asked once a step, since asking waits for the device."""
        kept, self._losses = self._losses, []
        if self.args.fp16 or not kept:
            return
        finite = torch.isfinite(torch.stack([figures["loss"] for figures in kept])).tolist()
        if not all(finite):
            self._not_finite("loss", **kept[finite.index(False)])

    def check_weights(self) -> None:
        """Raise a NotFinite if a trained weight is none after the last step, of which no loss can tell any more."""
        if self.sharded:
            return
        broken = [
            name
            for name, value in self.model.named_parameters()
            if value.numel()
            and not float(value.detach().abs().max()) <= (LARGEST if value.requires_grad else math.inf)
        ]
        if broken:
            raise NotFinite(
                f"after step {self.state.global_step} weights are NaN, infinite or beyond {LARGEST:g} ({some(broken)}); nothing "
                "was saved after the last checkpoint. Try a lower --learning_rate"
            )

    def _not_finite(self, what: str, loss: torch.Tensor | float, **figures: torch.Tensor) -> None:
        shown = ", ".join(f"{name} {float(figure):.4g}" for name, figure in figures.items())
        raise NotFinite(
            f"step {self.state.global_step + 1}: the {what} is {float(loss)}{f' ({shown})' if shown else ''}; "
            "nothing was saved after the last checkpoint. Try a lower --learning_rate"
        )

    def _get_grad_norm(self, model, grad_norm=None):
        # Checked before the optimizer moves: a checkpoint never holds weights that are not finite. The
        # gradient is averaged by now, so all processes stop at the same step.
        self.check_losses()
        grad_norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        # (In fp16 the loss scaler itself meets infinite gradients, and skips the step.)
        if grad_norm is not None and not self.args.fp16 and not math.isfinite(float(grad_norm)):
            self._not_finite("gradient norm", grad_norm)
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
        replies = self.args.eval_em and not self.sharded
        found = evaluation.figures(
            self.forward, examples, self.accelerator, self.args.per_device_eval_batch_size, replies
        )
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
        try:
            optimizer = super().create_optimizer(model)
        except (ImportError, ValueError, TypeError, KeyError, NotImplementedError) as error:
            name = getattr(self.args.optim, "value", self.args.optim)
            raise RememError(f"--optim {name}: {checkpoints.reason(error)}") from error
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
        if self.reference_model is not None:
            self.reference_model = sharding.placed(self.reference_model, self.accelerator)
        if Role.ALT in self.roles:
            self.train_dataset.alternatives, self.notes["alternatives"] = self.other_answers()
        if "nll" in self.references(self.args):
            self.data_collator.reference_nll = self.reference_table()
        self.prepare()
        for name, note in self.notes.items():
            self.accelerator.print(f"{name}: {note}")

    def other_answers(self) -> tuple[dict[str, list[str]], str]:
        """Other answers by row id, and where they come from in words."""
        args = self.args
        if given := alternatives.given(args.alternatives, self.rows):
            return given, "wrong answers beside the rows (config 'perturbed')"
        made_from = {"data": self.rows.fingerprint(), "weights": self.start, "seed": args.seed}
        with reference.kept(Path(args.output_dir) / alternatives.FILE, made_from, "answers") as file:
            if file.value is None:
                model = self.accelerator.unwrap_model(self.model)
                asked = (args.alternatives_each, args.alternatives_tokens, args.seed)
                file.value = {
                    row["row_id"]: alternatives.invented(model, self.encoder, row, *asked)
                    for row in self.rows.forget
                }
        return file.value, "invented by the model before unlearning"

    def compared(self) -> dict[str, Entry]:
        """The answers that the run compares with the model before unlearning, see `reference.compared`."""
        args, pairs = self.args, self.train_dataset
        epochs = math.ceil(args.num_train_epochs)
        if args.max_steps > 0:
            together = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
            epochs = math.ceil(args.max_steps * together / len(pairs)) + 1
        return reference.compared(pairs, self._get_train_sampler(), epochs)

    def reference_table(self) -> dict[str, float]:
        """N_ref in nats by `Example.key`, of every answer that the run compares."""
        args, entries = self.args, self.compared()
        made_from = {
            "data": self.rows.fingerprint(),
            "weights": self.start,
            "answers": reference.digest(entries),
        }
        with reference.kept(Path(args.output_dir) / reference.FILE, made_from, "nll") as file:
            if file.value is None:
                if self.is_deepspeed_enabled and self.resumed_from:
                    raise RememError(
                        f"'{args.output_dir}' has lost its {reference.FILE}, which DeepSpeed cannot make again once it has "
                        "loaded a checkpoint; start anew"
                    )
                size = args.per_device_eval_batch_size
                file.value = reference.sequence_nll(self.forward, self.train_dataset, entries, size)
        return file.value

    def create_accelerator_and_postprocess(self):
        sharding.allow_on_cpu()
        super().create_accelerator_and_postprocess()

    def _prepare_for_training(self, max_steps, train_dataloader, resume_from_checkpoint):
        """As the base class; a sharded model is set up when it is placed, before a checkpoint is loaded into it."""
        fsdp = self.is_fsdp_enabled
        if fsdp:
            sharding.choose_layers(self.model, self.accelerator)
        resumed = None if fsdp else resume_from_checkpoint
        prepared = super()._prepare_for_training(max_steps, train_dataloader, resumed)
        if self.sharded:
            self.set_up()
        if fsdp:
            sharding.reshard(self.model)
            if resume_from_checkpoint is not None:
                self._load_from_checkpoint(resume_from_checkpoint, self.model_wrapped)
                self._load_optimizer_and_scheduler(resume_from_checkpoint)
                self._load_scaler(resume_from_checkpoint)
        return prepared

    def train(self, resume_from_checkpoint=None, **kwargs):
        """As the base class; what is made from the model before unlearning is made first."""
        if not self.sharded:
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
            if not self.is_deepspeed_enabled:
                lost = checkpoint.check_resumable(
                    resume_from_checkpoint,
                    self.accelerator.num_processes,
                    bool(self.method_state()),
                    self.args.resume_without_state and not self.is_fsdp_enabled,
                    self.is_fsdp_enabled,
                )
            made_by = checksums.identity_of(resume_from_checkpoint)
            checkpoint.check_identity(
                made_by, self.identity or {}, f"checkpoint '{resume_from_checkpoint}' is of a run"
            )
            self.resumed_from = {"checkpoint": str(resume_from_checkpoint), "lost": lost}
            if lost:
                self.accelerator.print(
                    f"warning: checkpoint '{resume_from_checkpoint}' has lost {', '.join(lost)}: what it held begins anew, and "
                    "the weights will be others than those of a run that was not cut"
                )
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As the base class; an adapter names its base by no path of this machine's root."""
        super().save_model(output_dir, _internal_call)
        if self.args.should_save:
            checkpoints.name_base_from(output_dir or self.args.output_dir)

    def _save_checkpoint(self, model, trial):
        """As the base class; then the checkpoint's checksums, and only then are older ones removed."""
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self.args.save_total_limit = limit
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            folder = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
            checksums.write(Path(self.args.output_dir, folder), self.identity)
            rotate_checkpoints(
                output_dir=self.args.output_dir,
                save_total_limit=limit,
                best_model_checkpoint=self.state.best_model_checkpoint,
                use_mtime=True,
            )

    def _save_optimizer_and_scheduler(self, output_dir):
        super()._save_optimizer_and_scheduler(output_dir)
        if self.is_world_process_zero() and (state := self.method_state()):
            write_whole(Path(output_dir) / "method_state.json", json.dumps(state) + "\n")

    def _load_optimizer_and_scheduler(self, checkpoint):
        given = [
            {name: value for name, value in group.items() if name != "params"}
            for group in (self.optimizer.param_groups if checkpoint and not self.sharded else ())
        ]
        rates = list(getattr(self.lr_scheduler, "base_lrs", ()))
        try:
            if checkpoint and self.is_fsdp_enabled:
                sharding.load_optimizer(self.model, self.optimizer, checkpoint, self.accelerator)
                scheduler = torch.load(Path(checkpoint) / "scheduler.pt", weights_only=True)
                self.lr_scheduler.load_state_dict(scheduler)
            else:
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
        if given:
            self.check_scheduler(checkpoint, rates)
            self.check_optimizer(checkpoint)
            self.keep_settings(given, rates)
        if checkpoint and (path := Path(checkpoint) / "method_state.json").is_file():
            state = read_object(path)
            try:
                self.load_method_state(state)
            except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
                raise RememError(f"'{path}' cannot be used: {checkpoints.reason(error)}") from error

    def check_scheduler(self, checkpoint: str, rates: Sequence[float]) -> None:
        """Raise a RememError if what was loaded of a scheduler is of another step, or of other learning rates.

        Args:
            rates: those of this run, which `--resume_without_state` puts in their place.
        """
        found, held = self.lr_scheduler.state_dict(), getattr(self.lr_scheduler, "base_lrs", None)
        step = read_object(Path(checkpoint) / "trainer_state.json").get("global_step")
        told = f"scheduler of '{checkpoint}'"
        # (In fp16 a step may be skipped; with several processes it counts all of theirs.)
        exact = not self.args.fp16 and self.accelerator.num_processes == 1
        # (Where either file is gone, neither is loaded.)
        loaded = all((Path(checkpoint) / name).is_file() for name in ("optimizer.pt", "scheduler.pt"))
        if exact and loaded and found.get("last_epoch", step) != step:
            raise RememError(f"{told} is of step {str(found['last_epoch'])[:60]}, not {step}")
        if rates and not self.args.resume_without_state and held != list(rates):
            raise RememError(f"{told} has learning rates {str(held)[:60]}, not {list(rates)}")

    def keep_settings(self, given: Sequence[Mapping[str, Any]], rates: Sequence[float]) -> None:
        """Put this run's settings back into an optimizer and scheduler whose loaded states brought those of the run before.

        They differ where `--resume_without_state` allowed others.
        """
        held = list(getattr(self.lr_scheduler, "base_lrs", rates))
        for group, own in zip(self.optimizer.param_groups, given):
            group.update({name: value for name, value in own.items() if name != "lr"})
        for group, before, now in zip(self.optimizer.param_groups, held, rates):
            if before != now:
                group["lr"] = group["lr"] / before * now if before else now
        if held != list(rates):
            self.lr_scheduler.base_lrs = list(rates)

    def check_optimizer(self, checkpoint: str) -> None:
        """Raise a RememError if what was loaded of an optimizer is not of these weights, or not finite."""
        # (Others keep what has another shape than the weights.)
        inner = getattr(self.optimizer, "optimizer", self.optimizer)
        shaped = type(inner) in (torch.optim.AdamW, torch.optim.SGD)
        states = [
            self.optimizer.state.get(one) for group in self.optimizer.param_groups for one in group["params"]
        ]
        # (A weight that no loss reaches has none.)
        if (
            not any(states)
            and type(inner) is torch.optim.AdamW
            and (Path(checkpoint) / "optimizer.pt").is_file()
        ):
            raise RememError(f"optimizer of '{checkpoint}' has no state of any weight")
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                for name, value in self.optimizer.state.get(parameter, {}).items():
                    if not torch.is_tensor(value):
                        if shaped and value is not None and not isinstance(value, int | float):
                            raise RememError(
                                f"optimizer of '{checkpoint}': {name} is not a number: {str(value)[:60]}"
                            )
                        continue
                    if shaped and value.dim() and value.shape != parameter.shape:
                        raise RememError(
                            f"optimizer of '{checkpoint}': {name} of shape {list(value.shape)} for weights of shape "
                            f"{list(parameter.shape)}"
                        )
                    if (
                        value.is_floating_point()
                        and not self.sharded
                        and not bool(torch.isfinite(value).all())
                    ):
                        raise RememError(f"optimizer of '{checkpoint}': {name} is NaN or infinite")

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
        if checkpoint.is_plain_model(model, self.sharded):
            checkpoint.load_weights(model, resume_from_checkpoint)
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self):
        if checkpoint.is_plain_model(self.model, self.sharded):
            checkpoint.load_weights(self.model, self.state.best_model_checkpoint)
        else:
            super()._load_best_model()

    def create_model_card(self, *args, **kwargs):
        """Nothing: a finished run has a card of its own (`card`)."""

    def _send_telemetry(self):
        """Nothing is sent."""
