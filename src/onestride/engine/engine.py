"""The engine: decides as a policy does, from a folded graph on the fastest backend of this machine.

    engine = Engine.from_folder("exported/dnk")      or      Engine.from_policy(policy)
    action = engine.decide(observation).action

Its buffers are made once: a decision allocates what it gives back and nothing else, and one thread at a time decides.
Candidates have new noise at every decision, which comes round after ``draws`` of them. From a folder it starts without
torch.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onestride.engine.folder import asking_of, check_contract, control_spec_of, load_contract, load_runners, prefix_of
from onestride.engine.runners import CPU, RefusedError, Runner, fastest
from onestride.plans.asking import NOTHING, Asking
from onestride.robot.control_spec import ControlSpec, ObservationError, committed_columns
from onestride.robot.decision import Decision, chunk_of, none_finite
from onestride.robot.fields import decision_vector

if TYPE_CHECKING:
    from onestride.engine.backends import Backend
    from onestride.policy.policy import Policy


class Engine:
    """``decide(observation)`` as the control loop wants it (``Decider``). ``chosen`` says what runs, and why.

    nfe: network calls of a decision. asking: what plans may be asked for, see ``ask``. asked_numbers: what they are
    asked for now (K,), NaN: not. longest_prefix: how many commands may be committed, see ``decide``.
    """

    def __init__(
        self, runner: Runner, control: ControlSpec, draws: int, chosen: str, nfe: int = 1, asking: Asking = NOTHING,
        longest_prefix: int = 0,
    ) -> None:  # fmt: skip
        self.asking, self.longest_prefix = asking, longest_prefix
        self.asked_numbers = asking.numbers({})
        self.runner, self.control, self.draws, self.chosen, self.nfe = runner, control, draws, chosen, nfe
        self._observation = np.zeros(control.observation_dim, np.float32)
        self._what = f" of {control.name}: {control.layout}"
        nothing = np.zeros((0, control.transition_dim), np.float32)
        self._nothing = nothing, nothing[:, None]  # a plan and plans where none is decoded
        self._deciding = threading.Lock()
        self.reset()

    def ask(self, **conditions: float | Sequence[float]) -> None:
        """Ask for these conditions from the next decision on, such as ``ask(dynamics=0.5)``; others are left away.

        A decision takes no longer for it. Not while another thread decides.

        Raises:
            ValueError: no such condition was learnt, or the value has another size or is out of range.
        """
        self.asked_numbers = self.asking.numbers(conditions)
        if self.asked_numbers.size:
            self.runner.ask(self.asked_numbers)

    def reset(self, draw: int = 0) -> None:
        """Start the candidates' noise over, at this draw."""
        self._next = draw % self.draws

    @property
    def noise(self) -> int:
        """Where the candidates' noise is: the next decision's draw. Set it to go on from there."""
        return self._next

    @noise.setter
    def noise(self, draw: int) -> None:
        self.reset(draw)

    def decide(self, observation: np.ndarray, *, committed: np.ndarray | None = None) -> Decision:
        """The best plan's first action for one observation (observation_dim,), in the robot's units.

        plan and plans hold the winner alone, and only where the engine decodes plans. committed: commands that are sent
        next whatever is decided (n, A), as of ``Policy.decide``.

        Raises:
            NoPlanError: not one candidate is finite.
            ObservationError: it cannot be acted on (shape, non-finite, goal out of reach); see the task's check.
            RuntimeError: another thread decides by this engine now.
            ValueError: commands are committed, and the planner knows no prefix, or none so long.
        """
        if not self._deciding.acquire(blocking=False):
            raise RuntimeError("two threads decide by one engine, which has one set of buffers: make one for each")
        try:
            return self._decide(observation, committed)
        finally:
            self._deciding.release()

    def _decide(self, observation: np.ndarray, committed: np.ndarray | None) -> Decision:
        began = time.perf_counter()
        observation = decision_vector(self.control, observation, self._what)
        if not self.runner.checks:
            self.control.validate_observation(observation)
        if self.longest_prefix or committed is not None:
            none = np.zeros((0, self.control.action_dim)) if committed is None else committed
            self.runner.ask(committed_columns(self.control, none, observation, self.longest_prefix))
        self._observation[:] = observation
        draw = self._next
        checked = time.perf_counter()
        try:
            answer = self.runner.run(self._observation, draw)
        except RefusedError as refused:
            self.control.validate_observation(observation)  # which says what was got and what to mend
            raise ObservationError(f"{refused}, in float32") from refused
        self._next = (draw + 1) % self.draws
        action = answer.action.astype(np.float64)
        if not (isfinite(answer.score) and all(map(isfinite, action.tolist()))):
            raise none_finite(len(answer.scores))
        if committed is not None and len(committed):
            action = np.array(committed[0], np.float64)
        plan, plans = self._nothing
        if answer.plan is not None:
            plan = answer.plan.copy()
            plans = plan[None]
        done = time.perf_counter()
        timings = {"encode": checked - began, "generate": done - checked, "select": 0.0, "total": done - began}
        return Decision(action, plan, plans, answer.scores.copy(), timings)

    def act(self, observations: np.ndarray) -> np.ndarray:
        """Many observations (B, observation_dim) one after the other -> actions (B, A), for simulations.

        Raises:
            ObservationError, NoPlanError: as ``decide``.
        """
        actions = np.zeros((len(observations), self.control.action_dim))
        for action, observation in zip(actions, observations, strict=True):
            action[:] = self.decide(observation).action
        return actions

    def predict_action_chunk(self, observations: np.ndarray) -> np.ndarray:
        """Return the next ``n_action_steps`` actions (B, n_action_steps, A) for observations (B, observation_dim).

        Raises:
            ObservationError, NoPlanError: as ``decide``.
        """
        if self.control.n_action_steps == 1:
            return self.act(observations)[:, None]
        return np.stack([chunk_of(self.control, self.decide(o).plan, np.asarray(o)) for o in observations])

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
        """Fold a policy and run it; one whose generator has no fold runs whole, by ONNX Runtime or torch.

        backend: "auto" measures those that give the policy's own action, and takes the fastest; those in 8 bits, TF32
        or bfloat16 differ a little, and "compile" takes half a minute to start: these only when they are asked for.
        threads: of the CPU; None measures 1 ... all cores (native and ONNX), or takes torch's setting.

        Raises:
            NoEngineError: the policy has no engine, or not this one; the message says why.
            ImportError: the backend needs the export extra, and it is not installed.
            NativeError: there is no C compiler, or the processor has no 8 bits.
            ValueError: there is no such backend, or it needs a CUDA device.
        """
        from onestride.engine.backends import runners_of  # and torch with it

        plan = plan or policy.control.n_action_steps > 1
        runners = runners_of(policy, backend, threads=threads, draws=draws, seed=seed, plan=plan)
        runner, chosen = fastest(runners, policy.control)
        asking = Asking.of(policy.generator)
        engine = cls(runner, policy.control, draws, chosen, policy.nfe, asking, policy.longest_prefix)
        engine.ask(**{name: value[0].tolist() for name, value in policy.asked.items()})
        return engine

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
        control = control_spec_of(contract)
        runners = load_runners(folder, contract, provider, threads)
        check_contract(runners[0], contract, control, folder)
        runner, chosen = fastest(runners, control)
        asking, usual = asking_of(contract)
        engine = cls(runner, control, contract["draws"], chosen, contract.get("nfe", 1), asking, prefix_of(contract))
        engine.ask(**usual)
        return engine
