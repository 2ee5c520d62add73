"""An exported engine: one folder that ONNX Runtime runs without this library.

    model.onnx      the decision          contract.json   what goes in and comes out, and of what it was made
    example.py      acts with it          example.cpp     the same in C++
    SHA256SUMS      of all of them (``sha256sum -c SHA256SUMS``)

Nothing is there before the graph has been compared with the policy it was made of.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from onestride.checkpoint import MODEL, versions, write_json
from onestride.control.policy import Policy
from onestride.engine.engine import CHECKSUMS, CONTRACT, GRAPH, checksum
from onestride.engine.graph import OPSET, write_graph
from onestride.engine.reduce import reduce
from onestride.engine.runners import OnnxRunner
from onestride.progress import track
from onestride.selectors.iql import CriticSelector

TIE = 1e-4  # scores nearer than this share of their spread are the same in float32
TOLERANCE = 1e-4  # of an action, in halves of its limits' range, float32 against float32
DECISIONS = 128  # compared with the policy's own


class ExportError(ValueError):
    """What was written does not decide as the policy does, or cannot be put where it was asked for."""


@dataclass(frozen=True)
class Agreement:
    """How an exported graph decides beside its policy, with the same noise."""

    decisions: int
    same_winner: int
    ties: int  # another winner whose score, by the policy, is that of the best but for rounding
    action_error_p50: float  # in halves of the limits' range, where the winner is the same
    action_error_max: float

    @property
    def whole(self) -> bool:
        """Whether the two are the same but for rounding."""
        return self.same_winner + self.ties == self.decisions and self.action_error_max <= TOLERANCE


def export(
    policy: Policy, out: Path, *, int8: bool, draws: int, seed: int, checkpoint: Path | None, plan: bool = True
) -> Agreement:
    """Write the folder ``out``, whole or not at all. plan: the graph gives the winner's plan too.

    Raises:
        ExportError: it is there already, or float32 decides otherwise than the policy.
        ReduceError: the policy makes many network calls, or nothing ranks its plans.
        ImportError: the export extra is not installed.
    """
    if out.exists():
        raise ExportError(f"{out} is there already; name another folder, or remove it first")
    reduced = reduce(policy, draws=draws, seed=seed, plan=plan)
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.", suffix=".tmp"))
    try:
        write_graph(reduced, folder / GRAPH, int8=int8)
        runner = OnnxRunner((folder / GRAPH).read_bytes(), threads=1)
        agreement = compare(runner, policy, draws, seed)
        if not (agreement.whole or int8):
            raise ExportError(f"the graph does not decide as the policy does: {agreement}; nothing was written")
        write_json(folder / CONTRACT, contract(policy, runner, agreement, int8, draws, seed, checkpoint))
        for name, template in (("example.py", PYTHON), ("example.cpp", CPP)):
            (folder / name).write_text(_example(template, policy, draws))
        sums = [f"{checksum(path)}  {path.name}\n" for path in sorted(folder.iterdir())]
        (folder / CHECKSUMS).write_text("".join(sums))
        folder.chmod(0o755)
        os.rename(folder, out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return agreement


def compare(runner: OnnxRunner, policy: Policy, draws: int, seed: int, decisions: int = DECISIONS) -> Agreement:
    """The graph beside the plain policy: real first observations, the policy's own noise."""
    task = policy.task
    observations = [np.asarray(task.first_observation(s), np.float64) for s in task.scenes(8, seed)]
    half = (task.limits.high - task.limits.low) / 2
    errors, ties = [], 0
    with track("comparing", decisions) as bar:
        for i in range(decisions):
            if i % draws == 0:
                policy.reset(seed)
            observation = observations[i % len(observations)]
            wanted = policy.decide(observation)
            answer = runner.run(observation.astype(np.float32), i % draws)
            if answer.winner == int(np.nanargmax(wanted.scores)):
                errors.append(float(np.abs((answer.action - wanted.action) / half).max()))
            else:
                lost = np.nanmax(wanted.scores) - wanted.scores[answer.winner]
                ties += bool(lost <= TIE * np.nanstd(wanted.scores))
            bar.update(i + 1)
    p50, largest = (float(np.median(errors)), max(errors)) if errors else (float("inf"), float("inf"))
    return Agreement(decisions, len(errors), ties, p50, largest)


