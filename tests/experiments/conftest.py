"""Experiments start from a model that has memorised."""

from support.memorised import memorised, train_run  # noqa: F401  fixtures
