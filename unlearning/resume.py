"""What a training saves, pushes and loads again: a checkpoint that is whole, and is refused where it is not."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, rotate_checkpoints
from trl import SFTTrainer

from remem_tasks import checkpoints, checksums
from remem_tasks.audit.push import refusal
from remem_tasks.errors import RememError
from remem_tasks.files import write_whole
from remem_tasks.reading import read_object
from unlearning import sharding
from unlearning import weights as checkpoint

UNREADABLE = (RuntimeError, ValueError, KeyError, TypeError, AttributeError, pickle.UnpicklingError)
"""What torch raises of a state that is damaged, or another's."""


class ResumableTrainer(SFTTrainer):
    """Saves checkpoints with their checksums and goes on from one exactly, or says why it cannot.

    Attributes:
        identity: of the run, as its record has it; kept in checkpoints, which no other run goes on from.
    """

    @property
    def sharded(self) -> bool:
        """Whether weights are spread over processes (FSDP, DeepSpeed)."""
        return self.is_fsdp_enabled or self.is_deepspeed_enabled

    def method_state(self) -> dict[str, Any]:
        """What a checkpoint must hold besides weights and optimizer, as JSON; see `load_method_state`."""
        return {}

    def load_method_state(self, state: dict[str, Any]) -> None:
        """Takes up what `method_state` gave."""

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
        except UNREADABLE as error:
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
        except UNREADABLE as error:
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
