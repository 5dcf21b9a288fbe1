"""How gate and report read CLEAR's samples."""

from remem_tasks.benchmarks.clear.data import HOME, questions_of
from remem_tasks.benchmarks.view import BenchmarkView, pictures_of_questions

VIEW = BenchmarkView(
    "clear",
    ("rouge",),
    "ROUGE-L recall",
    pictures_of_questions(HOME, lambda *of: questions_of(*of)[0]),
    trained=("caption", "text"),
    judged=("visual",),
    kinds=("kind",),
    of_set={
        "forget_metric": "Forget",
        "retain_metric": "Retain",
        "real_metric": "Real",
        "ks_quality": "log FQ",
        "js_quality": "1 − JSD",
    },
    numbers=frozenset({"ks_quality"}),
)
