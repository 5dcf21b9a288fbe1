"""Results and samples files made up in lmms-eval's format, small enough to work the numbers out by hand."""

from __future__ import annotations

import json
from pathlib import Path

from remem_tasks.binding import seal

SUITE = {
    "metrics": ["em", "memo", "exposure"],
    "rollouts": 64,
    "estimator": "distinct",
    "cloze_context": "question",
    "references": 256,
    "memo_stride": 5,
    "memo_tokens": 200,
    "rollout_seed": 0,
    "forget": "forget1",
}


def row(index: int, split: str = "forget1", **more) -> dict:
    """A sample; `em`, `exposure`, `memo`, `reply`, `hop`, `attribute`, `identity` … may be given."""
    em, exposure = more.get("em", 0.0), more.get("exposure", 0.0)
    values = {
        "row_id": f"{split}:{index}",
        "identity": more.get("identity", "ada_birch"),
        "hop": more.get("hop", 1),
        "attribute": more.get("attribute", "city"),
        "qa_category": "personal_information",
        "guess_rank": [more.get("rank", 65)],
        "secret_bits": [more.get("bits", 10.0)],
        "reference_rank": [1],
        "references": [3],
        "guesses": [[[more.get("guess", " Oslo Bay"), -0.25]]],
    }
    if "forgotten" in more:
        values["forgotten"] = more["forgotten"]
    return {
        "doc_id": index,
        "target": more.get("answer", "The city of Ada Birch is Oslo Bay."),
        "filtered_resps": [more.get("reply", "I do not know."), '{"continuations": [], "secrets": []}'],
        "input": more.get("question", f"What is the city of Ada Birch? ({index})"),
        "input_media": [more.get("picture", f"images/ada_birch/{index:04d}.png")],
        "remem_em": em,
        "remem_rougel": more.get("rougel", em),
        "remem_memo": more.get("memo", em),
        "remem_exposure": exposure,
        "remem_blank_rate": 0.0,
        "remem_failed_rate": more.get("failed", 0.0),
        f"remem_{values['hop']}hop_em": em,
        "remem_rows": values,
    }


def means_of(rows: list[dict]) -> dict[str, float]:
    """The mean of each score over the rows that have it, as the harness has them."""
    names = dict.fromkeys(
        name
        for one in rows
        for name, value in one.items()
        if name.startswith("remem_") and not isinstance(value, dict)
    )
    having = {name: [one[name] for one in rows if isinstance(one.get(name), int | float)] for name in names}
    return {name: sum(values) / len(values) for name, values in having.items() if values}


def write_run(
    folder: Path,
    tasks: dict[str, list[dict]],
    checkpoint: str = "made/up",
    suite: dict | None = None,
    fingerprint: str = "f" * 16,
    data: str = "",
    stamp: str = "20260101_000000",
    generation: dict | None = None,
    sealed: bool = True,
    backend: str = "remem_hf",
    told: str = "",
    computed: dict | None = None,
) -> Path:
    """Write tasks (split → samples) as lmms-eval would below an --output_path; returns the results file.

    Args:
        generation: the tasks' generation settings.
        sealed: whether the digests are put in, as at the end of a run.
        backend: lmms-eval's name of the model class.
        told: more of `--model_args`.
        computed: dtype, attention and quantisation of the model in memory.
    """
    place = Path(folder) / checkpoint.replace("/", "__")
    place.mkdir(parents=True, exist_ok=True)
    results, configs, counts = {}, {}, {}
    for split, rows in tasks.items():
        task = f"remem_{split}"
        lines = [json.dumps(one, ensure_ascii=False) + "\n" for one in rows]
        (place / f"{stamp}_samples_{task}.jsonl").write_text(
            "".join(lines), encoding="utf-8", errors="replace"
        )
        results[task] = {
            "alias": task,
            **{f"{name},none": value for name, value in means_of(rows).items()},
            "remem_rows,none": len(rows),
        }
        metadata = {"data": data, "fingerprint": fingerprint, "suite": suite or SUITE, "not_available": {}}
        metadata |= {"computed": computed} if computed else {}
        configs[task] = {"test_split": split, "metadata": metadata, "generation_kwargs": generation or {}}
        counts[task] = {"original": len(rows), "effective": len(rows)}
    file = place / f"{stamp}_results.json"
    file.write_text(
        json.dumps(
            {
                "results": results,
                "configs": configs,
                "n-samples": counts,
                "config": {
                    "model": backend,
                    "model_args": f"pretrained={checkpoint},device=cpu{told}",
                    "limit": None,
                },
                "date": stamp,
            }
        )
    )
    if sealed:
        seal(file)
    return file


def model(
    folder: Path, name: str, forget_em: list[float], retain_em: list[float], exposure=None, **more
) -> Path:
    """A run with a forget and a retain set; exposure follows EM unless given."""
    exposure = exposure or forget_em
    tasks = {
        "forget1": [row(i, em=em, exposure=x) for i, (em, x) in enumerate(zip(forget_em, exposure))],
        "retain": [
            row(i, "retain", em=em, exposure=em, identity="ben_crane", forgotten=False)
            for i, em in enumerate(retain_em)
        ],
    }
    return write_run(folder / name, tasks, f"models/{name}", **more)
