"""MuJoCo, imported such that physics works also where no renderer does.

While it is imported, MuJoCo loads the renderer that $MUJOCO_GL names, and fails where that is unknown or not installed.
Physics, training and evaluation need no renderer.
"""

from __future__ import annotations

import importlib
import os

NAME = "MUJOCO_GL"


def _imported() -> str | None:
    """Import MuJoCo, without a renderer where the named one fails. Return why it failed, or None."""
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


#: Why nothing can be rendered in this process. None: MuJoCo found a renderer, or reports itself that there is none.
no_renderer = _imported()

import mujoco  # noqa: E402

__all__ = ["mujoco", "no_renderer"]
