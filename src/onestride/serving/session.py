"""One client of a served policy: its history, its noise, and what each of its messages is answered with."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from onestride.control.history import Samples
from onestride.plans.asking import NOTHING, Asking
from onestride.robot.control_spec import NUMBERS, ControlSpec, ObservationError
from onestride.robot.decision import Decision, NoPlanError, chunk_of
from onestride.serving.messages import MessageError, pack, text_of, unpack
from onestride.serving.observations import largest, steps_of

#: What a request may ask for: the next actions, these with the whole plan, or to begin an episode.
ENDPOINTS = INFER, INFER_PLAN, RESET = "infer", "infer_plan", "reset"
#: What a request's plan is asked for, beside its observation.
CONDITIONS = "conditions"
#: How an error begins, by its kind.
REFUSED, NO_PLAN, BAD_MESSAGE, FAILED = "observation refused", "no plan", "bad request", "the policy failed"

LONGEST_LINE = 1000  # characters of an error

log = logging.getLogger("onestride.serving")


class Served(Protocol):
    """A policy or an engine."""

    @property
    def control(self) -> ControlSpec:
        """What it controls."""
        ...

    def decide(self, observation: np.ndarray) -> Decision:
        """Return the decision about an observation (observation_dim,)."""
        ...

    def reset(self, seed: int, /) -> None:
        """Start the candidates' noise over."""
        ...


def asking_of(policy: Served) -> Asking:
    """Return what a policy's plans may be asked for."""
    return getattr(policy, "asking", NOTHING)


def asked_of(policy: Served) -> np.ndarray:
    """Return what a policy's plans are asked for now (K,), NaN: not."""
    return getattr(policy, "asked_numbers", asking_of(policy).numbers({})).copy()


@dataclass(frozen=True)
class Answer:
    """What a message is answered with.

    Attributes:
        data: bytes, or the text of an error in one line.
        broken: whether it is an error of the policy, not of the request.
    """

    data: bytes | str
    broken: bool = False


