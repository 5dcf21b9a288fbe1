"""A run: everything that can be wrong is checked, then a trainer is built, trained, saved and recorded."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import nn
from transformers.trainer import get_reporting_integration_callbacks
from trl import ModelConfig

from remem_tasks import checkpoints, checksums
from remem_tasks.benchmarks.training_rows import TrainingRows
from remem_tasks.checkpoint_files import check_files, tensors_of
from remem_tasks.engine.cache import hash_of_processor
from remem_tasks.errors import RememError, Terminated
from remem_tasks.files import lock, write_whole
from remem_tasks.run_record import GONE, read_record, unfinished
from unlearning import preflight as gate
from unlearning import qlora, sharding
from unlearning import weights as checkpoint
from unlearning.arguments import parse
from unlearning.card import card
from unlearning.config import DataArguments, UnlearnConfig
from unlearning.data import Encoder, Role, check_pictures, load_rows
from unlearning.encoding import check_encoding, limits_of
from unlearning.mechanisms import reference
from unlearning.methods import METHODS
from unlearning.models import Models, load_models, loader
from unlearning.record import check_resumed, check_settings, mark_failed, versions, write_record
from unlearning.trainer import UnlearnTrainer

TRACKERS = {"tensorboard": ("tensorboard", "tensorboardX"), "wandb": ("wandb",), "trackio": ("trackio",)}
"""Packages of which one is needed for a `--report_to`."""


def check_trackers(report_to: Sequence[str] | str) -> None:
    """Raise a RememError for a tracker of `--report_to` that is none, or not installed."""
    for name in [report_to] if isinstance(report_to, str) else report_to:
        if name in TRACKERS and not any(find_spec(package) for package in TRACKERS[name]):
            raise RememError(
                f"--report_to {name}: it is not installed; pip install {name}, or --report_to none"
            )
        try:
            get_reporting_integration_callbacks([] if name in ("none", "all") else [name])
        except ValueError as error:
            raise RememError(f"--report_to {name}: {checkpoints.reason(error)}") from error


def eval_rows(rows: TrainingRows, args: UnlearnConfig) -> dict[str, Any] | None:
    """The tables evaluated during training, if `--eval_strategy` asks for it."""
    if args.eval_strategy == "no":
        return None
    tables = (
        {"forget": rows.forget, "retain": rows.retain} if rows.forget is not None else {"train": rows.train}
    )
    limit = args.eval_rows
    return {
        name: table.select([position * len(table) // limit for position in range(limit)])
        if 0 < limit < len(table)
        else table
        for name, table in tables.items()
    }


def stopping_reason(trainer: UnlearnTrainer) -> str:
    """Which limit ended a run that ended well."""
    if trainer.stopped:
        return trainer.stopped
    if not trainer.trains:
        return "nothing to train: the weights were edited once"
    if trainer.state.global_step < trainer.state.max_steps:
        return "stopped by a callback"
    return "max_steps reached" if trainer.args.max_steps > 0 else "num_train_epochs reached"


def unmoved(history: Sequence[Mapping[str, float]], change: float = 0.05) -> str | None:
    """In words, that the NLL of the forget rows is what it was; None if it moved, or is not known twice.

    Args:
        history: a trainer's log; evaluations are taken before the figures of training batches.
        change: by how much of its first value it must have moved.
    """
    for name in ("eval_forget_nll", "forget_nll"):
        values = [entry[name] for entry in history if name in entry]
        if len(values) > 1:
            first, last = values[0], values[-1]
            if abs(last - first) >= change * abs(first):
                return None
            return f"the NLL of the forget rows has not moved: {first:.4g} nats per token at first, {last:.4g} at last"
    return None


def final_figures(history: list[dict]) -> dict[str, float]:
    """The last value logged under each name."""
    found: dict[str, float] = {}
    for entry in history:
        found.update(entry)
    return {name: value for name, value in found.items() if name not in ("step", "epoch", "total_flos")}


def build_trainer(
    args: UnlearnConfig,
    rows: TrainingRows,
    processor: Any,
    models: Models,
    *,
    encoder: Encoder | None = None,
) -> UnlearnTrainer:
    """The trainer of a run, the same for the script, the sweep and the tests.

    Args:
        args: of `config.parse`, as for all that follows.
        rows: of `data.load_rows`.
        processor: the checkpoint's.
        models: of `load_models`.
        encoder: one that has encoded some of the rows before; None makes one.
    """
    checkpoints.check_pair(models.trained, processor, models.trained.name_or_path)
    return METHODS[args.method](
        models.trained,
        args,
        rows,
        processor,
        eval_rows=eval_rows(rows, args),
        reference_model=models.reference,
        load_start=models.load,
        peft_config=models.peft_config,
        encoder=encoder,
    )


@dataclass
class Prepared:
    """A run whose input has been checked; nothing is written yet.

    Attributes:
        identity: what a run must share with one that it resumes.
        gate: the verdict on the starting model; None in stage 1.
        resume: a checkpoint, True for the newest, or None.
    """

    data_args: DataArguments
    args: UnlearnConfig
    model_args: ModelConfig
    rows: TrainingRows
    processor: Any
    models: Models
    identity: dict[str, Any]
    gate: dict[str, Any] | None
    resume: str | bool | None


def prepare(data_args: DataArguments, args: UnlearnConfig, model_args: ModelConfig) -> Prepared:
    """Everything that can be wrong is found here, before anything is written.

    Raises:
        RememError: says what is wrong.
    """
    method = METHODS[args.method]
    sharding.check_launch()
    resume = {"true": True, "false": None}.get(
        str(args.resume_from_checkpoint).lower(), args.resume_from_checkpoint
    )
    checkpoint.check_output_dir(args.output_dir, bool(resume), args.overwrite_output_dir)
    if isinstance(resume, str) and not Path(resume, "trainer_state.json").is_file():
        raise RememError(
            f"--resume_from_checkpoint '{resume}' is not a checkpoint of a run (no trainer_state.json)"
        )
    checkpoint.check_path(model_args.model_name_or_path)
    check_trackers(args.report_to)
    rows = load_rows(
        data_args.data,
        method.rows_from,
        data_args.forget,
        data_args.finetune_split,
        data_args.identity_rule,
        alternatives=Role.ALT in method.roles and args.alternatives != "model",
        modality=data_args.modality,
        faults=data_args.faults,
        caption_questions=data_args.caption_questions,
    )
    check_pictures(rows.tables)
    base = os.path.abspath(path) if os.path.isdir(path := model_args.model_name_or_path) else path
    remote = {"revision": model_args.model_revision, "trust_remote_code": args.trust_remote_code}
    processor = checkpoints.load_processor(
        base, **remote
    )  # before the gate: a wrong path has no scores either
    asked = None
    if method.stage == 2:
        asked = gate.ask(args.gate_results, base, data_args.forget, rows, args.no_gate)
    ends, context = limits_of(base, **remote)
    check_encoding(Encoder(processor, ends, cache_mb=0), rows.tables, context, rows.alternatives)
    models = load_models(args, model_args, loader(base, args, model_args))
    checkpoints.check_pair(models.trained, processor, base)
    identity = {
        "method": args.method,
        "model": base,
        "data": rows.fingerprint(),
        "forget": data_args.forget if method.rows_from != "finetune" else None,
        "use_peft": model_args.use_peft,
        "seed": args.seed,
        "weights": sharding.digest(models.trained),
        "pictures": rows.pictures(),
        "alternatives": rows.wrong_answers(),
        "processor": hash_of_processor(processor)[:16],
    }
    if resume:
        check_resumed(args.output_dir, identity)
    return Prepared(data_args, args, model_args, rows, processor, models, identity, asked, resume)


def adapter_parts(model: nn.Module) -> str:
    """How many of an adapter's tensors lie in each part of the model, in words."""
    found = Counter(checkpoint.part_of(name) for name, p in model.named_parameters() if p.requires_grad)
    return "adapter tensors: " + ", ".join(f"{found[part]} in {part}" for part in checkpoint.PARTS)


