"""The viewer: a viser server that draws what loops publish. It reads their newest records and never makes them wait."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Sequence

import numpy as np

from onestride.errors import naming_extras
from onestride.tasks.task import Task
from onestride.viewer.drawing import SceneDrawing
from onestride.viewer.panel import Panel
from onestride.viewer.records import Link
from onestride.viewer.state import LoopState
from onestride.viewer.views import View, view_of

RATE = 30.0  # pictures per second, at most
PANEL_EVERY = 0.25  # how often the panel is written anew [s]


class Viewer:
    """A page that shows loops of one task side by side.

    Args:
        links: to the loops.
        task: of all of them.
        host: that is listened at; "0.0.0.0" lets other computers in, who may then drag and inject faults.
        port: that is listened at.
        interactive: whether something can be dragged, faults injected and episodes begun.

    Raises:
        OSError: the port is taken.
        ModuleNotFoundError: viser is not installed.
    """

    def __init__(self, links: Sequence[Link], task: Task, host: str, port: int, interactive: bool = True) -> None:
        check_port(host, port)
        with naming_extras():
            import viser
        self.states = [LoopState(link) for link in links]
        # A browser opens connections ahead and closes them unused: no reason for a traceback.
        logging.getLogger("websockets.server").setLevel(logging.CRITICAL + 1)
        self.server = viser.ViserServer(host=host, port=port, label=f"onestride: {task.name}", verbose=False)
        self.server.gui.configure_theme(control_width="large", show_logo=False, show_share_button=False)
        self.server.gui.main_panel.dock_right()  # beside the scene, not over it
        view = view_of(task)
        self.interactive = interactive
        self.panel = Panel(self.server.gui, self.states, task, _hint(view), interactive)
        self.drawings = [] if view is None else [self._scene(number, task, view) for number in range(len(links))]
        self._drawn = 0.0

    def _scene(self, number: int, task: Task, view: View) -> SceneDrawing:
        scene, state = self.server.scene, self.states[number]
        if number == 0:
            scene.set_up_direction("+z")
            scene.configure_default_lights(cast_shadow=False)  # a browser without a GPU draws twice as fast
            middle = 0.5 * (len(self.states) - 2) * np.array(view.spacing)  # views are made for two
            self.server.initial_camera.position = tuple((np.array(view.eye) + middle).tolist())
            self.server.initial_camera.look_at = tuple((np.array(view.gaze) + middle).tolist())
        offset = number * np.array(view.spacing)
        made = SceneDrawing(scene, state, task, view, offset, self.drag if self.interactive else None)
        scene.add_label(f"/{state.link.name}/name", state.link.name, position=view.label, font_screen_scale=1.3)
        return made

    def drag(self, handle: int, position: np.ndarray) -> None:
        """Ask every loop to move a thing to a position (3,) [m] of its scene."""
        for state in self.states:
            state.move(handle, position)

    def draw(self) -> None:
        """Read what is new, and draw it."""
        for state in self.states:
            state.update()
        for drawing in self.drawings:
            drawing.shows_candidates = self.panel.candidates.value
            drawing.draw()
        if time.perf_counter() - self._drawn > PANEL_EVERY:
            self.panel.draw()
            self._drawn = time.perf_counter()

    def run(self, over: threading.Event) -> None:
        """Draw until ``over`` is set."""
        while not over.wait(1 / RATE):
            self.draw()

    def close(self) -> None:
        """Tell the loops to end, and close the page."""
        for state in self.states:
            state.quit()
        self.server.stop()


def check_port(host: str, port: int) -> None:
    """Raise OSError unless a server can listen at this port; viser would take another one."""
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((host, port))
        except OSError as error:
            raise OSError(f"cannot listen at {host}:{port} ({error.strerror}); choose another --port") from error


def _hint(view: View | None) -> str:
    if view is None:
        return ""
    what = " or ".join(dict.fromkeys(name.rstrip("0123456789") for name in view.handles))
    return f"Drag the {what} with the mouse{'' if view.flat else '; with Shift up and down'}."
