"""Train with a forget method: check everything, train, save a checkpoint that any tool loads.

accelerate launch unlearning/train.py --method npo --model_name_or_path CKPT --data DATA --output_dir OUT
accelerate launch -m unlearning.train --config unlearning/configs/npo.yaml --use_peft
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

if __name__ == "__main__" and Path(sys.path[0]).resolve() == Path(__file__).resolve().parent:
    # Run as a script, Python puts this folder first: its `data.py` would answer to any `import data`.
    _root = Path(__file__).resolve().parent.parent
    sys.path[0] = str(_root)
    if (
        _root.name == "packaged"
    ):  # of an installed remem_tasks, which is found even where nothing else leads to it
        sys.path.append(str(_root.parent.parent))
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

from remem_tasks.errors import RememError, exit_on_error
from remem_tasks.files import write_whole

RECORD = "run.json"


def versions() -> dict[str, str]:
    """Versions of what a result can depend on."""
    found = {"python": sys.version.split()[0]}
    for name in ("remem-unlearning", "torch", "transformers", "trl", "peft", "accelerate", "datasets"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def write_record(folder: str, record: dict[str, Any]) -> None:
    """Replace `run.json` in one move, so that it is never half there."""
    write_whole(Path(folder) / RECORD, json.dumps(record, indent=2, default=str) + "\n")


def check_resumed(folder: str, identity: dict[str, Any]) -> None:
    """Raise a RememError if the run in a folder is finished without checkpoints, or is another run."""
    path = Path(folder) / RECORD
    if not path.is_file():
        return
    earlier = json.loads(path.read_text())
    for name, value in identity.items():
        if name in earlier.get("identity", {}) and earlier["identity"][name] != value:
            raise RememError(
                f"'{folder}' holds a run with {name} = {earlier['identity'][name]}, not {value}; it cannot be resumed"
            )
    if earlier.get("status") == "finished" and not list(Path(folder).glob("checkpoint-*")):
        raise RememError(f"the run in '{folder}' is finished and kept no checkpoint to go on from")


def lora_config(model_args):
    """PEFT's configuration, or None for full fine-tuning; by default LoRA on the language model only."""
    from trl import get_peft_config

    from unlearning.weights import LANGUAGE_MODEL_TARGETS

    if not model_args.use_peft:
        return None
    if (Path(model_args.model_name_or_path) / "adapter_config.json").is_file():
        raise RememError(
            f"'{model_args.model_name_or_path}' is an adapter: a second one on top could not be loaded again; "
            "leave --use_peft out to merge it and train the whole model"
        )
    targets = model_args.lora_target_modules or LANGUAGE_MODEL_TARGETS
    if any(str(name).endswith("lm_head") for name in ([targets] if isinstance(targets, str) else targets)):
        raise RememError(
            "lm_head cannot be a LoRA target: log-probabilities are computed from its weight directly"
        )
    model_args.lora_target_modules = targets
    return get_peft_config(model_args)


def check_targets(model, peft_config) -> None:
    """Raise a RememError if LoRA's targets name no module of the model."""
    from peft.tuners.tuners_utils import check_target_module_exists

    targets = peft_config.target_modules
    if targets != "all-linear" and not any(
        check_target_module_exists(peft_config, name) for name, _ in model.named_modules()
    ):
        named = targets if isinstance(targets, str) else ", ".join(sorted(targets))
        raise RememError(f"LoRA targets '{named}' are no modules of this model; see --lora_target_modules")


