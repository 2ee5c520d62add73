"""The engine: decides as a policy does, from a reduced graph on the fastest backend of this machine.

    engine = Engine.from_folder("exported/dnk")      or      Engine.from_policy(policy)
    action = engine.decide(observation).action

Its buffers are made once: a decision allocates what it gives back and nothing else. Candidates have new noise at
every decision, which comes round after ``draws`` of them.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, get_args

import numpy as np
import torch

from onestride.checkpoint import CheckpointError, read_json
from onestride.control.policy import Decision, NoPlanError, Policy
from onestride.engine.graph import INPUTS, OUTPUTS, write_graph
from onestride.engine.native import NativeError, NativeRunner, library
from onestride.engine.program import Precision, write_program
from onestride.engine.reduce import Reduced, reduce
from onestride.engine.runners import CPU, Bound, OnnxRunner, RefusedError, Runner, TorchRunner, fastest, thread_counts
from onestride.engine.trunk import ReduceError
from onestride.tasks import TASKS
from onestride.tasks.task import ObservationError, Task

Backend = Literal[
    "auto", "native", "native-screened", "native-int8", "onnx", "onnx-int8", "torch", "compile", "cuda-graph",
    "cuda-graph-tf32", "cuda-graph-bf16",
]  # fmt: skip
BACKENDS: tuple[Backend, ...] = get_args(Backend)
#: Of native engines' programs, where it is not float32.
PRECISIONS: dict[str, Precision] = {"native-screened": "screened", "native-int8": "int8"}
GRAPH, PROGRAM, CONTRACT, CHECKSUMS = "model.onnx", "program.bin", "contract.json", "SHA256SUMS"
Format = Literal["onnx", "native"]
#: The file of an exported folder that decides, by its format.
DECIDES: dict[Format, str] = {"onnx": GRAPH, "native": PROGRAM}


class Engine:
    """``decide(observation)`` as the control loop wants it (``Decider``). ``chosen`` says what runs, and why."""

    nfe = 1

    def __init__(self, runner: Runner, task: Task, draws: int, chosen: str) -> None:
        self.runner, self.task, self.draws, self.chosen = runner, task, draws, chosen
        self._observation = np.zeros(task.observation_dim, np.float32)
        self._nothing = np.zeros((0, task.transition_dim), np.float32)
        self.reset()

    def reset(self, draw: int = 0) -> None:
        """Start the candidates' noise over, at this draw."""
        self._next = draw % self.draws

    def decide(self, observation: np.ndarray) -> Decision:
        """The best plan's first action for one observation (observation_dim,), in the robot's units.

        plan and plans hold the winner alone, and only where the engine decodes plans.

        Raises:
            NoPlanError: not one candidate is finite.
            ObservationError: it cannot be acted on (shape, non-finite, goal out of reach); see the task's check.
        """
        began = time.perf_counter()
        observation = np.asarray(observation)
        if not self.runner.checks or observation.shape != self._observation.shape:
            self.task.check(observation)
        self._observation[:] = observation
        draw = self._next
        checked = time.perf_counter()
        try:
            answer = self.runner.run(self._observation, draw)
        except RefusedError as refused:
            self.task.check(observation)  # which says what was got and what to mend
            raise ObservationError(f"{refused}, in float32") from refused
        self._next = (draw + 1) % self.draws
        action = answer.action.astype(np.float64)
        if not (np.isfinite(answer.score) and np.isfinite(action).all()):
            raise NoPlanError(f"none of {len(answer.scores)} candidates is finite; is the checkpoint trained?")
        plan = self._nothing if answer.plan is None else answer.plan.copy()
        plans = torch.from_numpy(plan[None] if len(plan) else plan[:, None])
        done = time.perf_counter()
        timings = {"encode": checked - began, "generate": done - checked, "select": 0.0, "total": done - began}
        return Decision(action, plan, plans, answer.scores.copy(), timings)

    def act(self, observations: np.ndarray) -> np.ndarray:
        """Many observations (B, observation_dim) one after the other -> actions (B, A), for simulations."""
        return np.stack([self.decide(observation).action for observation in observations])

    def warm_up(self, observation: np.ndarray, calls: int = 50) -> None:
        """Decide and throw away, then start the noise over."""
        for _ in range(calls):
            self.decide(observation)
        self.reset()

    @classmethod
    def from_policy(
        cls,
        policy: Policy,
        backend: Backend = "auto",
        *,
        threads: int | None = None,
        draws: int = 64,
        seed: int = 0,
        plan: bool = False,
    ) -> Engine:
        """Reduce a policy and run it.

        backend: "auto" measures those that give the policy's own action, and takes the fastest; those in 8 bits, TF32
        or bfloat16 differ a little, "compile" takes half a minute to start, and how long "native-screened" takes
        depends on what is observed: these only when they are asked for.
        threads: of the CPU; None measures 1 ... all cores (native and ONNX), or takes torch's setting.

        Raises:
            ReduceError: the policy cannot be reduced, or not to a program of its own ("native").
            ImportError: the backend needs the export extra, and it is not installed.
            NativeError: there is no C compiler, or the processor has no 8 bits.
            ValueError: there is no such backend, or it needs a CUDA device.
        """
        if backend not in BACKENDS:
            raise ValueError(f"there is no backend {backend!r}; there are {', '.join(BACKENDS)}")
        reduced = reduce(policy, draws=draws, seed=seed, plan=plan)
        runner, chosen = fastest(list(_runners(reduced, backend, policy.device, threads)), policy.task)
        return cls(runner, policy.task, draws, chosen)

    @classmethod
    def from_folder(cls, path: str | Path, *, provider: str = CPU, threads: int | None = None) -> Engine:
        """Load what ``onestride export`` wrote. ``threads`` None: 1 ... all cores are measured.

        provider: of ONNX Runtime, for a folder in its format.

        Raises:
            CheckpointError: nothing there, altered, or a graph that is not what its contract says.
            ImportError: ONNX Runtime is not installed; NativeError: there is no C compiler.
            ValueError: this ONNX Runtime has no such provider.
        """
        folder = Path(path)
        contract = load_contract(folder)
        task, form = TASKS[contract["task"]](), contract["format"]
        content = (folder / DECIDES[form]).read_bytes()
        name = form if contract["precision"] == "float32" else f"{form}-{contract['precision']}"
        runners: list[Bound] = [
            NativeRunner(content, n, name) if form == "native" else OnnxRunner(content, n, name, provider)
            for n in thread_counts(threads)
        ]
        agrees(runners[0], contract, task, folder)
        runner, chosen = fastest(runners, task)
        return cls(runner, task, contract["draws"], chosen)


