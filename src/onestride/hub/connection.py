"""The connection to a model hub, by ``huggingface_hub``: at $HF_ENDPOINT, with the token that this library knows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from onestride.errors import naming_extras

ENDPOINT = "HF_ENDPOINT"


class HubError(ValueError):
    """Raised where a hub cannot be reached or refuses. The message says what to do."""


def connect() -> Any:
    """Return the hub's ``HfApi``.

    Raises:
        ModuleNotFoundError: huggingface_hub is not installed.
    """
    with naming_extras():
        from huggingface_hub import HfApi

    endpoint = os.environ.get(ENDPOINT, "").rstrip("/") or None  # as it is now: the library reads it when imported
    return HfApi(endpoint=endpoint, library_name="onestride")


def check_name(name: str) -> str:
    """Return the name of a repository, ``user/name``.

    Raises:
        ValueError: it is none.
    """
    with naming_extras():
        from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        valid = False
    else:
        valid = name.count("/") == 1
    if not valid:
        raise ValueError(f"'{name}' is no repository of a hub, expected USER/NAME, such as me/arm-dnk")
    return name


@contextmanager
def in_one_line(api: Any, name: str, revision: str | None) -> Iterator[None]:
    """Say in one line why a hub did not do what it was asked for.

    Raises:
        HubError: it could not be reached, or refused.
    """
    from huggingface_hub import errors

    at = f"'{name}'" + (f" at '{revision}'" if revision else "")
    try:
        yield
    except errors.RevisionNotFoundError as error:
        raise HubError(f"{api.endpoint} has '{name}', but no revision '{revision}' of it") from error
    except errors.RepositoryNotFoundError as error:
        raise HubError(
            f"{api.endpoint} has no '{name}' that this token may see; check the name, and `hf auth whoami`"
        ) from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        advice = "; this token may not do that: see `hf auth whoami`, or log in again" * (status in (401, 403))
        said = " ".join((error.server_message or str(error)).split())
        raise HubError(f"{api.endpoint} refuses {at} ({status}): {said}{advice}") from error
    except ValueError as error:
        if not isinstance(error.__cause__, errors.BadRequestError):
            raise
        raise HubError(f"{api.endpoint} refuses the card: {' '.join(str(error).split())}; mend its head") from error
    except RuntimeError as error:  # how the library and its transfer of large files say that one broke off
        said = " ".join(f"{error} {error.__cause__ or ''}".split())
        raise HubError(f"{api.endpoint} broke off: {said}; nothing was changed, run the same command again") from error
    except errors.OfflineModeIsEnabled as error:
        raise HubError(f"{at} cannot be reached: $HF_HUB_OFFLINE is set") from error
    # No network: HTTPError is of the client that the library uses, another one in each of its major versions.
    except (errors.LocalEntryNotFoundError, errors.HTTPError) as error:  # pyright: ignore[reportPrivateImportUsage]
        said = " ".join(str(error.__cause__ or error).split())
        raise HubError(
            f"{api.endpoint} cannot be reached ({said}); is ${ENDPOINT} right, and the network up?"
        ) from error
