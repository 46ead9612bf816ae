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


def check_repository(name: str) -> None:
    """Check the name of a repository, and that the package for the upload is installed.

    Raises:
        ChargenError: If the package is not installed.
        ConfigError: If no repository can have this name.
    """
    _, utils, _ = _import_hub()
    try:
        utils.validate_repo_id(name)
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
    hub, utils, errors = _import_hub()
    utils.disable_progress_bars()
    endpoint = os.environ.get("HF_ENDPOINT") or None  # read here, because the package reads it when it is imported
    api = hub.HfApi(endpoint, library_name="chargen", library_version=__version__)
    try:
        url = api.create_repo(repository, private=True, exist_ok=True)
        api.upload_folder(
            repo_id=url.repo_id, folder_path=folder, allow_patterns=list(HUB_FILES),
            commit_message="Upload a chargen model",
        )  # fmt: skip
    except _caught(errors) as error:
        raise _explain(api, repository, error, hub.get_token()) from error
    return str(url)


def _import_hub() -> tuple[Any, Any, Any]:
    """Return the package huggingface_hub, and its modules with utilities and with errors.

    Raises:
        ChargenError: If it is not installed.
    """
    hub, utils, errors = (
        import_extra(f"huggingface_hub{part}", "hub", "an upload to a model hub (--push)")
        for part in ("", ".utils", ".errors")
    )
    return hub, utils, errors


def _caught(errors: Any) -> tuple[type[Exception], ...]:
    """Return the classes of the errors of an upload, with those of the HTTP client that huggingface_hub uses."""
    bases = errors.HfHubHTTPError.__mro__
    of_client = (base for base in bases if issubclass(base, Exception) and base is not Exception)
    return (OSError, ValueError, RuntimeError, *of_client)


def _explain(api: Any, repository: str, error: Exception, token: str | None) -> ChargenError:
    """Return the error for a failed upload: one line without the token, and what to do."""
    cause: BaseException = error
    while cause.__cause__ is not None and getattr(cause, "response", None) is None:
        cause = cause.__cause__
    status = getattr(getattr(cause, "response", None), "status_code", None)
    lines = str(getattr(cause, "server_message", None) or cause).strip().splitlines()
    reason = " ".join((lines or [type(cause).__name__])[0].split())
    if token:
        reason = reason.replace(token, "[token]")
    hint = "The files are in the folder; run the command again to upload them."
    if status in (401, 403):
        hint = "Log in with a token that may write to it: hf auth login, or set HF_TOKEN."
    elif status is None:
        hint = "Check the network connection, and HF_ENDPOINT if it is set. The files are in the folder."
    answer = f"HTTP status {status}: " if status else ""
    return ChargenError(f"the upload to {repository} at {api.endpoint} failed: {answer}{reason}", hint)
