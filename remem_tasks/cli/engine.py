"""`--engine`: who does the independent runs of an experiment."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unlearning.experiments.handing_out import Engine


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument(
        "--engine",
        default="here",
        help="who does the runs: here; ray (the cluster of $RAY_ADDRESS, else one on this "
        "machine); slurm, or processes on this machine, through submitit (%(default)s)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        help="runs at a time (here 1, elsewhere 2); more than one here: in forks, which share the cores and need a CPU's models",
    )
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

    usual = 1 if args.engine == "here" else 2
    return Engine(
        args.engine, usual if args.workers is None else args.workers, options_of(args.engine_options)
    )
