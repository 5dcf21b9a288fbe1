"""How gate and report read UnLOK-VQA's samples."""

from remem_tasks.benchmarks.unlok.data import HOME, questions_of
from remem_tasks.benchmarks.view import BenchmarkView, pictures_of_questions

VIEW = BenchmarkView(
    "unlok",
    ("accuracy",),
    "accuracy",
    pictures_of_questions(HOME, questions_of),
    trained=("fact", "neighbour"),
    judged=("visual",),
    kinds=("kind",),
)
