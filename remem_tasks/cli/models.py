"""`remem base`, `train`, `merge`, `push` and `cache`: checkpoints, and the replies that are kept of them."""

from __future__ import annotations

import argparse
import os

from remem_tasks.errors import RememError
from remem_tasks.processes import run
from remem_tasks.terminal import beating, say
from remem_tasks.training import LAUNCH_HELP, find_ours, launch_command


def _base(args: argparse.Namespace) -> None:
    from remem_tasks.tiny.pretrain import make_base

    report = make_base(
        args.out,
        args.arch,
        pictures=args.pictures,
        epochs=args.epochs,
        image_size=args.image_size,
        seed=args.seed,
        workers=args.workers,
        width=args.width,
    )
    accuracy = ", ".join(f"{part} {value:.2f}" for part, value in report["held_out_accuracy"].items())
    say(f"{args.out}: {report['parameters']:,} parameters, {report['steps']} steps, {report['seconds']} s")
    say(f"parts of unseen people's faces it names right: {accuracy}")


def add_base(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "base",
        help="make a tiny checkpoint that can see: its vision tower learns from people in no benchmark",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--out", required=True, default=argparse.SUPPRESS, help="folder to make; must be empty or absent"
    )
    parser.add_argument(
        "--arch", choices=("llava", "qwen2_5_vl"), default="llava", help="shape of the checkpoint"
    )
    parser.add_argument("--pictures", type=int, default=6000, help="pictures of random people to learn from")
    parser.add_argument("--epochs", type=float, default=16, help="passes over them")
    parser.add_argument(
        "--image-size", type=int, default=56, help="side of the pictures the model sees, in pixels"
    )
    parser.add_argument("--width", type=int, default=192, help="hidden size of its language model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1, help="processes that draw the pictures")
    parser.set_defaults(run=_base)


def _merge(args: argparse.Namespace) -> None:
    from remem_tasks.checkpoints import merge

    with beating(f"merging {args.adapter} into its base"):
        merge(args.adapter, args.out)
    say(f"{args.out}: {args.adapter} merged into its base")


def add_merge(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "merge", help="merge a LoRA adapter into its base, to continue training from it"
    )
    parser.add_argument("--adapter", required=True, help="folder of the adapter; it names its base")
    parser.add_argument("--out", required=True, help="folder to make; must be empty or absent")
    parser.set_defaults(run=_merge)


def _push(args: argparse.Namespace) -> None:
    from remem_tasks.audit.publish import publish

    published = 0
    for item, page in publish(args.folder, args.namespace, args.private, args.dry_run):
        say(f"{item.folder}: {page}", flush=True)
        published += not item.missing
    if not published:
        raise RememError(f"nothing below '{args.folder}' can be published; see above")


def add_push(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "push",
        help="publish the data set and the checkpoints below a folder, such as the demo's, with their cards",
    )
    parser.add_argument("folder", metavar="DIR", help="such as runs/demo, or one checkpoint")
    parser.add_argument("--namespace", help="user or organisation on the Hub; default: the token's user")
    parser.add_argument("--private", action="store_true", help="only for those with access")
    parser.add_argument("--dry-run", action="store_true", help="upload nothing; name the repositories")
    parser.set_defaults(run=_push)


def _cache(args: argparse.Namespace) -> None:
    from remem_tasks.engine import cache

    folder = cache.folder_of()
    if folder is None:
        raise RememError(f"the cache is off: ${cache.VARIABLE} is '{os.environ.get(cache.VARIABLE)}'")
    models, size = cache.size_of(folder)
    if args.clear:
        cache.clear(folder)
    cleared = ", cleared" if args.clear else ""
    say(f"{folder}: replies of {models} model{'' if models == 1 else 's'}, {size / 2**20:.1f} MB{cleared}")


def add_cache(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("cache", help="the replies that remem_hf has kept: their size, and --clear")
    parser.add_argument("--clear", action="store_true", help="remove them")
    parser.set_defaults(run=_cache)


def train(argv: list[str]) -> int:
    """Run the training script under `accelerate launch`; its exit status."""
    if {"-h", "--help", "--help_all"} & set(argv):
        find_ours()
        print(LAUNCH_HELP, flush=True)
        from unlearning.arguments import parse

        parse(argv)
        return 0
    return run(launch_command(argv), os.environ)


def add_train(commands: argparse._SubParsersAction) -> None:
    """For `remem --help`; `main` hands all of its arguments on."""
    commands.add_parser(
        "train", add_help=False, help="train or forget: accelerate launch of the training script"
    )