class Session:
    """One client. Decisions are made in one thread, in which clients take turns: each finds its own noise there.

    Args:
        policy: what decides.
        seed: of the client's noise: the same seed and observations give the same actions, whoever else asks.
        usual: what plans are asked for where the client says nothing (K,); None: what the policy is asked for now.
    """

    def __init__(self, policy: Served, seed: int = 0, usual: np.ndarray | None = None) -> None:
        self.policy, self.spec, self.asking = policy, policy.control, asking_of(policy)
        self._usual = asked_of(policy) if usual is None else usual
        self.answered = self.refused = 0
        self.last_refusal = ""
        self._samples: Samples[np.ndarray] = Samples(self.spec.n_obs_steps, self.spec.control_dt)
        self._largest = largest(self.spec)
        self._total_ms: float | None = None  # of the last request
        self._seed: int | None = seed  # of noise that begins with the next decision
        self._noise: Any = None  # where it is

    def answer(self, message: bytes | str, came: float | None = None) -> Answer:
        """Return the answer to a message.

        Args:
            message: as it came.
            came: when, by ``time.perf_counter()`` [s]; what passed since then was spent waiting for others.
        """
        came = time.perf_counter() if came is None else came
        try:
            data = self._answer(message, came)
        except MessageError as error:
            return self._error(BAD_MESSAGE, error)
        except ObservationError as error:
            return self._error(REFUSED, error)
        except NoPlanError as error:
            return self._error(NO_PLAN, error)
        except Exception as error:  # a bug, or a machine that fails: the server goes on for others
            log.exception("the policy failed")
            return Answer(self._error(FAILED, f"{type(error).__name__}; the server's log says where").data, broken=True)
        self.answered += 1
        self._total_ms = 1e3 * (time.perf_counter() - came)
        return Answer(data)

    def _answer(self, message: bytes | str, came: float) -> bytes:
        began = time.perf_counter()
        if isinstance(message, str):
            raise MessageError("the message is text, expected a binary one (msgpack)")
        if len(message) > self._largest:
            raise MessageError(
                f"the message has {len(message)} bytes, expected at most {self._largest}: send images in the size that "
                "the policy learnt from"
            )
        request = unpack(message)
        fields = {field.name for field in self.spec.fields}
        asked = INFER if "endpoint" in fields else request.get("endpoint", INFER)
        if not isinstance(asked, str) or asked not in ENDPOINTS:
            raise MessageError(f"endpoint is {str(asked)[:40]!r}, expected one of {', '.join(ENDPOINTS)}")
        if asked == RESET:
            self._reset(request)
            return pack({"status": "reset"})
        conditions = self._usual if CONDITIONS in fields else self._conditions(request.pop(CONDITIONS, None))
        observation = self._observation(request)
        decided = time.perf_counter()
        decision = self._decide(observation, conditions)
        done = time.perf_counter()
        timing = {"infer_ms": 1e3 * (done - began), "queue_ms": 1e3 * (began - came)}
        if self._total_ms is not None:
            timing["prev_total_ms"] = self._total_ms
        answer: dict[str, Any] = {
            "actions": self._actions(decision, observation),
            "policy_timing": {"infer_ms": 1e3 * (done - decided)},
            "server_timing": timing,
        }
        if asked == INFER_PLAN:
            answer |= {"action": decision.action, "plan": decision.plan, "scores": decision.scores}
        return pack(answer)

    def _reset(self, request: dict[str, Any]) -> None:
        seed = request.get("seed", 0)
        if type(seed) is not int or not 0 <= seed < 2**63:
            raise MessageError(f"seed is {str(seed)[:40]}, expected a whole number from 0 on")
        self._samples.clear()
        self._seed = seed

    def _observation(self, request: dict[str, Any]) -> np.ndarray:
        """The vector that is decided on (observation_dim,)."""
        steps = steps_of(self.spec, request)
        if len(steps) == self.spec.n_obs_steps:
            return steps.reshape(-1)
        now = request.get("time", time.monotonic())
        if not (isinstance(now, int | float | np.number) and np.isfinite(now)):
            raise MessageError(f"time is {str(now)[:40]}, expected seconds")
        self._samples.clear_after_pause(float(now))
        return np.concatenate(self._samples.add(float(now), steps[0]))

    def _conditions(self, given: Any) -> np.ndarray:
        """What the plan of this request is asked for (K,), whatever others ask for; NaN: not."""
        if given is None:
            return self._usual
        if not isinstance(given, Mapping):
            raise MessageError(f"{CONDITIONS} is {str(given)[:40]}, expected a map of names to numbers")
        named = {text_of(name): value for name, value in given.items()}
        try:
            for name, value in named.items():
                if np.asarray(value).dtype.kind not in NUMBERS:
                    raise MessageError(f"condition '{name[:80]}' is {str(value)[:40]}, expected numbers")
            return self.asking.numbers(named)
        except (ValueError, TypeError, OverflowError) as error:
            raise MessageError(str(error)) from error

    def _decide(self, observation: np.ndarray, conditions: np.ndarray) -> Decision:
        policy: Any = self.policy
        if conditions.size and not np.array_equal(conditions, policy.asked_numbers, equal_nan=True):
            policy.ask(**self.asking.by_name(conditions))
        if self._seed is not None:
            policy.reset(self._seed)
            self._seed = None
        elif self._noise is not None:
            policy.noise = self._noise
        try:
            return policy.decide(observation)
        finally:
            self._noise = getattr(policy, "noise", None)

    def _actions(self, decision: Decision, observation: np.ndarray) -> np.ndarray:
        """The next commands (n_action_steps, A)."""
        n = self.spec.n_action_steps
        chunk = decision.action[None] if n == 1 else chunk_of(self.spec, decision.plan, observation)
        if len(chunk) < n:
            raise NoPlanError(f"the plan gives {len(chunk)} of {n} commands: export the engine again, with its plan")
        if not np.isfinite(chunk).all():
            raise NoPlanError("a command is not finite")
        return chunk

    def _error(self, kind: str, error: object) -> Answer:
        self.refused += 1
        line = " ".join(f"{kind}: {error}".split())[:LONGEST_LINE]
        self.last_refusal = "".join(c if c.isprintable() else "?" for c in line)  # it may quote what a client sent
        return Answer(self.last_refusal)
