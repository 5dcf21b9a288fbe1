"""The model card of a run: what was trained, from what, to forget whom, and how well the record says it went."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from unlearning.methods import METHODS

SHOWN = ("forget_nll", "retain_nll", "eval_forget_em", "eval_retain_em", "loss")


def card(record: Mapping[str, Any]) -> str:
    """README.md in the Hub's format.

    Args:
        record: of a finished run, as in `run.json`.
    """
    method, data, gate = record["method"], record["data"], record["gate"]
    first = METHODS[method].stage == 1
    lora = record["trained"] == "adapter"
    head: dict[str, Any] = {
        "library_name": "peft" if lora else "transformers",
        "pipeline_tag": "image-text-to-text",
        "tags": ["machine-unlearning", "remem", method, *(["lora"] if lora else [])],
    }
    # Folders of this machine tell nobody anything.
    if not os.path.isdir(record["model"]):
        head["base_model"] = record["model"]
    if data["source"] and not os.path.isdir(data["source"]):
        head["datasets"] = [data["source"]]
    forgets = f"`{data['forget']}`" if data["forget"] else "nobody"
    lines = [
        f"# {method}, {'stage 1' if first else 'made to forget'}",
        "",
        METHODS[method].__doc__.strip().splitlines()[0],
        "",
        "| | |",
        "|---|---|",
        f"| starting model | {head.get('base_model') or Path(record['model']).name} |",
        f"| data | {(head.get('datasets') or ['a local set'])[0]}, fingerprint `{data['fingerprint']}` |",
        f"| {'left out' if first else 'to forget'} | {forgets} |",
    ]
    if gate:
        passed = {
            True: "had memorised",
            False: "had NOT memorised (`--no_gate`)",
            None: "not scored (`--no_gate`)",
        }
        lines.append(f"| gate | the starting model {passed[gate['passed']]} |")
    lines += [
        f"| trained | {record['parameters']['trainable']:,} of {record['parameters']['all']:,} parameters |",
        f"| steps | {record['steps']}, seed {record['seed']}; {record['stopped']} |",
        *(
            f"| {name} | {record['figures'][name]:.4g} |"
            for name in SHOWN
            if isinstance(record["figures"].get(name), float)
        ),
        "",
        "A loss does not show whether anything was forgotten. Score it, and ask what it still holds:",
        "",
        "    lmms_eval --model remem_hf --model_args pretrained=<this model> --tasks remem_forget1,remem_retain --log_samples --output_path results",
        "",
        "`run.json` has every argument and version.",
    ]
    return f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n\n" + "\n".join(lines) + "\n"
