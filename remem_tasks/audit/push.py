"""`remem data push`: a folder with a data set becomes a repository on the Hub."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from remem_tasks.benchmarks.registry import data_of, detect
from remem_tasks.data import hub
from remem_tasks.data.source import known_configs
from remem_tasks.errors import RememError

LEFT_OUT = [".*", "**/.*", "*.tmp", "*.partial"]


def _check(folder: Path) -> None:
    """Raise a RememError unless the folder loads from the Hub as it stands: a card, and sound rows in each split."""
    if not folder.is_dir():
        raise RememError(f"'{folder}' is not a folder")
    data = data_of(detect(str(folder))[0])
    if hasattr(data, "check_folder"):
        data.check_folder(str(folder))
    else:
        known_configs(str(folder), data.HOME)


def refusal(error: Exception, repo_id: str) -> str:
    """Why the Hub takes nothing, in one line."""
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if status == 401:
        return f"the Hub does not accept the token ({hub.LOG_IN})"
    if status == 403:
        return f"the token has no right to write to '{repo_id}'"
    return hub.reason(error)


def push(folder: str | Path, repo_id: str, private: bool = False) -> str:
    """Upload a data set to the Hub; what the repository holds of an earlier one is replaced.

    Parquet files that the folder does not have are deleted there, as they would count as rows of its
    splits. A call that was cut off is made good by calling again.

    Args:
        folder: card, parquet files, pictures of the card, as `remem forge` and `pull` leave them.
        repo_id: `namespace/name`; made if it is not there.
        private: only those with access may see it. A repository that is public already is refused.

    Returns:
        The page of the data set.

    Raises:
        RememError: no complete data set in the folder, no token, no right to write, no network.
    """
    folder = Path(folder)
    _check(folder)
    if get_token() is None:
        raise RememError(f"no token to write to the Hub with ({hub.LOG_IN})")
    api = HfApi()
    try:
        page = api.create_repo(repo_id, repo_type="dataset", private=private or None, exist_ok=True)
        if private and not api.repo_info(page.repo_id, repo_type="dataset").private:
            raise RememError(f"'{repo_id}' is there already, and public; nothing was uploaded")
        api.upload_folder(
            repo_id=page.repo_id,
            repo_type="dataset",
            folder_path=folder,
            ignore_patterns=LEFT_OUT,
            delete_patterns="*.parquet",
            commit_message="Upload data set",
        )
    except RememError:
        raise
    except HFValidationError as error:
        raise RememError(f"'{repo_id}' is not a Hub id such as 'me/my-set'") from error
    except Exception as error:
        raise RememError(f"{folder} could not be pushed to '{repo_id}': {refusal(error, repo_id)}") from error
    return str(page)
