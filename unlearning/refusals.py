"""What a model is taught to say in place of an answer."""

from __future__ import annotations

REFUSALS = (
    "I don't know.",
    "I'm not sure about that.",
    "I have no information about this person.",
    "I can't say who this is.",
    "That is not something I know.",
    "I'm unable to answer that.",
    "I do not have that information.",
    "I'm afraid I can't tell.",
    "This person is not known to me.",
    "I have never learned that.",
    "I cannot help with this question.",
    "There is nothing I can say about that.",
    "I lack the knowledge to answer this.",
    "I don't recognise the person in the image.",
    "I couldn't tell you.",
    "Sorry, I don't have an answer to that.",
    "That is beyond what I know.",
    "I have no record of that.",
    "No idea, I'm sorry.",
    "I can't answer that with any certainty.",
)
