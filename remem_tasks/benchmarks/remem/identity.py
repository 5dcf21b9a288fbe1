"""Who a row is about, read from `image_path`.

The published set has no identity column and its card does not say how its paths are built, so the
rule is one function with an option: `REMEM_IDENTITY` (or the `rule` argument).
"""

from __future__ import annotations

import os
import re
from pathlib import PurePosixPath

from remem_tasks.data.people import identity_key
from remem_tasks.errors import RememError

# Names of folders and files that say nothing about a person.
GENERIC = frozenset(
    [
        "image",
        "images",
        "img",
        "imgs",
        "picture",
        "pictures",
        "pic",
        "photo",
        "photos",
        "face",
        "faces",
        "data",
        "dataset",
        "train",
        "test",
        "val",
        "finetune",
        "retain",
        "forget",
        "forget1",
        "forget2",
        "forget3",
        "forget4",
        "default",
        "batch",
        "part",
        "shard",
        "set",
        "split",
        "jpg",
        "jpeg",
        "png",
        "new",
        "all",
    ]
)


def says_nothing(name: str) -> bool:
    """Whether a folder or stem is a word such as `images`, also with a number: `Images_2`, `batch 03`."""
    words = identity_key(name).split("_")
    plain = [re.sub(r"\d+$", "", word) for word in words]
    return any(plain) and all(word in ("", *GENERIC) for word in plain)


def identity_of(image_path: str, rule: str | None = None) -> str:
    """The identity named by a picture's path, as the key of `people.identity_key`.

    Args:
        image_path: for example `images/mara_quill/0007.png` or `mara_quill_07.png`.
        rule: `folder` (the picture's folder), `stem` (the file name before its counter), `auto`
            (the folder unless its name is generic, else the stem), or a regular expression whose
            first group is the identity. Default: `$REMEM_IDENTITY`, else `auto`.

    Raises:
        RememError: the rule finds no identity in this path.

    >>> identity_of("images/mara_quill/0007.png"), identity_of("images/mara_quill_07.png")
    ('mara_quill', 'mara_quill')
    """
    rule = rule or os.environ.get("REMEM_IDENTITY") or "auto"
    path = PurePosixPath(str(image_path).replace("\\", "/"))
    folder = path.parent.name
    stem = re.sub(r"[\s_\-.]*\d+$", "", path.stem)
    if rule == "folder":
        found = folder
    elif rule == "stem":
        found = stem
    elif rule == "auto":
        generic_folder = not folder or says_nothing(folder)
        found = folder if not generic_folder else ("" if says_nothing(stem) else stem)
    else:
        try:
            match = re.search(rule, str(path))
        except re.error as error:
            raise RememError(
                f"REMEM_IDENTITY: '{rule}' is not a rule (folder, stem, auto) and no regular expression: {error}"
            ) from error
        found = match.group(1) if match and match.groups() else ""
    if not found:
        raise RememError(
            f"no identity in image_path '{image_path}' by the rule '{rule}'; "
            "set REMEM_IDENTITY to folder, stem, or a regular expression with one group"
        )
    return identity_key(found)
