"""MuJoCo, imported so that a renderer which is named but absent stops pictures alone.

MuJoCo enters the backend that $MUJOCO_GL names while it is imported, and fails where that is unknown or not installed;
physics, training and evaluation need none.
"""

from __future__ import annotations

import importlib
import os

NAME = "MUJOCO_GL"


def _imported() -> str | None:
    """Import MuJoCo, without any renderer if the one that is named fails; why it failed."""
    try:
        importlib.import_module("mujoco")
    except (RuntimeError, AttributeError, OSError) as error:  # by backend; a package that is missing is an ImportError
        named = os.environ.get(NAME)
        if named is None:
            raise
        os.environ[NAME] = "disabled"
        try:
            importlib.import_module("mujoco")
        finally:
            os.environ[NAME] = named  # processes that render are started with what the user wants
        return f"{NAME}={named} does not load: {error}"
    return None


#: Why nothing can be rendered in this process; None: MuJoCo has found a renderer, or says itself why not.
no_renderer = _imported()

import mujoco  # noqa: E402

__all__ = ["mujoco", "no_renderer"]
