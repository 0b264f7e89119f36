"""What is looked at before a server starts, so that what is wrong is said in a sentence."""

from __future__ import annotations

from pathlib import Path

from tridex.encoding import ArtifactError, latest_version_dir, load_artifact

from .errors import ServerError


def check_repository(repository: Path) -> None:
    """Raises ServerError where there is no model repository with a usable encoder."""
    try:
        if not repository.is_dir():
            raise ServerError(
                f"there is no model repository at {repository}; `make export` or `tridex export` makes one"
            )
        if not (repository / "search" / "config.pbtxt").exists():
            raise ServerError(f"{repository} is not Tridex's model repository: it has no search/config.pbtxt")
        load_artifact(latest_version_dir(repository / "encoder"))
    except ArtifactError as error:
        raise ServerError(str(error)) from error
    except OSError as error:
        raise ServerError(f"the model repository cannot be read: {error.filename}: {error.strerror}") from error


def check_store(store: Path) -> None:
    """Makes the store's folder, for its owner alone, where there is none; raises ServerError where that cannot be.

    A store that can be read and not written is served.
    """
    doing = "made"
    try:
        store.mkdir(mode=0o700, parents=True, exist_ok=True)
        doing = "read"
        next(store.iterdir(), None)
    except FileExistsError as error:
        raise ServerError(f"the store {store} is a file; expected a folder") from error
    except OSError as error:
        raise ServerError(
            f"the store {store} cannot be {doing}: {error.strerror}; choose another by --store"
        ) from error
