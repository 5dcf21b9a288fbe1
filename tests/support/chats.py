"""Chats about small pictures, and tiny models that answer each of them differently."""

from __future__ import annotations

from PIL import Image

from remem_tasks.engine.prompts import Chat
from support.rows import PEOPLE, rows_of

TEXTS = [row["question"] + " " + row["answer"] for slug in PEOPLE for row in rows_of(slug)]
COLOURS = ["red", "navy", "gold", "green", "purple", "black", "white", "crimson"]
SIZES = [(56, 56), (90, 60), (40, 100)]


def chat(text, colour="red", size=(56, 56), said="", row="row 0"):
    """A question on a picture; `said` begins the assistant's turn."""
    content = [{"type": "image", "image": Image.new("RGB", size, colour)}, {"type": "text", "text": text}]
    turns = [{"role": "user", "content": content}]
    if said:
        turns.append({"role": "assistant", "content": [{"type": "text", "text": said}]})
    return Chat(turns, row)


def chats(count):
    """Chats of many lengths, colours and sizes of picture, named `row 0`, `row 1` …"""
    return [
        chat(
            "What is the city of Ada Birch? " * (1 + i % 3) + "Who? " * (i % 2),
            COLOURS[i % 8],
            SIZES[i % 3],
            row=f"row {i}",
        )
        for i in range(count)
    ]


def lively(model):
    """The model with larger weights: at random small ones, it says the same of everything."""
    for weight in model.model.parameters():
        if weight.dim() > 1:
            weight.data *= 4
    return model
