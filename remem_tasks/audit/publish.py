"""`remem push`: the data set and every checkpoint below a folder, such as the demo's, each to a Hub repository of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HFValidationError

from remem_tasks.audit.push import push, refusal
from remem_tasks.data import hub
from remem_tasks.errors import RememError

CONFIGS = ("config.json", "adapter_config.json")
WEIGHTS = ("*.safetensors",)
LEFT_OUT = [
    ".*",
    "**/.*",
    "*.tmp",
    "*.partial",
    "checkpoint-*",
    "checkpoint-*/**",
    "*.pt",
    "*.pth",
    "*.bin",
    "runs/**",
]
"""Of a model's folder: what resumes its training, pickles, and a tracker's logs."""


@dataclass(frozen=True)
class Item:
    """Something to be published.

    Attributes:
        kind: `model` or `dataset`.
        name: of its repository, without the namespace.
        missing: why it cannot be published; "" where it can.
    """

    folder: Path
    kind: str
    name: str
    missing: str = ""


def _name(*parts: str) -> str:
    """A repository's name: letters, digits, `-_.`, no two marks in a row."""
    return re.sub(r"[-.]{2,}", "-", re.sub(r"[^\w.-]+", "-", "-".join(parts), flags=re.ASCII)).strip("-.")[
        :96
    ]


def _missing(folder: Path) -> str:
    """Why a checkpoint's folder is not fit to be published; "" if it is."""
    if not any(any(folder.glob(pattern)) for pattern in WEIGHTS):
        return "it has no weights (*.safetensors)"
    if not (folder / "README.md").is_file():
        return "it has no card (README.md), as `remem train` writes when a run is complete"
    return ""


def items_of(folder: str | Path) -> Iterator[Item]:
    """What is below a folder: its `data`, and every checkpoint but those within a training.

    Raises:
        RememError: the folder is not there, or nothing is in it.
    """
    root = Path(folder)
    if not root.is_dir():
        raise RememError(f"'{root}' is not a folder")
    prefix = root.resolve().name
    found = False
    if (root / "data" / "README.md").is_file():
        found = True
        yield Item(root / "data", "dataset", _name(prefix, "data"))
    places = sorted({file.parent for name in CONFIGS for file in root.rglob(name)})
    for place in places:
        if any(re.fullmatch(r"checkpoint-\d+", part) for part in place.relative_to(root).parts):
            continue
        found = True
        name = prefix if place == root else _name(prefix, *place.relative_to(root).parts[-1:])
        yield Item(place, "model", name, _missing(place))
    if not found:
        raise RememError(
            f"nothing to publish below '{root}': no data set in 'data', no checkpoint (config.json)"
        )


def push_model(folder: Path, repo_id: str, private: bool = False) -> str:
    """Upload a checkpoint with its card; the page of the model.

    Raises:
        RememError: no right to write, no network, or a public repository where a private one was asked for.
    """
    api = HfApi()
    try:
        page = api.create_repo(repo_id, private=private or None, exist_ok=True)
        if private and not api.repo_info(page.repo_id).private:
            raise RememError(f"'{repo_id}' is there already, and public; nothing was uploaded")
        api.upload_folder(
            repo_id=page.repo_id, folder_path=folder, ignore_patterns=LEFT_OUT, commit_message="Upload model"
        )
    except RememError:
        raise
    except HFValidationError as error:
        raise RememError(f"'{repo_id}' is not a Hub id such as 'me/my-model'") from error
    except Exception as error:
        raise RememError(f"{folder} could not be pushed to '{repo_id}': {refusal(error, repo_id)}") from error
    return str(page)


def publish(
    folder: str | Path, namespace: str | None = None, private: bool = False, dry_run: bool = False
) -> Iterator[tuple[Item, str]]:
    """Publish all of a folder, one after another; what was published, with its page.

    Args:
        namespace: a user or organisation; None: the token's user.
        private: only those with access may see it.
        dry_run: upload nothing, and name the repositories.

    Raises:
        RememError: no token, two checkpoints of one name, or what `push` and `push_model` raise.
    """
    items = list(items_of(folder))
    names = [(item.kind, item.name) for item in items if not item.missing]
    if twice := next((name for kind, name in names if names.count((kind, name)) > 1), None):
        raise RememError(f"two checkpoints would be '{twice}': push their folders one at a time")
    if not dry_run and get_token() is None:
        raise RememError(f"no token to write to the Hub with ({hub.LOG_IN})")
    if namespace is None and not dry_run:
        try:
            namespace = HfApi().whoami()["name"]
        except Exception as error:
            raise RememError(f"whose repositories? --namespace NAME ({refusal(error, 'yours')})") from error
    for item in items:
        repo_id = f"{namespace or 'NAMESPACE'}/{item.name}"
        if item.missing:
            yield item, f"left out: {item.missing}"
        elif dry_run:
            yield item, repo_id
        elif item.kind == "dataset":
            yield item, push(item.folder, repo_id, private)
        else:
            yield item, push_model(item.folder, repo_id, private)
