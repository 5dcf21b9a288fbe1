"""Models that say nothing real, and replies kept on disk."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from faults_weights import every, scored
from frame import End, Fault, World, cut, edit_weights

from remem_tasks.engine.cache import hash_of


def silent(name: str, change, says: str, **more) -> Fault:
    return scored(name, change, says, kind="replies", **more)


def named(*parts: str, value: float | None = None, scale: float | None = None):
    """Sets, or scales, every tensor whose name holds one of the parts."""

    def apply(weights: dict) -> None:
        found = [name for name in weights if any(part in name for part in parts)]
        assert found
        for name in found:
            weights[name] = torch.full_like(weights[name], value) if scale is None else weights[name] * scale

    return edit_weights(apply)


def one_weight(part: str, value: float):
    def apply(weights: dict) -> None:
        name = next(name for name in sorted(weights) if part in name)
        weights[name].view(-1)[0] = value

    return edit_weights(apply)


def says_always(rows: int = 1):
    """A head whose largest logit is always that of one token, though it depends on the prompt a little."""

    def apply(weights: dict) -> None:
        norm = next(name for name in weights if name.endswith("model.norm.weight"))
        weights[norm] = weights[norm] * 1e-4

    return edit_weights(apply)


def kept(name: str, change, says: str = "", counted: str | None = None, **more) -> Fault:
    """Replies kept by a sound run are damaged, and the same run is made again: `change(folder of the cache)`."""

    def act(world: World) -> End:
        cache = world.folder / "kept"
        world.score(args=f"cache={cache}")
        change(cache)
        end = world.score(args=f"cache={cache}")
        shutil.rmtree(cache, ignore_errors=True)
        return end

    return Fault("cache", name, act, says, counted, **more)


def _files(folder: Path) -> list[Path]:
    files = sorted(folder.rglob("*.jsonl"))
    assert files
    return files


def lines(change):
    """`change(lines)` gives the lines of every file of a cache."""

    def apply(folder: Path) -> None:
        for file in _files(folder):
            made = change(file.read_bytes().splitlines())
            file.write_bytes(b"".join(line + b"\n" for line in made))

    return apply


def record(change, valid: bool = False):
    """`change(record)` in place on each line; `valid`: its checksum is made anew."""

    def apply(found: list[bytes]) -> list[bytes]:
        made = []
        for line in found:
            whole = json.loads(line)
            change(whole)
            if valid:
                whole.pop("sum")
                whole["sum"] = hash_of(whole)
            made.append(json.dumps(whole).encode())
        return made

    return lines(apply)


def _other_reply(whole: dict) -> None:
    for _, answers in whole["batch"]:
        for answer in answers:
            answer[0] = "Oslo Bay"


def _swapped_keys(whole: dict) -> None:
    keys = [key for key, _ in whole["batch"]]
    whole["batch"] = [[key, answers] for key, (_, answers) in zip(keys[::-1], whole["batch"])]


def _cut_files(folder: Path) -> None:
    for file in _files(folder):
        cut(file.name, 0.6)(file.parent)


def _model_folder(name: str):
    def apply(folder: Path) -> None:
        for file in _files(folder):
            file.parent.rename(folder / name)
            break

    return apply


FAULTS = [
    silent("all weights are 0", every(torch.zeros_like), "constant"),
    silent("all weights are 1", every(torch.ones_like), "constant|same"),
    silent("the head is 0", named("lm_head", value=0.0), "constant"),
    silent("the last norm is 0", named("model.norm.weight", value=0.0), "constant"),
    silent("the embeddings are 0", named("embed_tokens", value=0.0), ""),
    silent("all queries are infinite in effect", named("q_proj", scale=1e30), ""),
    silent("one weight of the head is 1e30", one_weight("lm_head", 1e30), "same|replies|NaN|infinite"),
    silent(
        "one weight of the last norm is 1e30",
        one_weight("model.norm.weight", 1e30),
        "same|replies|NaN|infinite",
    ),
    silent("one weight of a layer is 1e38", one_weight("down_proj", 1e38), "same|replies|NaN|infinite"),
    silent("all weights times 1e20", every(lambda w: w * 1e20), "NaN|infinite|same|replies"),
    silent("all weights times 1e-20", every(lambda w: w * 1e-20), "constant|same"),
    silent("the head says one token whatever comes", lambda f: (says_always()(f), _one_row(f)), "same"),
    # The cache
    kept("nothing", lambda folder: None),
    kept("every file is cut", _cut_files),
    kept("every file is empty", lines(lambda found: [])),
    kept("every line is text", lines(lambda found: [b"no JSON"] * 3)),
    kept("every line is bytes", lines(lambda found: [b"\xff\xfe\x00\x80"] * 3)),
    kept("lines nested deep", lines(lambda found: [b"[" * 100_000])),
    kept("lines with a number of 5,000 digits", lines(lambda found: [b'{"sum": ' + b"9" * 5000 + b"}"])),
    kept("lines that are lists", lines(lambda found: [b"[]", b"3", b"null"])),
    kept("a reply is another", record(_other_reply)),
    kept(
        "a reply is a number", record(lambda r: [a.__setitem__(0, 7) for _, one in r["batch"] for a in one])
    ),
    kept("replies under each other's keys", record(_swapped_keys)),
    kept("a checksum is null", record(lambda r: r.update(sum=None))),
    kept("no checksum", record(lambda r: r.pop("sum"))),
    kept("no batch, with its checksum", record(lambda r: r.update(batch=None), valid=True)),
    kept(
        "a reply that is a number, with its checksum",
        record(lambda r: [a.__setitem__(0, 7) for _, one in r["batch"] for a in one], valid=True),
    ),
    kept(
        "a reply of two fields, with its checksum",
        record(lambda r: [a.pop() for _, one in r["batch"] for a in one], valid=True),
    ),
    kept("findings that are none, with their checksum", record(lambda r: _spoil_findings(r), valid=True)),
    kept(
        "a flipped byte in each line",
        lines(lambda found: [line[:50] + bytes([line[50] ^ 1]) + line[51:] for line in found]),
    ),
    kept("every line twice", lines(lambda found: found * 2)),
    kept("lines in another order", lines(lambda found: found[::-1])),
    kept("half of the lines", lines(lambda found: found[::2])),
    kept("another model's folder", _model_folder("0" * 32)),
    kept("a folder in a file's place", lambda f: [(file.unlink(), file.mkdir()) for file in _files(f)]),
    kept("a file in the cache's place", lambda f: (shutil.rmtree(f), f.write_text("x"))),
    kept(
        "a file in the model's place",
        lambda f: [(shutil.rmtree(p), p.write_text("x")) for p in list(f.iterdir()) if p.is_dir()],
    ),
]


def _one_row(folder: Path) -> None:
    """All rows of the head the same but one, which is far larger."""

    def apply(weights: dict) -> None:
        head = (
            weights["language_model.lm_head.weight"]
            if "language_model.lm_head.weight" in weights
            else weights["lm_head.weight"]
        )
        head[:] = head[0]

    edit_weights(apply)(folder)


def _spoil_findings(whole: dict) -> None:
    """The engine's findings (JSON in a reply) become other JSON."""
    for _, answers in whole["batch"]:
        for answer in answers:
            if isinstance(answer[0], str) and answer[0].startswith("{"):
                answer[0] = '{"continuations": [], "secrets": [], "answers": []}'
