"""How gate and report read OFFSIDE's samples."""

from remem_tasks.benchmarks.offside.data import HOME, questions_of
from remem_tasks.benchmarks.view import BenchmarkView, pictures_of_questions

VIEW = BenchmarkView(
    "offside",
    ("right", "rougel"),
    "answered",
    pictures_of_questions(HOME, questions_of),
    trained=("generation",),
    judged=("visual",),
    kinds=("kind",),
)