def contract(
    policy: Policy, runner: OnnxRunner, agreement: Agreement, int8: bool, draws: int, seed: int, checkpoint: Path | None
) -> dict[str, Any]:
    """What a program that loads the graph has to know."""
    task, limits = policy.task, policy.task.limits
    types = {np.float32: "float32", np.int64: "int64"}
    said = {v.name: {"dtype": types[v.dtype], "shape": list(v.shape)} for v in (*runner.inputs, *runner.outputs)}
    units = "as the task's robot gives and takes them: SI and the base frame, or the environment's own; not normalised"
    said["observation"] |= {"units": units}
    said["draw"] |= {"low": 0, "high": draws - 1, "what": "which noise: the decision's number modulo draws"}
    said["action"] |= {"units": units, "low": limits.low.tolist(), "high": limits.high.tolist()}
    said["action"]["max_step"] = limits.max_step  # from observation[:A]; null: no such limit
    said["score"] |= {"what": "the winner's, higher is better; not finite: no candidate is, send nothing"}
    own = policy.config.get("training", {})
    return {
        "schema": 1,
        "task": task.name,
        "inputs": {v.name: said[v.name] for v in runner.inputs},
        "outputs": {v.name: said[v.name] for v in runner.outputs},
        "normalisation": "inside",
        "limits": "inside for environments' actions; for a robot, refuse what is out of them and hold",
        "control_dt_s": task.control_dt,
        "control_hz": 1 / task.control_dt,
        "candidates": policy.candidates,
        "draws": draws,
        "seed": seed,
        "selector": _selector_name(policy),
        "precision": "int8" if int8 else "float32",
        "opset": OPSET,
        "checkpoint": {
            "id": own.get("id") if isinstance(own, dict) else None,
            "kind": policy.config.get("kind"),
            "sha256": checksum(checkpoint / MODEL) if checkpoint is not None else None,
        },
        "compared_with_the_policy": {
            name: value if np.isfinite(value) else None for name, value in vars(agreement).items()
        },
        "versions": versions(),
    }


def _selector_name(policy: Policy) -> str:
    if policy.selector is policy.task.score:
        return "the task's own"
    return "iql" if isinstance(policy.selector, CriticSelector) else type(policy.selector).__name__


# ---------------------------------------------------------------- examples


def _example(template: Template, policy: Policy, draws: int) -> str:
    task = policy.task
    values = {"task": task.name, "o": task.observation_dim, "a": task.action_dim, "n": policy.candidates}
    return template.substitute(values, draws=draws, dt=task.control_dt, ms=round(1e3 * task.control_dt, 3))


PYTHON = Template('''\
"""Decide with model.onnx: needs numpy and onnxruntime alone. Task $task, one decision every $ms ms."""

import time
from pathlib import Path

import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession(str(Path(__file__).parent / "model.onnx"), providers=["CPUExecutionProvider"])


def decide(observation, number):
    """Observation ($o,) in the task's units, the decision's number -> action ($a,); ValueError: hold the robot."""
    observation = np.asarray(observation, np.float32)
    if observation.shape != ($o,) or not np.isfinite(observation).all():
        raise ValueError(f"expected $o finite numbers, got {observation}")
    draw = np.array([number % $draws], np.int64)  # another draw, other noise: $n new candidates
    action, score = session.run(["action", "score"], {"observation": observation, "draw": draw})
    if not np.isfinite(score):
        raise ValueError("no candidate is finite")
    return action


if __name__ == "__main__":
    observation = np.zeros($o)  # put the robot's here
    for number in range(5):
        began = time.perf_counter()
        print(decide(observation, number), f"{1e3 * (time.perf_counter() - began):.2f} ms")
''')

CPP = Template("""\
// Decide with model.onnx: needs ONNX Runtime alone. Task $task, one decision every $ms ms.
//     g++ -std=c++17 example.cpp -I ORT/include -L ORT/lib -lonnxruntime -o example && ./example
#include <onnxruntime_cxx_api.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>

int main() {
  Ort::Env env(ORT_LOGGING_LEVEL_WARNING, "onestride");
  Ort::SessionOptions options;
  options.SetIntraOpNumThreads(1);
  Ort::Session session(env, ORT_TSTR("model.onnx"), options);

  std::array<float, $o> observation{};  // put the robot's here, in the task's units
  std::array<float, $a> action{};
  std::array<int64_t, 1> draw{};
  float score = 0;
  const std::array<int64_t, 1> observation_shape{$o}, action_shape{$a}, draw_shape{1};

  // Bound once: a decision allocates nothing.
  auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  Ort::IoBinding binding(session);
  binding.BindInput("observation", Ort::Value::CreateTensor<float>(memory, observation.data(), $o,
                                                                   observation_shape.data(), 1));
  binding.BindInput("draw", Ort::Value::CreateTensor<int64_t>(memory, draw.data(), 1, draw_shape.data(), 1));
  binding.BindOutput("action", Ort::Value::CreateTensor<float>(memory, action.data(), $a, action_shape.data(), 1));
  binding.BindOutput("score", Ort::Value::CreateTensor<float>(memory, &score, 1, nullptr, 0));

  for (int64_t number = 0; number < 5; ++number) {
    for (float value : observation) {
      if (!std::isfinite(value)) return 1;  // hold the robot
    }
    draw[0] = number % $draws;  // another draw, other noise: $n new candidates
    session.Run(Ort::RunOptions{nullptr}, binding);
    if (!std::isfinite(score)) return 1;  // no candidate is finite: hold the robot
    for (float value : action) std::printf("%g ", value);
    std::printf("(score %g)\\n", score);
  }
}
""")