def record_of(run: Prepared, trainer: UnlearnTrainer) -> dict[str, Any]:
    """What `run.json` says when training begins."""
    args, model = run.args, trainer.model
    adapted = run.models.peft_config is not None
    return {
        "status": "running",
        "identity": run.identity,
        "method": args.method,
        "options": args.method_options,
        "weights": {
            "gamma": args.gamma,
            "alpha": args.alpha,
            "retain_loss": args.retain_loss,
            "l1_lora": args.l1_lora,
            "wrap": args.wrap,
        },
        "reference": reference.kind(trainer.references(args), adapted),
        "notes": trainer.notes,
        "model": run.identity["model"],
        "gate": run.gate,
        "data": {
            "source": run.data_args.data,
            "forget": run.identity["forget"],
            "modality": run.data_args.modality,
            "faults": run.rows.faults,
            "fingerprint": run.identity["data"],
        },
        "rows": {
            "train": len(run.rows.train),
            "retain": len(run.rows.retain) if run.rows.retain is not None else None,
        },
        "trained": "adapter" if adapted else dict(checkpoint.trained_by_part(model)),
        "parameters": {
            "trainable": sum(p.numel() for p in model.parameters() if p.requires_grad),
            "all": sum(p.numel() for p in model.parameters()),
        },
        "adapter_parts": adapter_parts(model) if adapted else "",
        "matrices_in_4_bits": len(qlora.linear_maps(model)),
        "processes": trainer.accelerator.num_processes,
        "device": str(args.device),
        "seed": args.seed,
        "versions": versions(),
        "arguments": {"data": vars(run.data_args), "model": vars(run.model_args), "training": args.to_dict()},
        "resumed_from": None,
    }


def check_written(folder: str) -> None:
    """Read back the weights that a run has saved, or its adapter's.

    Raises:
        RememError: a file is missing or cut short.
    """
    adapter = Path(folder, "adapter_model.safetensors")
    if adapter.is_file():
        tensors_of(adapter)
    elif Path(folder, "config.json").is_file():
        check_files(folder)


