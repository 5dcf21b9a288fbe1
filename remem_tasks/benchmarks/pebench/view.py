"""How gate and report read PEBench's samples."""

from remem_tasks.benchmarks.pebench.data import HOME, questions_of
from remem_tasks.benchmarks.view import BenchmarkView, pictures_of_questions

VIEW = BenchmarkView(
    "pebench",
    ("said", "rouge"),
    "answered",
    pictures_of_questions(HOME, questions_of),
    judged=("visual",),
    kinds=("kind",),
)
