"""How gate and report read MLUBench's samples."""

from remem_tasks.benchmarks.mlubench.data import HOME, questions_of
from remem_tasks.benchmarks.view import BenchmarkView, pictures_of_questions

VIEW = BenchmarkView(
    "mlubench",
    ("rouge_recall",),
    "ROUGE-L recall",
    pictures_of_questions(HOME, questions_of),
    judged=("visual",),
    kinds=("kind",),
)
