"""`remem judge`: its arguments."""

from __future__ import annotations

import argparse
import os

from remem_tasks.terminal import console, progress, say


def run(args: argparse.Namespace) -> None:
    """The command."""
    from remem_tasks.endpoint import Endpoint
    from remem_tasks.report.judge import KEY, judge, table_of

    endpoint = Endpoint(
        args.endpoint, args.model, os.environ.get(KEY) or None, args.timeout, args.retries, args.wait
    )
    tasks = [task.strip() for task in (args.tasks or "").split(",") if task.strip()]

    def told(done: int, of: int) -> None:
        if done == of or not done % 100:
            progress(f"{done} of {of} replies judged")

    judged = judge(args.out, args.results, endpoint, args.scale, tasks, args.workers, told)
    console().print(table_of(judged))
    say(f"every verdict: {args.out}/verdicts.jsonl (beside it judge.json and judge.md)")
    judged.check()


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "judge",
        help="what a language model behind an OpenAI-compatible endpoint says of replies that were scored",
    )
    parser.add_argument("results", nargs="+", metavar="RUN", help="as in `remem report`")
    parser.add_argument("--endpoint", required=True, metavar="URL", help="such as http://localhost:8000/v1")
    parser.add_argument(
        "--model",
        required=True,
        help="the endpoint's name of the judge; its key is read from $REMEM_JUDGE_KEY",
    )
    parser.add_argument(
        "--scale",
        choices=("share", "grade", "relevance"),
        default="share",
        help="share: 0 to 1; grade: 0, 1, 2; relevance: relevance and correctness, each 0 to 1 (%(default)s)",
    )
    parser.add_argument("--tasks", help="some of the tasks, by commas; default: all")
    parser.add_argument(
        "--out", default="judged", help="folder to write to (%(default)s); its verdicts are kept"
    )
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds of one try (60)")
    parser.add_argument("--retries", type=int, default=4, help="further tries after one that failed (4)")
    parser.add_argument(
        "--wait",
        type=float,
        default=1.0,
        help="seconds before the second try; twice as long before each further one (1)",
    )
    parser.add_argument("--workers", type=int, default=4, help="requests at a time (4)")
    parser.set_defaults(run=run)
