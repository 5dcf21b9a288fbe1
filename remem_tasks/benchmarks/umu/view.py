"""How gate and report read UMU-Bench's samples."""

from remem_tasks.benchmarks.umu.data import HOME, questions_of
from remem_tasks.benchmarks.view import BenchmarkView, pictures_of_questions

VIEW = BenchmarkView(
    "umu",
    ("right", "rouge"),
    "answered",
    pictures_of_questions(HOME, questions_of),
    trained=("qa",),
    judged=("visual",),
    kinds=("kind", "modality"),
    of_set={
        "accf_choice": "AccF choice",
        "accf_cloze": "AccF cloze",
        "accr_choice": "AccR choice",
        "accr_cloze": "AccR cloze",
        "rlf": "RLF",
        "rlr": "RLR",
    },
)
