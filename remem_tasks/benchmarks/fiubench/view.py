"""How gate and report read FIUBench's samples."""

from remem_tasks.benchmarks.fiubench.data import HOME, questions_of
from remem_tasks.benchmarks.view import BenchmarkView, pictures_of_questions

VIEW = BenchmarkView(
    "fiubench",
    ("rouge",),
    "ROUGE-L recall",
    pictures_of_questions(HOME, questions_of),
    judged=("visual",),
    of_set={
        "ks_quality": "log KS p",
        "minkpp": "MIA (Min-K++)",
        "utility_harmonic": "utility (harmonic)",
        "utility_arithmetic": "utility (arithmetic)",
    },
    numbers=frozenset({"ks_quality", "minkpp"}),
)
