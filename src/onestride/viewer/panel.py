"""The panel beside the scene: what each loop is doing, its times and levels as they happen, faults to inject."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from onestride.robot.fields import columns_of
from onestride.tasks.task import Task
from onestride.viewer.records import FAULTS
from onestride.viewer.state import BINS, WINDOW, LoopState, binned

if TYPE_CHECKING:
    import viser

COLOURS = ("#d9631e", "#1460c8", "#2a9d5c", "#8a4fbf", "#7a8594", "#b8860b")
#: Numbers of an observation that are plotted where a task has no view.
PLOTTED = 6
LEVEL_NAMES = ("own decision", "last plan", "holding", "stopped")
EVERYONE = "all"


class Panel:
    """viser's control panel.

    Args:
        gui: viser's.
        states: of the loops.
        task: of all loops.
        hint: what can be done with the scene; "": there is none, and the observation's numbers are plotted.
        interactive: whether faults can be injected and episodes begun.
    """

    def __init__(
        self, gui: viser.GuiApi, states: Sequence[LoopState], task: Task, hint: str, interactive: bool
    ) -> None:
        self.states = states
        names = tuple(state.link.name for state in states)
        columns = [column.name for column in columns_of(task.control)][:PLOTTED]
        self._table = gui.add_markdown("")
        self._times = _plot(gui, "time of a decision [ms]", names, {"distr": 3, "log": 10})
        self._levels = _plot(gui, "fallback: 0 none, 1 last plan, 2 hold, 3 stop", names, {"range": (-0.3, 3.3)})
        self._numbers = None if hint else _plot(gui, f"what {names[0]} observes", columns, {})
        with gui.add_folder("Scene"):
            if hint and interactive:
                gui.add_markdown(hint)
            self.candidates = gui.add_checkbox("candidates", initial_value=True, visible=bool(hint))
            scene = gui.add_number("scene", initial_value=0, min=0, max=9999, step=1, visible=interactive)
            begin = gui.add_button("begin there", visible=interactive)
        with gui.add_folder("Faults", visible=interactive):
            kind = gui.add_dropdown("fault", FAULTS[1:])
            who = gui.add_dropdown("of", (*names, EVERYONE) if len(names) > 1 else names)
            length = gui.add_slider("lasts [ms]", 20, 1000, 20, 200)
            inject = gui.add_button("inject", color="red")

        @begin.on_click
        def _(_event: Any) -> None:
            for state in states:
                state.restart(int(scene.value))

        @inject.on_click
        def _(_event: Any) -> None:
            for state in states:
                if who.value in (EVERYONE, state.link.name):
                    state.inject(FAULTS.index(kind.value), 1e-3 * length.value)

    def draw(self) -> None:
        """Write the table and the plots anew."""
        now, ago = time.perf_counter(), np.linspace(-WINDOW, 0.0, BINS)
        self._table.content = table(self.states)
        self._times.data = (ago, *(1e3 * binned(state.latencies, now) for state in self.states))
        self._levels.data = (ago, *(binned(state.levels, now) for state in self.states))
        if self._numbers is not None:
            when, values = self.states[0].numbers(len(self._numbers.data) - 1)
            self._numbers.data = (when - now, *values.T)


def _plot(gui: viser.GuiApi, title: str, names: Sequence[str], scale: dict[str, Any]) -> Any:
    series: list[Any] = [{"label": "s"}]
    for number, name in enumerate(names):
        colour = COLOURS[number % len(COLOURS)]
        series.append({"label": name, "stroke": colour, "width": 2, "spanGaps": True})
    across: Any = {"size": 34}
    up: Any = {"size": 52, "grid": {"show": False}, "ticks": {"show": False}}
    scales: Any = {"x": {"time": False, "range": (-WINDOW, 0.0)}, "y": scale}
    ago = np.linspace(-WINDOW, 0.0, BINS)
    data = (ago, *[np.full(BINS, np.nan)] * len(names))
    return gui.add_uplot(data, tuple(series), title=title, aspect=2.0, scales=scales, axes=(across, up))


def table(states: Sequence[LoopState]) -> str:
    """Return a table in Markdown of what each loop is doing, a column for each."""
    rows: dict[str, list[str]] = {}
    for state in states:
        took = 1e3 * np.array([each for _, each in state.latencies])
        tick: Any = {} if state.tick is None else state.tick
        some, counted = len(took) > 0, state.tick is not None and state.phase in ("driving", "over")
        facts = {
            "loop": _doing(state),
            "time": f"{tick['passed']:.1f} s" if counted else "-",
            "decision": f"**{took[-1]:.1f} ms**" if some else "-",
            "p50, p99": f"{np.median(took):.1f}, {np.quantile(took, 0.99):.1f} ms" if some else "-",
            "now": LEVEL_NAMES[state.levels[-1][1]] if state.levels and not state.synchronous else "-",
            "late: plan, hold, stop": f"{tick['plan']}, {tick['hold'] + tick['standing']}, {tick['stop']}"
            if counted
            else "-",
            "refused": f"{tick['refused']}" if counted else "-",
        }
        for name, fact in facts.items():
            rows.setdefault(name, []).append(fact)
    titles = " | ".join(state.link.name for state in states)
    lines = [
        f"| | {titles} |",
        f"|---|{'---|' * len(states)}",
        *(f"| {n} | {' | '.join(f)} |" for n, f in rows.items()),
    ]
    said = [f"*{state.link.name}: {state.reason}*" for state in states if state.reason]
    return "\n".join(lines) + "".join(f"\n\n{line}" for line in said)


def _doing(state: LoopState) -> str:
    """Return what a loop is doing; a bar in it would end the table's cell."""
    if state.phase == "driving":
        return "waits for each decision" if state.synchronous else "asynchronous"
    return f"{state.phase}: {state.text}".replace("|", "/").removesuffix(": ")
