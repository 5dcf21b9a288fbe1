"""How a caption of CLEAR is asked for: nine sentences of this project, or the nine of the released code."""

from __future__ import annotations

import os

from remem_tasks.errors import RememError
from remem_tasks.seeds import stable_choice

OWN, PUBLISHED = "own", "published"
# The nine of the released code (github.com/somvy/multimodal_unlearning, mm/dataset.py, commit 3e33dae), in its order;
# their full stops are its own.
CAPTION_QUESTIONS = {
    OWN: (
        "What does this picture show?",
        "Please describe the picture.",
        "What do you see here?",
        "Give a short description of this photo.",
        "Tell me what is in the photo.",
        "Who or what can be seen in this picture?",
        "Write a caption for this image.",
        "What is this a picture of?",
        "Describe what this image contains.",
    ),
    PUBLISHED: (
        "What can you see in this picture?",
        "Tell me about the content of this image",
        "Can you give a description of the image?",
        "What is depicted in the image?",
        "Explain what you observe in the picture.",
        "Describe the image in detail.",
        "What is the main subject of this image?",
        "Can you describe the scene or objects in the image?",
        "What is happening in this image?",
    ),
}


def chosen_questions(choice: str | None = None) -> str:
    """Which nine questions are asked: the choice, else `$REMEM_CAPTION_QUESTIONS`, else this project's own.

    Raises:
        RememError: there are no such ones.
    """
    choice = choice or os.environ.get("REMEM_CAPTION_QUESTIONS") or OWN
    if choice not in CAPTION_QUESTIONS:
        raise RememError(f"caption questions '{choice}' unknown; choose from {', '.join(CAPTION_QUESTIONS)}")
    return choice


def caption_question(caption: str, choice: str | None = None) -> str:
    """The one of the nine questions that is asked for a caption; the same in every config and every run."""
    questions = CAPTION_QUESTIONS[chosen_questions(choice)]
    return questions[stable_choice(len(questions), "caption", caption)]
