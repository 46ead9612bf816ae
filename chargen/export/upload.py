"""Upload a folder to a model hub with the package huggingface_hub, which finds the token and the address of the hub.

The token is that of the variable HF_TOKEN or of `hf auth login`; it is in no message. HF_ENDPOINT names another hub.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from chargen import __version__
from chargen.errors import ChargenError, ConfigError
from chargen.export.hub import HUB_FILES
from chargen.registry import import_extra

FEATURE = "an upload to a model hub (--push)"


def check_repository(name: str) -> None:
    """Check the name of a repository, and that the package for the upload is installed.

    Raises:
        ChargenError: If the package is not installed.
        ConfigError: If no repository can have this name.
    """
    hub = import_extra("huggingface_hub", "hub", FEATURE)
    try:
        hub.utils.validate_repo_id(name)
    except ValueError as error:
        raise ConfigError(f"{name!r} cannot name a repository: {error}", "Write it as PERSON/MODEL.") from error


def push_folder(folder: Path, repository: str) -> str:
    """Upload the files for a model hub to a repository, which is created as a private one if there is none.

    Args:
        folder: A folder that `write_hub_folder` wrote.
        repository: Name of the repository, "person/model".

    Returns:
        The address of the repository.

    Raises:
        ChargenError: If the package is not installed, the hub cannot be reached, or it refuses the upload.
        ConfigError: If no repository can have this name.
    """
    check_repository(repository)
    hub = import_extra("huggingface_hub", "hub", FEATURE)
    hub.utils.disable_progress_bars()
    endpoint = os.environ.get("HF_ENDPOINT") or None  # read here, because the package reads it when it is imported
    api = hub.HfApi(endpoint, library_name="chargen", library_version=__version__)
    try:
        url = api.create_repo(repository, private=True, exist_ok=True)
        api.upload_folder(
            repo_id=url.repo_id, folder_path=folder, allow_patterns=list(HUB_FILES),
            commit_message="Upload a chargen model",
        )  # fmt: skip
    except _errors(hub) as error:
        raise _explain(hub, api, repository, error) from error
    return str(url)


def _errors(hub: Any) -> tuple[type[Exception], ...]:
    """Return the classes of the errors of an upload, with those of the HTTP client that huggingface_hub uses."""
    bases = hub.errors.HfHubHTTPError.__mro__
    of_client = (base for base in bases if issubclass(base, Exception) and base is not Exception)
    return (OSError, ValueError, RuntimeError, *of_client)


def _explain(hub: Any, api: Any, repository: str, error: Exception) -> ChargenError:
    """Return the error for a failed upload: one line without the token, and what to do."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    reason = str(getattr(error, "server_message", None) or error).strip()
    reason = " ".join((reason.splitlines() or [type(error).__name__])[0].split())
    token = hub.get_token()
    if token:
        reason = reason.replace(token, "[token]")
    if status in (401, 403):
        hint = "Log in with a token that may write to it: hf auth login, or set HF_TOKEN."
    elif status is None:
        hint = "Check the network connection, and HF_ENDPOINT if it is set. The files are in the folder."
    else:
        hint = "The files are in the folder; run the command again to upload them."
    what = f"{api.endpoint} refused it with HTTP status {status}" if status else f"{api.endpoint} cannot be reached"
    return ChargenError(f"the upload to {repository} failed: {what}: {reason}", hint)
