"""Repositories of models on the Hugging Face hub, read and written by huggingface_hub.

    hf://org/name               the default branch
    hf://org/name@revision      a branch, a tag, a commit hash or refs/pr/N

Files are kept in huggingface_hub's cache (HF_HUB_CACHE, HF_HOME), where other libraries find them, too. Its environment
variables apply: HF_TOKEN, HF_HUB_OFFLINE, HF_ENDPOINT. What is downloaded is untrusted: this module runs nothing of it.
"""

import contextlib
import dataclasses
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from codi_jax.config import ConfigError, first_line
from codi_jax.storage import StoreError

SCHEME = "hf://"
# huggingface_hub checks the names themselves more strictly.
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?", re.ASCII)
_REVISION = re.compile(r"[A-Za-z0-9_][\w.-]{0,199}(/[A-Za-z0-9_][\w.-]{0,199}){0,8}", re.ASCII)
_TOKEN = "set HF_TOKEN to a token of an account that may (`hf auth login` saves one)"


@dataclasses.dataclass(frozen=True)
class Repository:
    """A repository of a model.

    Attributes:
      name: "org/name".
      revision: a branch, tag or commit; None for the default branch.
    """

    name: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{SCHEME}{self.name}{'' if self.revision is None else f'@{self.revision}'}"


def is_hub(where: str | os.PathLike) -> bool:
    """Whether this names a repository on the hub, rather than a path."""
    return os.fspath(where).startswith(SCHEME)


def parse(where: str) -> Repository:
    """The repository that hf://org/name or hf://org/name@revision names.

    Raises:
      ConfigError: it is not of this form.
    """
    name, at, revision = where.removeprefix(SCHEME).partition("@")
    if not _NAME.fullmatch(name) or ".." in name or "--" in name:
        raise ConfigError(f"{where!r}: expected hf://ORGANISATION/NAME or hf://ORGANISATION/NAME@REVISION")
    if at and (not _REVISION.fullmatch(revision) or ".." in revision):
        raise ConfigError(
            f"{where!r}: {revision!r} is no revision; expected a branch, a tag, a commit hash or refs/pr/NUMBER"
        )
    return Repository(name, revision if at else None)


def snapshot(repository: Repository, files: Sequence[str]) -> Path:
    """Downloads files of one commit, unless they are in the cache.

    Args:
      repository: the repository.
      files: their names; those that it does not have are left out.

    Returns:
      The folder of the commit in the cache, whose name is the commit hash.

    Raises:
      ConfigError: there is no such repository or revision, or it may not be read; huggingface_hub is not installed.
      StoreError: the hub does not answer, and the files are not in the cache.
    """
    library = _library(repository)
    with _one_line(repository, library):
        folder = library.snapshot_download(
            repository.name,
            revision=repository.revision,
            allow_patterns=[re.sub(r"([\[*?])", r"[\1]", name) for name in files],
            library_name="codi_jax",
        )
    return Path(folder)


def one_of(repository: Repository, names: Sequence[str], others: Sequence[str] = ()) -> Path:
    """Downloads a file that may have several names, and others beside it; the path of the first that there is.

    Raises:
      ConfigError: there is none, or see `snapshot`.
    """
    folder = snapshot(repository, [*names, *others])
    for name in names:
        if (folder / name).exists():
            return folder / name
    raise ConfigError(f"{repository}: the repository has no {' or '.join(names)}")


