"""What README.md, CONTRIBUTING.md and the pages of docs/ show is there: files, commands, names, code that runs."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch

from onestride.cli import main
from onestride.doctor.log import read_log
from onestride.plans.spec import PlanSpec
from onestride.registry import attribute
from onestride.reports.documents import documents
from onestride.reports.numbers import MARKED
from onestride.robot.clock import ChargedClock, RealClock
from onestride.robot.robot import TimedObservation
from onestride.tasks.kinova.simulation import SimulatedArm

ROOT = Path(__file__).parent.parent
TEXTS = documents(ROOT)
FENCED = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
SPAN = re.compile(r"`([^`\n]+)`")
#: Commands that the arm's presets do not have.
LEARNED = ("returns", "iql", "edm", "ct", "cd")


def prose(text):
    """The text without comments and blocks of code."""
    return re.sub(r"^    .*$|(?s:<!--.*?-->)", "", FENCED.sub("", text), flags=re.MULTILINE)


def code(text):
    """The lines of its blocks of code, fenced or indented."""
    fenced = [line for _, block in FENCED.findall(text) for line in block.splitlines()]
    return [line.strip() for line in (*fenced, *re.findall(r"^    (\S.*)$", FENCED.sub("", text), re.MULTILINE))]


def anchors(text):
    """The anchors of its headings, as MkDocs and GitHub make them."""
    found = re.findall(r"^#+ (.+)$", FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


def python_blocks(text):
    return [textwrap.dedent(block) for language, block in FENCED.findall(text) if language == "python"]


def commands(program):
    """Every command line that is shown, as (page, words); comments left away."""
    found = set()
    for path, text in TEXTS.items():
        for line in (*code(text), *SPAN.findall(prose(text))):
            for part in line.split("&&"):
                if part.strip().startswith(f"{program} "):
                    found.add((path.relative_to(ROOT).as_posix(), tuple(shlex.split(part, comments=True))))
    return sorted(found)


@pytest.mark.parametrize("path", [*TEXTS, ROOT / "CONTRIBUTING.md"], ids=lambda p: p.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(path):
    for link in LINK.findall(prose(path.read_text())):
        target, _, anchor = link.partition("#")
        there = (path.parent / target).resolve() if target else path
        assert there.is_file(), f"{link}: there is no {there}"
        assert not anchor or anchor in anchors(there.read_text()), f"{link}: no such heading"


def test_every_command_line_is_understood(capsys):
    shown = commands("onestride")
    assert len({words[1] for _, words in shown}) >= 10
    for page, words in shown:
        if words[1] == "train" and ".py:" in words[2]:
            continue  # a reader's own file; the test of that page's method has it
        asked = [
            *words[1:],
            *(["--preset", "hopper-tiny"] if words[1:3][-1] in LEARNED and "--preset" not in words else []),
        ]
        try:
            main([*asked, "--dry-run"])
        except SystemExit:
            pytest.fail(f"{page}: {shlex.join(words)}: {capsys.readouterr().err}")
        capsys.readouterr()


def test_every_target_of_make_is_there():
    rules = (ROOT / "Makefile").read_text()
    shown = {words[1] for _, words in commands("make")}
    assert shown >= {"demo", "test", "docs", "tables"}
    assert all(f"\n{target}:" in rules for target in shown)


def test_every_file_that_is_named_is_there():
    named = re.compile(r"(?:benchmarks|examples|results|src|tests)/[\w./-]+\w")
    checked = 0
    for path, text in TEXTS.items():
        for span in (*SPAN.findall(prose(text)), *code(text)):
            for file in named.findall(span):
                if not span.startswith("onestride"):  # whose results are to be written
                    assert (ROOT / file).exists(), f"{path.name} names {file}"
                    checked += 1
    assert checked > 10


def test_python_that_is_shown_imports_what_there_is():
    checked = 0
    for path, text in TEXTS.items():
        for block in python_blocks(text):
            for node in ast.walk(ast.parse(block, str(path))):
                if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "onestride":
                    module = importlib.import_module(node.module)
                    assert all(hasattr(module, name.name) for name in node.names), (path.name, node.module)
                    checked += 1
    assert checked > 10


def test_the_reference_names_what_there_is():
    names = re.findall(r"^::: (\S+)$", (ROOT / "docs/reference.md").read_text(), re.MULTILINE)
    assert len(names) > 30
    for name in names:
        module, _, found = name.rpartition(".")
        assert getattr(importlib.import_module(module), found).__doc__, name


def test_a_generated_number_does_not_begin_a_line():
    """A line that begins with a comment ends the paragraph, in Markdown of every kind."""
    for path, text in TEXTS.items():
        assert not re.search(rf"^\s*(?:[-*>]\s+)?{MARKED.pattern}", text, re.MULTILINE), path.name


@pytest.mark.slow
def test_the_first_pages_python_drives_the_arm(make_arm_policy, tmp_path, capsys):
    make_arm_policy("student").save(tmp_path / "dnk-0", {})
    (block,) = python_blocks((ROOT / "README.md").read_text())
    assert "runs/demo/dnk-0" in block
    assert "timeout=30.0" in block
    exec(block.replace("runs/demo/dnk-0", str(tmp_path / "dnk-0")).replace("timeout=30.0", "timeout=0.2"))
    assert "commands" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("page", ["docs/robot.md", "docs/robots.md"])
def test_the_log_that_is_shown_is_recorded(page, make_arm_policy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("onestride.robot.clock.RealClock", ChargedClock)
    policy = make_arm_policy("student")
    policy.save(tmp_path / "runs/mine/dnk-0", {})
    (block,) = (b for b in python_blocks((ROOT / page).read_text()) if "write_log" in b)
    arm = SimulatedArm(policy.task.scenes(1, 0)[0], ChargedClock())
    exec(block, {"robot": arm} | ({"policy": policy} if page == "docs/robot.md" else {}))
    assert len(read_log(tmp_path / "log.npz", policy.control).times) == 60 / policy.control.control_dt


@pytest.mark.slow
def test_the_dry_run_that_is_shown_moves_nothing(make_arm_policy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(ROOT / "examples/robots"), *sys.path])
    policy = make_arm_policy("student")
    policy.save(tmp_path / "runs/mine/dnk-0", {})
    (block,) = (b for b in python_blocks((ROOT / "docs/robots.md").read_text()) if "dry_run" in b)
    assert "timeout=10.0" in block
    arm = SimulatedArm(policy.task.scenes(1, 0)[0], RealClock())
    read, written = arm.read, []
    monkeypatch.setattr(arm, "write", written.append)
    monkeypatch.setattr(arm, "read", lambda: TimedObservation(read(), time.perf_counter()))  # as a bound robot's
    shown = {"robot": arm}
    exec(block.replace("timeout=10.0", "timeout=0.3"), shown)
    assert "log" in shown
    assert (tmp_path / "commands.csv").read_text().endswith("stop\n")
    assert not written


def test_the_method_that_is_shown_learns(tmp_path, monkeypatch):
    block = next(b for b in python_blocks((ROOT / "docs/your-method.md").read_text()) if "training_step" in b)
    (tmp_path / "my_method.py").write_text(block)
    with monkeypatch.context() as apart:  # for no longer: what is imported for the first time does not bear it
        apart.setattr(sys, "modules", dict(sys.modules))
        config, method = (
            attribute(f"{tmp_path / 'my_method.py'}:{name}", "method") for name in ("RegressionConfig", "Regression")
        )
    torch.manual_seed(0)
    spec = PlanSpec(horizon=4, state_dim=2, action_dim=1, context_dim=3)
    model = method(config(hidden=32), spec)
    prior, context = torch.randn(64, 4, 3), torch.randn(64, 3)
    target = torch.where(torch.from_numpy(spec.mask), prior, 0.5 * prior + context[:, None])
    batch = {"prior": prior, "target": target, "context": context, "weight": torch.ones(64)}
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(100):
        losses.append(loss := model.training_step(batch, torch.Generator())["loss"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.2 * losses[0]
    plans = model.sample(prior, context[:1])
    assert torch.equal(plans[:, 0, :2], prior[:, 0, :2])
