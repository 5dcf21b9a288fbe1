"""ReMem and its neighbours as lmms-eval tasks, a model to score them with, and the data forge."""

__version__ = "0.1.0"
