"""Train with a forget method: check everything, train, save a checkpoint that any tool loads.

accelerate launch unlearning/train.py --method npo --model_name_or_path CKPT --data DATA --output_dir OUT
accelerate launch -m unlearning.train --config unlearning/configs/npo.yaml --use_peft
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

if __name__ == "__main__" and Path(sys.path[0]).resolve() == Path(__file__).resolve().parent:
    # Run as a script, Python puts this folder first: its `data.py` would answer to any `import data`.
    _root = Path(__file__).resolve().parent.parent
    sys.path[0] = str(_root)
    if (
        _root.name == "packaged"
    ):  # of an installed remem_tasks, which is found even where nothing else leads to it
        sys.path.append(str(_root.parent.parent))
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

from remem_tasks.errors import RememError, exit_on_error
from remem_tasks.terminal import starts


def main() -> int:
    """The command line: errors in one line, told once in a run of several processes."""
    rank = int(os.environ.get("RANK", "0"))
    if not rank:
        starts("unlearning")

    def body() -> int:
        from unlearning.run import run

        try:
            return run(sys.argv[1:])
        except RememError:
            if rank:
                # The first process has met the same fault and tells it; the launcher then ends this one.
                time.sleep(10)
            raise

    return exit_on_error(body, "unlearning")


if __name__ == "__main__":
    sys.exit(main())
