"""Programs that act with an exported folder and nothing else, for its task; they are written beside what decides."""

from __future__ import annotations

import textwrap
from string import Template

import numpy as np

from onestride.engine.folder import Format
from onestride.policy.policy import Policy

WRITTEN = 1_000  # numbers: a longer observation, such as one with images, stands in no example


def examples(form: Format, policy: Policy, draws: int, plan: bool) -> dict[str, str]:
    """File names -> their text. plan: the folder decodes whole plans."""
    task, control = policy.task, policy.control
    rows = control.horizon if plan or policy.selector is task.score else 1
    observed = task.first_observation(task.scenes(1, 0)[0])
    long = len(observed) > WRITTEN
    first = "" if long else ", ".join(f"{x:.6g}" for x in observed)
    values = {"task": task.name, "o": control.observation_dim, "a": control.action_dim, "n": policy.candidates}
    values["row"] = rows * control.transition_dim
    values["first"] = "" if long else "\n" + textwrap.indent(textwrap.fill(first, 100), "    ")
    values["listed"] = f"[0.0] * {len(observed)}" if long else f"[{values['first']}]"
    values |= {"low": _numbers(control.limits.low), "high": _numbers(control.limits.high)}
    values["far"] = "1e30" if control.limits.max_step is None else repr(float(control.limits.max_step))
    values |= {"draws": draws, "dt": control.control_dt, "ms": round(1e3 * control.control_dt, 3)}
    values |= _asked(policy)
    return {name: template.substitute(values) for name, template in TEMPLATES[form].items()}


def _asked(policy: Policy) -> dict[str, str]:
    """Lines by which an example asks as the policy does; none where there are no conditions."""
    numbers, conditions = policy.asked_numbers, getattr(policy.generator, "conditions", None)
    if policy.longest_prefix:
        rows, columns = policy.longest_prefix, policy.control.action_dim
        what = "action columns of a plan's first rows; NaN: not committed"
        nothing = dict.fromkeys(("ask_native", "ask_c"), "")
        return nothing | {
            "ask_python": f"\nCOMMITTED = np.full(({rows}, {columns}), np.nan, np.float32)  # {what}",
            "feed_python": ', "committed": COMMITTED',
            "ask_cpp": f"\n  std::array<float, {rows * columns}> committed;  // {what}\n  committed.fill(NAN);",
            "bind_cpp": f"\n  const std::array<int64_t, 2> committed_shape{{{rows}, {columns}}};\n"
            '  binding.BindInput("committed", Ort::Value::CreateTensor<float>(memory, committed.data(),\n'
            f'{" " * 65}{rows * columns}, committed_shape.data(), 2));',
        }  # fmt: skip
    if conditions is None:
        return dict.fromkeys(("ask_python", "feed_python", "ask_cpp", "bind_cpp", "ask_native", "ask_c"), "")
    what = f"{', '.join(conditions.sizes)}; NaN: not asked for"
    python = ", ".join("np.nan" if np.isnan(x) else f"{x:.6g}" for x in numbers)
    c = ", ".join("NAN" if np.isnan(x) else f"{x:.6g}" for x in numbers)
    k = len(numbers)
    return {
        "ask_python": f"\nASKED = np.array([{python}], np.float32)  # {what}", "feed_python": ', "asked": ASKED',
        "ask_cpp": f"\n  std::array<float, {k}> asked{{{c}}};  // {what}",
        "bind_cpp": f"\n  const std::array<int64_t, 1> asked_shape{{{k}}};\n"
        f'  binding.BindInput("asked", Ort::Value::CreateTensor<float>(memory, asked.data(), {k},\n'
        f'{" " * 65}asked_shape.data(), 1));',
        "ask_native": f"\nASKED = np.array([{python}], np.float32)  # {what}\n"
        "library.onestride_ask(engine, ctypes.c_void_p(ASKED.ctypes.data))  # again whenever it changes",
        "ask_c": f"\n  const float asked[{k}] = {{{c}}}; /* {what} */\n"
        "  onestride_ask(engine, asked); /* again whenever it changes */",
    }  # fmt: skip


def _numbers(values: np.ndarray) -> str:
    return ", ".join(f"{x:.6g}" for x in values)


