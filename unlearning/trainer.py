"""UnlearnTrainer: a TRL SFTTrainer whose step is one forward over forget and retain rows together.

A method is a subclass in `methods/` that says which rows it needs and how its forget loss is made:

    L = γ · L_forget + α · L_retain

Every loss is a mean over an optimizer step: over the examples of all its micro-batches and processes for
sequence losses, over their answer tokens for token losses. How a step is cut into micro-batches and
processes changes nothing (see `forward.counts`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from transformers import TrainerCallback
from transformers.trainer_utils import EvalLoopOutput

from remem_tasks import checkpoints
from remem_tasks.benchmarks.training_rows import TrainingRows
from remem_tasks.errors import RememError
from unlearning import evaluation, forward, losses, qlora, sharding
from unlearning.data import Collator, Encoder, Examples, Pairs, Role, pad_token_of, stop_ids
from unlearning.forward import Batch, Forward
from unlearning.mechanisms import alternatives, gradients, pictures, reference, vectors
from unlearning.prepared import PreparedTrainer
from unlearning.retain_losses import RETAIN_LOSSES


@dataclass(frozen=True)
class Option:
    """A method's own flag: its default, its help text, and what it may be if that is a closed list."""

    default: float | int | str | bool
    help: str
    choices: tuple[str, ...] = ()


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


class UnlearnTrainer(PreparedTrainer):
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
        self.encoder = encoder or Encoder(processing_class, stop_ids(model), args.picture_cache_mb)
        self.rows = rows
        self.start = sharding.digest(model)
        self.resumed_from: dict[str, Any] | None = None
        self.identity: dict[str, Any] | None = None
        super().__init__(
            model=model,
            args=args,
            train_dataset=rows.train,
            eval_dataset=eval_rows,
            data_collator=Collator(pad_token_of(processing_class.tokenizer)),
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
        wanted: dict[str, Any] = {
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

    # Checkpoints

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As the base class; an adapter names its base by no path of this machine's root."""
        super().save_model(output_dir, _internal_call)
        if self.args.should_save:
            checkpoints.name_base_from(output_dir or self.args.output_dir)
