"""The page in a browser: it shows the scene and the table, and what is dragged there reaches the loop."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time

import numpy as np
import pytest

from looped import Answering, tapped
from onestride.control.log import EpisodeLog
from onestride.robot.clock import ChargedClock
from onestride.tasks import TASKS
from onestride.viewer.views import view_of

pytest.importorskip("viser", reason="viser is not installed (onestride[viewer])")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
#: Without a GPU, and as any user.
FLAGS = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox")
PATIENCE = 400.0  # on a busy machine without a GPU [s]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium; name one in $CHROMIUM"),
    pytest.mark.filterwarnings("default"),  # viser's and websockets' own
]


@pytest.fixture
def shown():
    """A viewer of one arm, whose loop stands still: the viewer, its link, the robot and the tapped one."""
    from onestride.viewer.server import Viewer

    task = TASKS["kinova"]()
    view = view_of(task)
    tap, link = tapped(task.control, view.handles, view.place)
    scene = next(s for s in task.scenes(20, 0) if s.obstacles[0, 0] > 0)
    arm = task.environment(scene, ChargedClock())
    robot = tap.begin(arm, EpisodeLog(4))
    seen = robot.read()
    plans = np.zeros((5, task.control.horizon, task.control.transition_dim), np.float32)
    decision = Answering().decide(np.zeros(3))
    tap.on_decision(seen, type(decision)(np.zeros(3), plans[3], plans, decision.scores, {"total": 0.0123}))
    link.say("driving", 3)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    viewer, over = Viewer([link], task, "127.0.0.1", port), threading.Event()
    thread = threading.Thread(target=viewer.run, args=(over,))
    thread.start()
    yield viewer, port, arm, robot
    over.set()
    thread.join()
    viewer.close()


def on_screen(camera, point):
    """Where a point (3,) is in the picture [px]."""
    w, x, y, z = camera.wxyz
    turn = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    right, down, forward = turn.T @ (np.asarray(point) - camera.position)
    focal = camera.image_height / 2 / np.tan(camera.fov / 2)
    return camera.image_width / 2 + focal * right / forward, camera.image_height / 2 + focal * down / forward


def until(page, found):
    """Wait until ``found`` gives something, and return it."""
    began = time.monotonic()
    while not (made := found()):
        assert time.monotonic() - began < PATIENCE
        page.wait_for_timeout(200)
    return made


def test_a_goal_that_is_dragged_in_the_page_moves_in_the_robots_world(shown):
    viewer, port, arm, robot = shown
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS, timeout=1000 * PATIENCE)
        page = browser.new_page(viewport={"width": 800, "height": 500})
        page.set_default_timeout(1000 * PATIENCE)
        page.goto(f"http://127.0.0.1:{port}")
        page.get_by_text("asynchronous").first.wait_for()  # in the table: what the loop is doing
        camera = until(page, viewer.server.get_clients)[0].camera
        goal = arm.goal.copy()
        x, y = on_screen(camera, goal)
        page.mouse.move(x, y)
        page.mouse.down()
        for step in range(1, 11):
            page.mouse.move(x + 4 * step, y + 2 * step)
            page.wait_for_timeout(60)
        wished = until(page, lambda: viewer.states[0].link.wishes.count)
        page.mouse.up()
        browser.close()
    assert wished > 0
    observed = robot.read()[6:9]
    assert np.linalg.norm(observed[:2] - goal[:2]) > 0.005
    assert observed[2] == pytest.approx(goal[2], abs=1e-6)  # it stays at its height
