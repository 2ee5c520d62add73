"""A policy on a server, as the control loop wants it.

    with RemotePolicy("ws://gpu-machine:8000", timeout=0.1) as policy, AsyncPolicy(policy, clock) as worker:
        log = run_episode(robot, clock, worker, policy.control, timeout=30.0)

A server that is late or gone is no reason to wait: after ``timeout`` there is no decision, and the loop's fallback
acts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onestride.robot.control_spec import ControlSpec, ObservationError
from onestride.robot.decision import Decision, NoAnswerError, NoPlanError
from onestride.robot.fields import decision_vector
from onestride.serving.connection import Connection, RefusedError
from onestride.serving.messages import MessageError, pack, unpack
from onestride.serving.metadata import asking_of, spec_of
from onestride.serving.observations import request_of
from onestride.serving.session import CONDITIONS, INFER_PLAN, NO_PLAN, REFUSED, RESET

CONNECT = 10.0  # how long the first connection may take [s]


class RemotePolicy:
    """A ``Decider`` whose decisions a policy server makes. One thread at a time decides.

    Attributes:
        metadata: what the server said of its policy.
        control: its control specification.
        asking: what its plans may be asked for.

    Args:
        url: such as "ws://127.0.0.1:8000".
        control: the control specification; None: a built-in task's, or what the server's numbers say.
        api_key: what the server wants to be told, if anything.
        timeout: an answer that takes longer counts as none [s].
        patience: what happens when answers stay away. Each decision without one raises NoAnswerError, which a control
            loop answers by its fallback, and the next one connects again where the connection was lost. When that has
            lasted for ``patience`` [s], ConnectionError is raised, which ends an episode and stops the robot.
            0: at once, nothing connects again.

    Raises:
        ConnectionError: there is no server, or it refuses this client.
        ValueError: a number is out of range, or the server's task is not known here; see ``spec_of``.
    """

    def __init__(
        self,
        url: str,
        *,
        control: ControlSpec | None = None,
        api_key: str | None = None,
        timeout: float = 0.5,
        patience: float = 2.0,
    ) -> None:
        if not (timeout > 0 and patience >= 0):
            raise ValueError(
                f"timeout is {timeout:g} s and patience {patience:g} s; expected timeout > 0, patience >= 0"
            )
        self.url, self.timeout, self.patience = url, timeout, patience
        self._headers = {} if api_key is None else {"Authorization": f"Api-Key {api_key}"}
        self._connection: Connection | None = None
        self._asking = threading.Lock()
        self._owed = 0  # answers that are still to come
        self._failing: float | None = None  # since when there has been no answer [s]
        self.metadata: dict[str, Any] = {}
        try:
            self._connect(CONNECT)
        except NoAnswerError as error:
            raise ConnectionError(f"no policy server at {url}: {error}") from error
        try:
            self.control, self.asking = spec_of(self.metadata, control), asking_of(self.metadata)
        except ValueError:
            self.close()
            raise
        self._asked: dict[str, Any] | None = None
        self._what = f" of {self.control.name}: {self.control.layout}"

    def __enter__(self) -> RemotePolicy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the server."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def ask(self, **conditions: float | Sequence[float]) -> None:
        """Ask for these conditions from the next decision on, such as ``ask(dynamics=0.5)``; others are left away.

        They go along with every request, so that neither other clients nor a server that begins anew change them.
        Before it is called, plans are asked for what the policy was trained or exported with.

        Raises:
            ValueError: no such condition was learnt, or the value has another size or is out of range.
        """
        self._asked = self.asking.by_name(self.asking.numbers(conditions))

    def decide(self, observation: np.ndarray | Mapping[str, Any]) -> Decision:
        """Return the decision about an observation, as an engine's ``decide`` does.

        Raises:
            NoAnswerError: there was no answer in time.
            NoPlanError: no candidate is finite.
            ObservationError: the observation cannot be acted on.
            ConnectionError: there has been no answer for longer than ``patience``.
        """
        began = time.perf_counter()
        request = request_of(self.control, decision_vector(self.control, observation, self._what))
        answer = self.infer({**request, "endpoint": INFER_PLAN})
        try:
            action, plan, scores = (np.array(answer[name], np.float64 if name == "action" else np.float32)
                                    for name in ("action", "plan", "scores"))  # fmt: skip
            inferred = float(answer["policy_timing"]["infer_ms"]) / 1e3
        except (KeyError, TypeError, ValueError) as error:
            raise NoAnswerError(f"{self.url} gave an answer that is no decision ({error!r})") from error
        if action.shape != (self.control.action_dim,) or not np.isfinite(action).all():
            raise NoAnswerError(f"{self.url} gave action {action}, expected {self.control.action_dim} finite numbers")
        total = time.perf_counter() - began
        timings = {"encode": total - inferred, "generate": inferred, "select": 0.0, "total": total}
        return Decision(action, plan, plan[None], scores, timings)

    def infer(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        """Return the server's answer to an observation by names, with ``actions`` (n_action_steps, A).

        Raises:
            NoPlanError, ObservationError, ConnectionError: as ``decide``.
            NoAnswerError: there was no answer in time, or the server does not understand the observation.
            RuntimeError: another thread asks now.
        """
        asked = {} if self._asked is None else {CONDITIONS: self._asked}
        answer = self._ask(pack({**asked, **observation}))
        if isinstance(answer, bytes):
            try:
                return unpack(answer)
            except MessageError as error:
                raise NoAnswerError(f"{self.url} gave an answer that cannot be read: {error}") from error
        kind, _, said = answer.partition(": ")
        if kind == REFUSED:
            raise ObservationError(said)
        if kind == NO_PLAN:
            raise NoPlanError(said)
        raise NoAnswerError(answer)

    def reset(self, seed: int = 0) -> None:
        """Begin an episode: start the candidates' noise over, and forget earlier observations.

        Raises:
            NoAnswerError, ConnectionError: as ``decide``.
        """
        self.infer({"endpoint": RESET, "seed": seed})

    # ------------------------------------------------------------ the connection

    def _ask(self, message: bytes) -> bytes | str:
        """Return the answer to a message, over a new connection where the last is lost."""
        if not self._asking.acquire(blocking=False):
            raise RuntimeError("two threads ask by one RemotePolicy, which has one connection: make one for each")
        deadline = time.monotonic() + self.timeout
        try:
            if self._connection is None:
                self._connect(self.timeout)
            answer = self._exchange(message, deadline)
        except NoAnswerError as error:
            now = time.monotonic()
            self._failing = now if self._failing is None else self._failing
            if now - self._failing >= self.patience:
                lasted = f" for {self.patience:g} s" if self.patience else ""
                raise ConnectionError(f"no answer from {self.url}{lasted}: {error}") from error
            raise
        finally:
            self._asking.release()
        self._failing = None
        return answer

    def _connect(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        try:
            self._connection = Connection(self.url, self._headers, timeout)
            first = self._connection.receive(deadline)
        except RefusedError as error:
            raise NoAnswerError(str(error)) from error
        except OSError as error:
            self.close()
            raise NoAnswerError(f"it cannot be reached ({error})") from error
        self._owed = 0
        try:
            metadata = unpack(first) if isinstance(first, bytes) else {}
        except MessageError:
            metadata = {}
        if self.metadata and metadata != self.metadata:
            self.close()
            raise ConnectionError(f"{self.url} serves another policy than before: {metadata.get('policy')}")
        self.metadata = metadata

    def _exchange(self, message: bytes, deadline: float) -> bytes | str:
        """Send a message and return its answer; late answers to earlier ones are thrown away first."""
        assert self._connection is not None
        try:
            while self._owed:
                self._connection.receive(deadline)
                self._owed -= 1
            self._connection.send(message, deadline)
            self._owed += 1
            answer = self._connection.receive(deadline)
            self._owed -= 1
        except TimeoutError as error:
            raise NoAnswerError(f"no answer from {self.url} within {self.timeout:g} s") from error
        except OSError as error:
            self.close()
            raise NoAnswerError(f"the connection to {self.url} is lost ({error})") from error
        return answer
