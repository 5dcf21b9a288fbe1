"""How gate and report read the samples."""

from remem_tasks.benchmarks.mine.data import HOME, questions_of

from remem_tasks.benchmarks.view import BenchmarkView, pictures_of_questions

VIEW = BenchmarkView(
    "mine", ("em",), "EM", pictures_of_questions(HOME, lambda source, split, _: questions_of(source, split))
)
