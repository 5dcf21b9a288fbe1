"""How many rows a model works on when replies may be kept, and pictures that are others than before."""

import io

from PIL import Image, ImageOps

from remem_tasks.harness.remem_hf import RememHF
from support.scripted import run


def mirrored(cell, change=ImageOps.flip):
    """A picture cell with its picture changed."""
    buffer = io.BytesIO()
    change(Image.open(io.BytesIO(cell["bytes"])).convert("RGB")).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": cell["path"]}


def counting(monkeypatch, checkpoint, cache, variable, task):
    """call(data) → how many rows the model had to work on, replies being kept from one call to the next.

    Args:
        variable: which names the data.
    """
    worked, work = [], RememHF._work

    def counted(self, state, chats, *others):
        worked.append(len(chats))
        return work(self, state, chats, *others)

    monkeypatch.setattr(RememHF, "_work", counted)
    monkeypatch.setenv("REMEM_METRICS", "em")

    def call(data):
        worked.clear()
        monkeypatch.setenv(variable, str(data))
        run(RememHF(str(checkpoint), device="cpu", cache=str(cache)), task, gen_kwargs="max_new_tokens=2")
        return sum(worked)

    return call
