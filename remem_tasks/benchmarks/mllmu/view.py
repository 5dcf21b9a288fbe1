"""How gate and report read MLLMU-Bench's samples."""

from remem_tasks.benchmarks.mllmu.data import HOME, questions_of
from remem_tasks.benchmarks.view import BenchmarkView, pictures_of_questions

VIEW = BenchmarkView(
    "mllmu",
    ("accuracy", "cloze", "rougel"),
    "answered",
    pictures_of_questions(HOME, questions_of),
    trained=("generation",),
    judged=("visual",),
    kinds=("kind", "modality"),
)