def train(trainer: UnlearnTrainer, resume: str | bool | None) -> dict[str, Any]:
    """Train to the end and let the method finish; what the record says of it."""
    begun = time.time()
    result = trainer.train(resume_from_checkpoint=resume)
    if trainer.trains and not trainer.state.global_step:
        raise RememError("no step was taken: there are too few rows for a batch, or too few epochs")
    trainer.finish()
    trainer.check_weights()
    if trainer.eval_dataset and type(trainer).finish is not UnlearnTrainer.finish:
        # The weights are others than those of the last evaluation.
        trainer.evaluate(metric_key_prefix="final")
    figures = final_figures(trainer.state.log_history)
    if still := unmoved(trainer.state.log_history):
        trainer.notes["forget_nll"] = still
        trainer.accelerator.print(f"warning: {still}")
    return {
        "status": "finished",
        "resumed_from": trainer.resumed_from,
        "stopped": stopping_reason(trainer),
        "steps": trainer.state.global_step,
        "epochs": trainer.state.epoch,
        "figures": figures,
        "train_loss": result.training_loss,
        "seconds": round(time.time() - begun, 2),
        "steps_per_second": result.metrics.get("train_steps_per_second"),
    }


def run(argv: list[str]) -> int:
    """One run, from arguments to a saved model; the exit status.

    Raises:
        RememError: says what is wrong; another run that writes to the same folder too.
    """
    parsed = parse(argv)
    if parsed is None:
        return 0
    args = parsed[1]
    with lock(args.output_dir) if args.process_index == 0 else nullcontext():
        return _run(prepare(*parsed))


def _run(prepared: Prepared) -> int:
    args, begun = prepared.args, time.time()
    # All processes have checked by now; the first one may write.
    args.distributed_state.wait_for_everyone()
    if args.overwrite_output_dir and args.process_index == 0:
        checkpoint.clear(args.output_dir)
    args.distributed_state.wait_for_everyone()
    trainer = build_trainer(args, prepared.rows, prepared.processor, prepared.models)
    trainer.identity = prepared.identity
    if held := len(qlora.linear_maps(trainer.model)):
        trainer.notes["base"] = (
            f"{held} matrices in 4 bits; scores are of the adapter on the base as it is stored"
        )
    record = record_of(prepared, trainer)
    tell, first = trainer.accelerator.print, trainer.is_world_process_zero()
    if prepared.resume and (told := check_settings(args.output_dir, record, args.resume_without_state)):
        trainer.notes["resumed"] = told
        tell(f"warning: {told}")
    before = read_record(args.output_dir, ours=True) if prepared.resume else {}
    if first and before.get("stopped") == GONE:
        trainer.notes["before"] = f"the run that goes on was interrupted: {GONE}"
        tell(trainer.notes["before"])
    if told := unfinished(read_record(prepared.identity["model"])):
        trainer.notes["start"] = (
            f"'{prepared.identity['model']}': {told}; its weights may be those of an earlier run"
        )
        tell(f"warning: {trainer.notes['start']}")
    if first:
        write_record(args.output_dir, record)
    tell(
        f"{args.method}: {record['rows']['train']} rows, {record['parameters']['trainable']:,} of "
        f"{record['parameters']['all']:,} parameters, {record['processes']} process(es) on {record['device']}, "
        f"reference: {record['reference']}{record['adapter_parts'] and '; ' + record['adapter_parts']}"
    )
    if prepared.gate:
        tell(gate.told(prepared.gate))
    try:
        record |= train(trainer, prepared.resume)
        trainer.save_model(args.output_dir, _internal_call=True)  # pushed when its record is complete
        if prepared.models.peft_config and first:
            trainer.model.generation_config.save_pretrained(args.output_dir)
        if first and not trainer.sharded:
            check_written(args.output_dir)
            checksums.write(args.output_dir, prepared.identity)
    except KeyboardInterrupt as error:
        if first:
            why = "terminated" if isinstance(error, Terminated) else "interrupted"
            checkpoint.mark_interrupted(args.output_dir, why)
        raise
    except Exception as error:
        # Whichever process it is: the others are ended, and could not tell.
        kept = checkpoint.last_checkpoint(args.output_dir, trainer.accelerator.num_processes)
        failed = {"status": "failed", "stopped": checkpoints.reason(error), "last_checkpoint": kept}
        try:
            write_record(args.output_dir, {**record, **failed})
        except RememError:  # what filled the disk is told, not that it is full
            mark_failed(args.output_dir)
        if (line := checkpoints.unwritten(error)) is not None:
            raise RememError(f"output folder '{args.output_dir}': {line}") from error
        raise
    if first:
        record["seconds"] = round(time.time() - begun, 2)
        try:
            write_record(args.output_dir, record)
            write_whole(Path(args.output_dir) / "README.md", card(record))
        except RememError:
            mark_failed(args.output_dir)
            raise
        print(f"saved to {args.output_dir}: {record['steps']} steps; {record['stopped']}")
    if args.push_to_hub:
        trainer.push_to_hub()
    trainer.end()
    return 0