def _runners(reduced: Reduced, backend: Backend, device: torch.device, threads: int | None) -> Iterator[Runner]:
    """What "auto" chooses from, or the one that was asked for, with every number of threads."""
    auto = backend == "auto"
    if backend.startswith("native") or (auto and device.type == "cpu"):
        try:
            program = write_program(reduced, PRECISIONS.get(backend, "float32"))
            name = "native" if auto else backend
            yield from [NativeRunner(program, n, name) for n in thread_counts(threads)]
        except (NativeError, ReduceError):
            if not auto:
                raise
    if backend in ("onnx", "onnx-int8") or (auto and device.type == "cpu"):
        with TemporaryDirectory() as folder:
            graph = Path(folder) / GRAPH
            try:
                write_graph(reduced, graph, int8=backend == "onnx-int8")
                name = "onnx" if auto else backend
                yield from [OnnxRunner(graph.read_bytes(), n, name) for n in thread_counts(threads)]
            except ImportError:
                if not auto:
                    raise
    if backend in ("torch", "auto"):
        yield TorchRunner(reduced, device)
    if backend == "compile" and device.type != "cuda":
        yield TorchRunner(reduced, device, compiled=True)
    if backend.startswith("cuda-graph") or (backend in ("auto", "compile") and device.type == "cuda"):
        from onestride.engine.cuda_graph import CudaGraphRunner, Products

        products: dict[str, Products] = {"cuda-graph-tf32": "tf32", "cuda-graph-bf16": "bfloat16"}
        yield CudaGraphRunner(reduced, device, products=products.get(backend, "float32"), compiled=backend == "compile")


def preferred(policy: Policy, *, int8: bool = False) -> Backend:
    """The backend that engines of such a policy are best run by on a CPU: native where it can be, else ONNX Runtime."""
    try:
        write_program(reduce(policy, draws=1))
        native = library().onestride_levels() > 0 if int8 else library() is not None
    except (NativeError, ReduceError):
        native = False
    if int8:
        return "native-int8" if native else "onnx-int8"
    return "native" if native else "onnx"


# ---------------------------------------------------------------- an exported folder


def load_contract(folder: Path) -> dict[str, Any]:
    """The contract of an exported folder whose files are as they were written.

    Raises:
        CheckpointError: nothing there, incomplete, altered, or of a task or schema this version does not have.
    """
    if not (folder / CHECKSUMS).is_file():
        raise CheckpointError(f"{folder} holds no exported engine (no {CHECKSUMS}); make one with `onestride export`")
    lines = (folder / CHECKSUMS).read_text().splitlines()
    listed = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}

    def unaltered(name: str) -> Path:
        if not (folder / name).is_file() or listed.get(name) != checksum(folder / name):
            raise CheckpointError(f"{folder / name} is not the file that was exported; export it again")
        return folder / name

    contract = {"format": "onnx"} | read_json(unaltered(CONTRACT))  # folders of the first versions do not say
    if contract.get("schema") != 1 or contract["format"] not in DECIDES:
        raise CheckpointError(
            f"{folder} has contract schema {contract.get('schema')} and format '{contract['format']}', this version "
            f"reads 1 and {', '.join(DECIDES)}"
        )
    unaltered(DECIDES[contract["format"]])
    if contract["task"] not in TASKS:
        raise CheckpointError(f"{folder} is of task '{contract['task']}', this version has {', '.join(TASKS)}")
    return contract


def checksum(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def agrees(runner: Bound, contract: dict[str, Any], task: Task, folder: Path) -> None:
    """Whether graph (or program), contract and task are of one size.

    Raises:
        CheckpointError: they are not; the message says which.
    """
    decides, shapes = folder / DECIDES[contract["format"]], {v.name: v.shape for v in (*runner.inputs, *runner.outputs)}
    if set(INPUTS) - shapes.keys() or set(OUTPUTS[:4]) - shapes.keys():
        wanted = ", ".join((*INPUTS, *OUTPUTS[:4]))
        raise CheckpointError(f"{decides} has {', '.join(shapes)}; expected {wanted}")
    for name, said, tasks in (
        ("observation", tuple(contract["inputs"]["observation"]["shape"]), (task.observation_dim,)),
        ("action", tuple(contract["outputs"]["action"]["shape"]), (task.action_dim,)),
    ):
        if not shapes[name] == said == tasks:
            raise CheckpointError(
                f"{decides} has {name} {shapes[name]}, its contract says {said}, task '{task.name}' has {tasks}"
            )
