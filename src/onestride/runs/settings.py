"""Settings of commands: how pairs are made, how planners are evaluated and timed. Read without torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from onestride.selectors.candidate_sampling import SHARES, TEMPERATURES

Solver = Literal["ddim", "ddpm", "dpm++2m"]


@dataclass(frozen=True)
class PairsConfig:
    """How many pairs, from which noise. Temperatures and their probabilities are the paper's (section V-A)."""

    count: int = 100_000
    shards: int = 8
    temperatures: tuple[float, ...] = TEMPERATURES
    probabilities: tuple[float, ...] = SHARES
    solver: Solver = "ddim"  # "ddpm" is the paper's literal reading
    jitter: float = 0.0  # starts are moved by this much noise, in their standard deviations
    precision: Literal["32-true", "bf16-mixed"] = "32-true"  # of the teacher's products
    teacher: str = "teacher"  # the folder in the run of the planner that makes them
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 1 or self.shards < 1:
            raise ValueError(f"pairs need count and shards of at least 1, got {self.count} and {self.shards}")
        if len(self.temperatures) != len(self.probabilities) or abs(sum(self.probabilities) - 1) > 1e-6:
            raise ValueError(
                f"temperatures {self.temperatures} need as many probabilities, adding up to 1, got {self.probabilities}"
            )
        if self.jitter < 0:
            raise ValueError(f"pairs.jitter is {self.jitter}, expected at least 0")
        if min(self.probabilities) < 0 or min(self.temperatures) <= 0:
            raise ValueError(f"probabilities {self.probabilities} or temperatures {self.temperatures} are negative")
        if not self.teacher or Path(self.teacher).name != self.teacher:
            raise ValueError(f"pairs.teacher is {self.teacher!r}, expected a folder's name in the run")
        if self.solver not in get_args(Solver):
            raise ValueError(f"pairs.solver is {self.solver!r}; there are {', '.join(get_args(Solver))}")


@dataclass(frozen=True)
class EvaluateConfig:
    """How policies are compared."""

    trials: int = 50
    scene_seed: int = 0
    clock: Literal["charged", "real"] = "charged"  # simulated time pays for each decision, or wall time
    timeout: float = 60.0  # of a trial [s]

    def __post_init__(self) -> None:
        if self.clock not in ("charged", "real"):
            raise ValueError(f"evaluate.clock is {self.clock!r}; there are charged, real")
        if self.trials < 1:
            raise ValueError(f"evaluate.trials is {self.trials}, expected at least 1")


@dataclass(frozen=True)
class ReturnsConfig:
    """How planners are scored on a benchmark of returns (DNK, section V-B: 5 seeds x 500 episodes)."""

    episodes: int = 10  # of every seed
    width: int = 10  # environments side by side
    teacher_seeds: int = 3  # of noise and starts: the teacher is trained once
    crossed: tuple[str, ...] = ("dnk", "kdm", "kdm-f", "mlp")  # ranked by the return model too
    first_action: tuple[str, ...] = ("dnk",)  # where the critic judges more than that, also ranked by it alone
    mixture: tuple[str, ...] = ("teacher", "dnk")  # where the critic has its own temperatures, also by training's
    teacher_steps: tuple[int, ...] = ()  # of DDIM: the teacher once more with each, usually ranked and unselected
    engines: tuple[str, ...] = ("dnk",)  # decided by an engine too, in float32 and in 8 bits
    states: int = 256  # kept of every planner's way: candidates are compared and latencies taken at them
    shown: int = 4  # of them in the figures
    decisions: int = 100  # timed, of every row
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"  # of teachers in episodes; all else: 32-true
    workers: int = 0  # processes that roll episodes; 0: one per core on a CPU, at most 8

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise ValueError(f"evaluate.workers is {self.workers}; expected at least 0 (one per core)")
        numbers = (self.episodes, self.width, self.teacher_seeds, self.states, self.shown, self.decisions)
        if min(*numbers, *self.teacher_steps) < 1:
            raise ValueError(f"evaluate wants numbers of at least 1, got {self}")


@dataclass(frozen=True)
class BenchConfig:
    """What decisions are timed for (``onestride bench``)."""

    candidates: tuple[int, ...] = (1, 16, 64, 256)
    rounds: int = 40  # in each, every row has its turn
    burst: int = 10  # decisions of a row in its turn that count
    draws: int = 64
    threads: int | None = None  # of every row and of the ceilings; None: torch's own setting
    paper_teacher: bool = False  # also the temporal U-Nets of the paper's size, where the preset has them
    compiled: bool = False  # also the engine by torch.compile, which takes half a minute per number of candidates
    pairs: int | None = None  # also how fast the teacher makes pairs, in blocks of so many; training's are of 1024

    def __post_init__(self) -> None:
        numbers = (*self.candidates, self.rounds, self.burst, self.draws, 1 if self.pairs is None else self.pairs)
        if not self.candidates or min(numbers) < 1:
            raise ValueError(f"bench wants numbers of at least 1, got {self}")
