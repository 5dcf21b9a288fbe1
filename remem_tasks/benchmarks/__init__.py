"""Benchmarks by name. A new one is a module here, a line in BENCHMARKS and a folder of YAML in `tasks/`."""

from remem_tasks.benchmarks.base import Benchmark, FailedReply, Metric, Reply, Request, Setting
from remem_tasks.benchmarks.clear import Clear
from remem_tasks.benchmarks.mllmu import Mllmu
from remem_tasks.benchmarks.remem import Remem

BENCHMARKS: dict[str, Benchmark] = {benchmark.name: benchmark for benchmark in (Remem(), Clear(), Mllmu())}

__all__ = ["BENCHMARKS", "Benchmark", "FailedReply", "Metric", "Reply", "Request", "Setting"]