def run(argv: list[str]) -> int:
    """One run, from arguments to a saved model."""
    from remem_tasks import checkpoints
    from remem_tasks.checkpoint_files import digest
    from unlearning import preflight as gate
    from unlearning import weights as checkpoint
    from unlearning.card import card
    from unlearning.config import parse
    from unlearning.data import Encoder, Role, check_encoding, check_pictures, load_rows, stop_ids
    from unlearning.mechanisms import reference
    from unlearning.methods import METHODS
    from unlearning.trainer import UnlearnTrainer

    parsed = parse(argv)
    if parsed is None:
        return 0
    data_args, args, model_args = parsed
    method = METHODS[args.method]
    begun = time.time()

    # 1. Everything that can be wrong is found before anything is written.
    resume = {"true": True, "false": None}.get(
        str(args.resume_from_checkpoint).lower(), args.resume_from_checkpoint
    )
    checkpoint.check_output_dir(args.output_dir, bool(resume), args.overwrite_output_dir)
    if isinstance(resume, str) and not Path(resume, "trainer_state.json").is_file():
        raise RememError(
            f"--resume_from_checkpoint '{resume}' is no checkpoint of a run (no trainer_state.json)"
        )
    checkpoint.check_path(model_args.model_name_or_path)
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
    asked = None
    if method.stage == 2:
        asked = gate.ask(args.gate_results, base, data_args.forget, rows, args.no_gate)
    identity = {
        "method": args.method,
        "model": base,
        "data": rows.fingerprint(),
        "forget": data_args.forget if method.rows_from != "finetune" else None,
        "use_peft": model_args.use_peft,
        "seed": args.seed,
    }
    remote = {"revision": model_args.model_revision, "trust_remote_code": args.trust_remote_code}
    processor = checkpoints.load_processor(base, **remote)
    peft_config = lora_config(model_args)
    if peft_config and not method.adapters:
        raise RememError(f"{args.method} edits the weights themselves: leave --use_peft out")
    if args.l1_lora and not peft_config:
        raise RememError("--l1_lora is a term over LoRA matrices: it needs --use_peft")
    load = {
        **remote,
        "dtype": model_args.dtype or "float32",
        "attn_implementation": model_args.attn_implementation,
        **(args.model_init_kwargs or {}),
    }
    model = checkpoint.load_model(base, **load)
    model.config.name_or_path = model.name_or_path = base
    identity["weights"] = digest(model)
    if resume:
        check_resumed(args.output_dir, identity)
    if peft_config:
        check_targets(model, peft_config)
        if args.train != "all" or args.vision_lr is not None:
            raise RememError(
                "--train and --vision_lr are for full fine-tuning; with LoRA use --lora_target_modules"
            )
    trained = None if peft_config else checkpoint.select_trained(model, args.train)
    if trained and args.vision_lr is not None and not trained["vision_tower"]:
        raise RememError("--vision_lr is given, but --train leaves the vision tower as it is")

    def load_start():
        return checkpoint.load_model(base, **load).requires_grad_(False)

    frozen = load_start() if method.needs_model(args) and not peft_config else None

    check_encoding(Encoder(processor, stop_ids(model), cache_mb=0), rows.tables)

    # 2. The trainer. All processes have checked by now; the first one may write.
    args.distributed_state.wait_for_everyone()
    if args.overwrite_output_dir and args.process_index == 0:
        checkpoint.clear(args.output_dir)
    args.distributed_state.wait_for_everyone()
    trainer = method(
        model,
        args,
        rows,
        processor,
        eval_rows=eval_rows(rows, args),
        reference_model=frozen,
        load_start=load_start,
        peft_config=peft_config,
    )
    main_process = trainer.is_world_process_zero()
    record = {
        "status": "running",
        "identity": identity,
        "method": args.method,
        "options": args.method_options,
        "weights": {
            "gamma": args.gamma,
            "alpha": args.alpha,
            "retain_loss": args.retain_loss,
            "l1_lora": args.l1_lora,
        },
        "reference": reference.kind(method.references(args), bool(peft_config)),
        "notes": trainer.notes,
        "model": base,
        "gate": asked,
        "data": {
            "source": data_args.data,
            "forget": identity["forget"],
            "modality": data_args.modality,
            "fingerprint": identity["data"],
            "faults": rows.faults,
        },
        "rows": {"train": len(rows.train), "retain": len(rows.retain) if rows.retain is not None else None},
        "trained": dict(checkpoint.trained_by_part(trainer.model)) if trained else "adapter",
        "parameters": {
            "trainable": sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
            "all": sum(p.numel() for p in trainer.model.parameters()),
        },
        "processes": trainer.accelerator.num_processes,
        "device": str(args.device),
        "seed": args.seed,
        "versions": versions(),
        "arguments": {"data": vars(data_args), "model": vars(model_args), "training": args.to_dict()},
        "resumed_from": None,
    }
    if main_process:
        write_record(args.output_dir, record)
    trainer.accelerator.print(
        f"{args.method}: {record['rows']['train']} rows, {record['parameters']['trainable']:,} of "
        f"{record['parameters']['all']:,} parameters, {record['processes']} process(es) on {record['device']}, "
        f"reference: {record['reference']}"
    )
    if asked:
        trainer.accelerator.print(gate.told(asked))

    # 3. Train and save.
    try:
        result = trainer.train(resume_from_checkpoint=resume)
        trainer.finish()
        if trainer.eval_dataset and type(trainer).finish is not UnlearnTrainer.finish:
            # The weights are others than those of the last evaluation.
            trainer.evaluate(metric_key_prefix="final")
    except RememError as error:
        if main_process:
            kept = checkpoint.last_checkpoint(args.output_dir, trainer.accelerator.num_processes)
            failed = {"status": "failed", "stopped": str(error), "last_checkpoint": kept}
            write_record(args.output_dir, {**record, **failed})
        raise
    trainer.save_model(args.output_dir, _internal_call=True)  # pushed when its record is complete
    if peft_config and main_process:
        trainer.model.generation_config.save_pretrained(args.output_dir)
    if main_process:
        record |= {
            "status": "finished",
            "resumed_from": trainer.resumed_from,
            "stopped": stopping_reason(trainer),
            "steps": trainer.state.global_step,
            "epochs": trainer.state.epoch,
            "figures": final_figures(trainer.state.log_history),
            "train_loss": result.training_loss,
            "seconds": round(time.time() - begun, 2),
            "steps_per_second": result.metrics.get("train_steps_per_second"),
        }
        write_record(args.output_dir, record)
        Path(args.output_dir, "README.md").write_text(card(record), encoding="utf-8")
        print(f"saved to {args.output_dir}")
    if args.push_to_hub:
        trainer.push_to_hub()
    trainer.end()
    return 0


def eval_rows(rows, args) -> dict | None:
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


def stopping_reason(trainer) -> str:
    """Which limit ended a run that ended well."""
    if trainer.stopped:
        return trainer.stopped
    if not trainer.trains:
        return "nothing to train: the weights were edited once"
    if trainer.state.global_step < trainer.state.max_steps:
        return "stopped by a callback"
    return "max_steps reached" if trainer.args.max_steps > 0 else "num_train_epochs reached"


def final_figures(history: list[dict]) -> dict[str, float]:
    """The last value logged under each name."""
    found: dict[str, float] = {}
    for entry in history:
        found.update(entry)
    return {name: value for name, value in found.items() if name not in ("step", "epoch", "total_flos")}


def main() -> int:
    """The command line: errors in one line, told once in a run of several processes."""
    rank = int(os.environ.get("RANK", "0"))

    def body() -> int:
        try:
            return run(sys.argv[1:])
        except RememError:
            if rank:
                # The first process has met the same fault and tells it; the launcher then ends this one.
                time.sleep(10)
            raise

    return exit_on_error(body, "unlearning")


if __name__ == "__main__":
    sys.exit(main())
