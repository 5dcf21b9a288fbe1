"""What is made once from the model before unlearning: other answers, and how likely it held each answer."""

from __future__ import annotations

import math
from pathlib import Path

from transformers.trainer_utils import TrainOutput

from remem_tasks import checksums
from remem_tasks.errors import RememError
from unlearning import sharding
from unlearning import weights as checkpoint
from unlearning.data import Role
from unlearning.mechanisms import alternatives, reference
from unlearning.mechanisms.reference import Entry
from unlearning.stepping import SteppingTrainer


class PreparedTrainer(SteppingTrainer):
    """Prepares a run on the model before unlearning; what it made is kept beside the run."""

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
