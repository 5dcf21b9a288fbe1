"""`--engine`: who does the independent runs of an experiment."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from remem_tasks.errors import RememError

if TYPE_CHECKING:
    from unlearning.experiments.handing_out import Engine


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument(
        "--engine",
        default="here",
        help="who does the runs: here, one after the other; ray (the cluster of $RAY_ADDRESS, else one on this "
        "machine); slurm, or processes on this machine, through submitit (%(default)s)",
    )
    parser.add_argument("--workers", type=int, help="runs at a time, of another engine than here (2)")
    parser.add_argument(
        "--engine_options",
        default="",
        metavar="NAME=VALUE,…",
        help="of a run: for ray num_cpus, num_gpus; for slurm slurm_partition, timeout_min, gpus_per_node",
    )


def engine_of(args: argparse.Namespace) -> Engine:
    """What the flags say.

    Raises:
        RememError: an unknown engine, or options that cannot be read.
    """
    from unlearning.experiments.handing_out import Engine, options_of

    if args.engine == "here" and args.workers is not None:
        raise RememError("--workers is of another engine than here, which does one run after the other")
    return Engine(args.engine, 2 if args.workers is None else args.workers, options_of(args.engine_options))
