"""Where a model lies: a folder of this machine, or a name on the Hugging Face hub, which is fetched into its cache."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Final

from mmae.errors import InputError
from mmae.model.saved.saved_config import CONFIG_NAME
from mmae.model.saved.saved_model import WEIGHTS_NAME

_HUB_NAME: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def model_folder(source: str | Path, revision: str | None = None, **download: Any) -> Path:
    """The folder of a model, after it has been fetched if it is on the hub.

    Args:
        source: a folder, or `owner/name` on the hub. A folder that exists is taken first.
        revision: branch, tag or commit on the hub; None: its main branch.
        download: further arguments of `huggingface_hub.snapshot_download` (`cache_dir`, `token`, `local_files_only`).

    Raises:
        InputError: there is no such folder and no such model on the hub, or the hub cannot be reached.
    """
    if not isinstance(source, str | os.PathLike):
        raise InputError(f"{source!r:.80} is no path: name a folder that `mmae export` wrote, or owner/name on the hub")
    folder = Path(source)
    if folder.exists():
        if revision is not None:
            raise InputError(f"revision {revision!r}: {folder} is a folder here, and only models on the hub have them")
        return folder
    if not _HUB_NAME.fullmatch(str(source)):
        raise InputError(f"{source} does not exist: name a folder that `mmae export` wrote, or owner/name on the hub")
    return _fetched(str(source), revision, download)


def _fetched(name: str, revision: str | None, download: dict[str, Any]) -> Path:
    # Imported here: it takes long, and most models are folders.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        # Nothing else of a repository is fetched: neither code nor pickles.
        found = snapshot_download(name, revision=revision, allow_patterns=[CONFIG_NAME, WEIGHTS_NAME], **download)
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        at = "" if revision is None else f" at revision {revision!r}"
        reason = " ".join(str(error).split("\n\n")[-1].split()) or type(error).__name__
        raise InputError(f"{name} is no folder here, and cannot be fetched from the hub{at}: {reason}") from None
    return Path(found)