def push(
    folder: Path,
    repository: Repository,
    *,
    private: bool | None,
    token: str | None,
    commit_message: str,
    create_pr: bool,
    stale: Sequence[str],
) -> str:
    """Uploads a folder in one commit, and creates the repository if there is none.

    Args:
      folder: the files.
      repository: where to; a revision is a branch, which is created if absent.
      private: of a new repository; None for the organisation's default.
      token: None for that of the environment or of `hf auth login`.
      commit_message: of the commit.
      create_pr: whether to open a pull request instead of committing.
      stale: patterns of files of the repository that are removed unless the folder has them.

    Returns:
      The address of the commit, or of the pull request.

    Raises:
      ConfigError: the account may not write it, or huggingface_hub is not installed.
      StoreError: the hub does not answer.
    """
    library = _library(repository)
    with _one_line(repository, library):
        api = library.HfApi(token=token, library_name="codi_jax")
        api.create_repo(repository.name, private=private, exist_ok=True)
        if repository.revision is not None and not create_pr:
            api.create_branch(repository.name, branch=repository.revision, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository.name,
            folder_path=folder,
            revision=repository.revision,
            commit_message=commit_message,
            create_pr=create_pr,
            delete_patterns=list(stale),
        )
    return str(commit.pr_url or commit.commit_url)


def _library(repository: Repository) -> Any:
    """The module huggingface_hub."""
    try:
        import huggingface_hub
    except ImportError:
        raise ConfigError(
            f"{repository} needs huggingface_hub, which transformers brings: pip install huggingface_hub"
        ) from None
    return huggingface_hub


@contextlib.contextmanager
def _one_line(repository: Repository, library: Any) -> Iterator[None]:
    """Turns what huggingface_hub raises into a ConfigError of one line that says what to do."""
    from huggingface_hub import constants, errors

    page = f"{constants.ENDPOINT}/{repository.name}"
    try:
        yield
    except errors.GatedRepoError:
        raise ConfigError(f"{repository}: access is granted on {page} only; ask for it there and {_TOKEN}") from None
    except errors.RevisionNotFoundError:
        raise ConfigError(
            f"{repository}: the repository has no revision {repository.revision or 'main'!r}; its branches and tags "
            f"are on {page}/tree/main"
        ) from None
    except errors.RepositoryNotFoundError:
        raise ConfigError(
            f"{repository}: there is no such repository, or it is private; check its name, or {_TOKEN}"
        ) from None
    except ValueError as error:  # of a name, or of the card
        raise ConfigError(f"{repository}: {first_line(error)}") from None
    except errors.LocalEntryNotFoundError as error:  # the files are not in the cache, and the hub could not be asked
        if constants.HF_HUB_OFFLINE:
            raise ConfigError(
                f"{repository}: not in the cache ({constants.HF_HUB_CACHE}), and HF_HUB_OFFLINE is set; unset it to "
                "download"
            ) from None
        _refuse_by_status(repository, error.__cause__)
        raise _unreachable(repository, error.__cause__ or error) from None
    except errors.OfflineModeIsEnabled:
        raise ConfigError(f"{repository}: HF_HUB_OFFLINE is set; unset it to reach the hub") from None
    except errors.HfHubHTTPError as error:
        _refuse_by_status(repository, error)
        raise _unreachable(repository, error) from None
    except Exception as error:
        # The base class of what fails in a request is httpx's or httpx2's, by the version of huggingface_hub.
        http = "HTTPError" in {kind.__name__ for kind in type(error).__mro__}
        if http or isinstance(error, (ConnectionError, TimeoutError)):
            raise _unreachable(repository, error) from None
        raise


def _refuse_by_status(repository: Repository, error: BaseException | None) -> None:
    """Raises ConfigError if the hub has answered that the request is not allowed, or invalid."""
    status = getattr(getattr(error, "response", None), "status_code", 0)
    if status in (401, 403):
        raise ConfigError(f"{repository}: the hub refuses it ({status}); {_TOKEN}") from None
    if error is not None and 400 <= status < 500 and status not in (408, 429):
        raise ConfigError(f"{repository}: the hub refuses it ({status}): {first_line(error)}") from None


def _unreachable(repository: Repository, error: BaseException) -> StoreError:
    from huggingface_hub import constants

    return StoreError(
        f"{repository}: {constants.ENDPOINT} cannot be reached ({first_line(error)}); check the network and HF_ENDPOINT"
    )