PYTHON = Template('''\
"""Decide with model.onnx: needs numpy and onnxruntime alone. Task $task, one decision every $ms ms."""

import hashlib
import os
import time
from pathlib import Path

import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when the library is loaded
import onnxruntime

FIRST = $listed  # where an episode begins
LOW, HIGH, FAR = np.array([$low]), np.array([$high]), $far  # of actions, and from observation[:$a]${ask_python}
here = Path(__file__).resolve().parent
graph = (here / "model.onnx").read_bytes()
if hashlib.sha256(graph).hexdigest() not in (here / "SHA256SUMS").read_text():
    raise SystemExit(f"{here / 'model.onnx'} was altered or cut short: copy the folder again, or export it again")
session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])


def decide(observation, number):
    """Observation ($o,) in the task's units, the decision's number -> action ($a,); ValueError: hold the robot."""
    observation = np.asarray(observation, np.float32)
    if observation.shape != ($o,) or not np.isfinite(observation).all():
        raise ValueError(f"expected $o finite numbers, got {observation}")
    draw = np.array([number % $draws], np.int64)  # another draw, other noise: $n new candidates
    action, score = session.run(["action", "score"], {"observation": observation, "draw": draw$feed_python})
    near = np.linalg.norm(action - observation[:$a]) <= FAR
    if not (np.isfinite(score) and near and (LOW <= action + 1e-6).all() and (action <= HIGH + 1e-6).all()):
        raise ValueError(f"no candidate is finite, or its action {action} is out of limits")
    return action


if __name__ == "__main__":
    observation = np.array(FIRST)  # put the robot's here
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
#include <filesystem>

int main(int, char** words) try {
  Ort::Env env(ORT_LOGGING_LEVEL_WARNING, "onestride");
  Ort::SessionOptions options;
  options.SetIntraOpNumThreads(1);
  const auto here = std::filesystem::path(words[0]).parent_path();  // whatever the current folder is
  Ort::Session session(env, (here / "model.onnx").c_str(), options);

  std::array<float, $o> observation{$first};  // where an episode begins: put the robot's here${ask_cpp}
  std::array<float, $a> action{};
  const std::array<float, $a> low{$low}, high{$high};  // what actions may be
  std::array<int64_t, 1> draw{};
  float score = 0;
  const std::array<int64_t, 1> observation_shape{$o}, action_shape{$a}, draw_shape{1};

  // Bound once: a decision allocates nothing.
  auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  Ort::IoBinding binding(session);
  binding.BindInput("observation", Ort::Value::CreateTensor<float>(memory, observation.data(), $o,
                                                                   observation_shape.data(), 1));
  binding.BindInput("draw", Ort::Value::CreateTensor<int64_t>(memory, draw.data(), 1, draw_shape.data(), 1));${bind_cpp}
  binding.BindOutput("action", Ort::Value::CreateTensor<float>(memory, action.data(), $a, action_shape.data(), 1));
  binding.BindOutput("score", Ort::Value::CreateTensor<float>(memory, &score, 1, nullptr, 0));

  for (int64_t number = 0; number < 5; ++number) {
    for (float value : observation) {
      if (!std::isfinite(value)) return 1;  // hold the robot
    }
    draw[0] = number % $draws;  // another draw, other noise: $n new candidates
    session.Run(Ort::RunOptions{nullptr}, binding);
    if (!std::isfinite(score)) return 1;  // no candidate is finite: hold the robot
    float square = 0;
    for (int i = 0; i < $a; ++i) {
      const float step = action[i] - observation[i];
      square += step * step;
      if (!(action[i] >= low[i] - 1e-6f && action[i] <= high[i] + 1e-6f)) return 1;  // out of limits: hold the robot
    }
    if (!(std::sqrt(square) <= ${far}f)) return 1;  // too far in one step: hold the robot
    for (float value : action) std::printf("%g ", value);
    std::printf("(score %g)\\n", score);
  }
} catch (const Ort::Exception& error) {
  std::fprintf(stderr, "model.onnx: %s. If it was cut short, export it again\\n", error.what());
  return 1;
}
""")

NATIVE_PYTHON = Template('''\
"""Decide with program.bin: needs numpy and a C compiler alone. Task $task, one decision every $ms ms."""

import ctypes
import hashlib
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

FIRST = $listed  # where an episode begins
LOW, HIGH, FAR = np.array([$low]), np.array([$high]), $far  # of actions, and from observation[:$a]
here = Path(__file__).resolve().parent
program = (here / "program.bin").read_bytes()
if hashlib.sha256(program).hexdigest() not in (here / "SHA256SUMS").read_text():
    raise SystemExit(f"{here / 'program.bin'} was altered or cut short: copy the folder again, or export it again")
options = ["-std=gnu11", "-O3", "-march=native", "-fPIC", "-shared", "-pthread"]
with tempfile.TemporaryDirectory() as private:  # of this user alone: no library that lies anywhere is trusted
    built = Path(private) / "decide.so"
    subprocess.run(["cc", *options, str(here / "decide.c"), "-o", str(built), "-lm"], check=True)
    library = ctypes.CDLL(str(built))
library.onestride_create.restype = ctypes.c_void_p
engine = ctypes.c_void_p(library.onestride_create(program, ctypes.c_long(len(program)), 1, None))
if not engine:
    raise SystemExit("program.bin does not run here; see onestride_create in decide.h")${ask_native}


def decide(observation, number):
    """Observation ($o,) in the task's units, the decision's number -> action ($a,); ValueError: hold the robot."""
    observation = np.ascontiguousarray(observation, np.float32)
    if observation.shape != ($o,):
        raise ValueError(f"expected $o numbers, got {observation}")
    action, scores, best = np.zeros($a, np.float32), np.zeros($n, np.float32), np.zeros(1, np.float32)
    at = [ctypes.c_void_p(array.ctypes.data) for array in (observation, action, scores, best)]
    winner = library.onestride_decide(engine, at[0], number % $draws, at[1], None, at[2], at[3])
    if winner < 0 or not np.isfinite(best[0]):
        raise ValueError(f"no plan: {winner} (below 0: see decide.h; else no candidate is finite)")
    near = np.linalg.norm(action - observation[:$a]) <= FAR
    if not (near and (LOW <= action + 1e-6).all() and (action <= HIGH + 1e-6).all()):
        raise ValueError(f"the action {action} is out of limits")
    return action


if __name__ == "__main__":
    observation = np.array(FIRST)  # put the robot's here
    for number in range(5):
        began = time.perf_counter()
        print(decide(observation, number), f"{1e3 * (time.perf_counter() - began):.2f} ms")
''')

NATIVE_C = Template("""\
/* Decide with program.bin: needs a C compiler alone. Task $task, one decision every $ms ms.
       cc -std=gnu11 -O3 -march=native -pthread example.c decide.c -o example -lm && ./example */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "decide.h"

/* program.bin, which lies beside this program, whatever the current folder is, or else there. */
static FILE *opened(const char *own) {
  char path[4096];
  const char *slash = strrchr(own, '/');
  const int length = snprintf(path, sizeof path, "%.*sprogram.bin", slash ? (int)(slash + 1 - own) : 0, own);
  FILE *file = length < (int)sizeof path ? fopen(path, "rb") : NULL;
  return file ? file : fopen("program.bin", "rb");
}

int main(int count, char **words) {
  FILE *file = opened(count > 0 ? words[0] : "");
  if (!file) return perror("program.bin"), 1;
  fseek(file, 0, SEEK_END);
  const long bytes = ftell(file);
  void *program = malloc((size_t)bytes);
  rewind(file);
  if (!program || fread(program, 1, (size_t)bytes, file) != (size_t)bytes) return 1;
  fclose(file);
  Engine *engine = onestride_create(program, bytes, 1, NULL); /* one thread; nothing is allocated after this */
  free(program);
  if (!engine) return fputs("program.bin does not run here; see decide.h\\n", stderr), 1;${ask_c}

  float observation[$o] = {$first}; /* where an episode begins: put the robot's here */
  const float low[$a] = {$low}, high[$a] = {$high}; /* what actions may be */
  float action[$a], plan[$row], scores[$n], best;
  for (int number = 0; number < 5; number++) {
    const int winner = onestride_decide(engine, observation, number % $draws, action, plan, scores, &best);
    if (winner < 0 || !isfinite(best)) return 1; /* below 0: see decide.h; no candidate is finite. Hold the robot */
    float square = 0;
    for (int i = 0; i < $a; i++) {
      square += (action[i] - observation[i]) * (action[i] - observation[i]);
      if (!(action[i] >= low[i] - 1e-6f && action[i] <= high[i] + 1e-6f)) return 1; /* out of limits: hold the robot */
    }
    if (!(sqrtf(square) <= ${far}f)) return 1; /* too far in one step: hold the robot */
    for (int i = 0; i < $a; i++) printf("%g ", action[i]);
    printf("(score %g)\\n", best);
  }
  onestride_destroy(engine);
}
""")

TEMPLATES: dict[Format, dict[str, Template]] = {
    "onnx": {"example.py": PYTHON, "example.cpp": CPP},
    "native": {"example.py": NATIVE_PYTHON, "example.c": NATIVE_C},
}
