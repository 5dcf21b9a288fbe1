"""How gate and report read SafeEraser's samples."""

from remem_tasks.benchmarks.safeeraser.data import HOME, questions_of
from remem_tasks.benchmarks.view import BenchmarkView, pictures_of_questions

VIEW = BenchmarkView(
    "safeeraser",
    ("rouge_f",),
    "ROUGE-L F",
    pictures_of_questions(HOME, questions_of),
    judged=("visual",),
    kinds=("kind", "category"),
)
