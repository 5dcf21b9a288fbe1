"""How gate and report read VLM-UnBench's samples."""

from remem_tasks.benchmarks.view import BenchmarkView, pictures_of_questions
from remem_tasks.benchmarks.vlmunbench.data import HOME, questions_of

VIEW = BenchmarkView(
    "vlmunbench",
    ("micro_said",),
    "accuracy",
    pictures_of_questions(HOME, questions_of),
    judged=("visual",),
    kinds=("level", "kind"),
    of_set={"macro_said": "accuracy by concept", "macro_likeliest": "accuracy by concept, likeliest digit"},
)
