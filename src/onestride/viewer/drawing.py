"""One loop's scene in viser: parts are drawn when they are new, and moved afterwards; some can be dragged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from onestride.tasks.task import Task
from onestride.viewer.parts import CHOSEN, Part, capsule, score_colours, segments
from onestride.viewer.state import LoopState, candidate_paths
from onestride.viewer.views import View

if TYPE_CHECKING:
    import viser

#: Called with the number of a handle and the position that it was dragged to (3,) [m], in the scene's own frame.
OnDrag = Callable[[int, np.ndarray], None]
THIN, THICK = 1.0, 6.0  # lines of candidates and of the chosen plan [px]


class SceneDrawing:
    """The scene of one loop.

    Args:
        scene: viser's.
        state: of the loop.
        task: of the loop.
        view: how the task is shown.
        offset: where the scene stands (3,) [m].
        on_drag: told of what is dragged; None: nothing can be.
    """

    def __init__(
        self,
        scene: viser.SceneApi,
        state: LoopState,
        task: Task,
        view: View,
        offset: np.ndarray,
        on_drag: OnDrag | None,
    ) -> None:
        self.scene, self.state, self.task, self.view, self.offset = scene, state, task, view, offset
        self.shows_candidates = True
        self._on_drag = on_drag
        self._root = f"/{state.link.name}"
        scene.add_frame(self._root, show_axes=False, position=offset)
        self._drawn: dict[str, tuple[Part, Any]] = {}
        self._lines: dict[str, Any] = {}
        self._observation = np.empty(0)
        self._grabbed: tuple[np.ndarray, np.ndarray] | None = None  # a point of the plane of motion, and the offset
        self._show(view.fixed)

    def draw(self) -> None:
        """Draw what is new."""
        seen = None if self.state.tick is None else self.state.tick["observation"]
        if seen is not None and np.isfinite(seen).all() and not np.array_equal(seen, self._observation):
            self._observation = np.array(seen)
            self._show(self.view.parts(self._observation))
        if self.state.fresh or (self._lines and self.shows_candidates != self._lines["candidates"].visible):
            self._plans()

    # ------------------------------------------------------------ parts

    def _show(self, parts: Sequence[Part]) -> None:
        shown = {part.name for part in parts} | {part.name for part in self.view.fixed}
        for name in [name for name in self._drawn if name not in shown]:
            self._drawn.pop(name)[1].remove()
        for part in parts:
            kept: tuple[Part | None, Any] = self._drawn.get(part.name, (None, None))
            before = kept[0]
            handle: Any = kept[1]
            if before is not None and _looks(before) == _looks(part):
                if not np.array_equal(before.position, part.position):
                    handle.position = part.position
                if before.wxyz != part.wxyz:
                    handle.wxyz = part.wxyz
            else:
                if handle is not None:
                    handle.remove()
                handle = self._add(part)
            self._drawn[part.name] = part, handle

    def _add(self, part: Part) -> Any:
        name, scene = f"{self._root}/{part.name}", self.scene
        look: dict[str, Any] = {
            "color": part.colour, "position": part.position, "wxyz": part.wxyz,
            "opacity": None if part.opacity >= 1 else part.opacity, "cast_shadow": False, "receive_shadow": False,
        }  # fmt: skip
        if part.shape == "box":
            made: Any = scene.add_box(name, dimensions=(part.size[0], part.size[1], part.size[2]), **look)
        elif part.shape == "sphere":
            made = scene.add_icosphere(name, radius=part.size[0], **look)
        elif part.shape == "cylinder":
            made = scene.add_cylinder(name, radius=part.size[0], height=part.size[1], **look)
        else:
            made = scene.add_mesh_simple(name, *capsule(part.size[0], part.size[1]), **look)
        if part.handle and self._on_drag is not None:
            made.on_drag("left")(lambda event: self._dragged(event, part, level=True))
            if not self.view.flat:
                made.on_drag("left", modifier="shift")(lambda event: self._dragged(event, part, level=False))
        return made

    def _dragged(self, event: Any, part: Part, *, level: bool) -> None:
        """Move a part with the pointer: in a horizontal plane, or up and down."""
        eye, pointer = np.array(event.client.camera.position), np.array(event.end_position)
        centre = self._drawn[part.name][0].position + self.offset
        if event.phase == "start" or self._grabbed is None:
            grip = np.array(event.start_position)
            self._grabbed = grip, centre - grip
        grip, beside = self._grabbed
        target = on_level(eye, pointer, grip[2]) if level else np.array([grip[0], grip[1], pointer[2]])
        if target is not None and self._on_drag is not None:
            self._on_drag(self.view.handles.index(part.handle), target + beside - self.offset)
        if event.phase == "end":
            self._grabbed = None

    # ------------------------------------------------------------ plans

    def _plans(self) -> None:
        """Draw the candidates by score, and over them the chosen plan."""
        if self.state.decision is None:
            return
        paths, scores, chosen = candidate_paths(self.task, self.state.decision)
        paths, chosen = self.view.paths(paths), self.view.paths(chosen[None])
        self._line("candidates", *segments(paths, score_colours(scores)), THIN, self.shows_candidates)
        self._line("chosen", *segments(chosen, CHOSEN[None].astype(np.uint8)), THICK, visible=True)

    def _line(self, name: str, points: np.ndarray, colours: np.ndarray, thickness: float, visible: bool) -> None:
        line = self._lines.get(name)
        if line is None or len(line.points) != len(points):
            if line is not None:
                line.remove()
            self._lines[name] = self.scene.add_line_segments(
                f"{self._root}/{name}", points, colours, thickness=thickness, thickness_units="screen", visible=visible
            )
            return
        line.points, line.colors, line.visible = points, colours, visible


def _looks(part: Part) -> tuple[Any, ...]:
    return part.shape, part.size, part.colour, part.opacity


def on_level(eye: np.ndarray, pointer: np.ndarray, height: float) -> np.ndarray | None:
    """Return where the ray from an eye (3,) through a pointer (3,) meets the plane z = height (3,) [m].

    None where it does not, or only far away.
    """
    ray = pointer - eye
    if abs(ray[2]) < 1e-9:
        return None
    share = (height - eye[2]) / ray[2]
    return eye + share * ray if 0 < share < 100 else None
