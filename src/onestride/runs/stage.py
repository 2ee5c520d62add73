"""What a run is made of: stages one after another, and a preset, which is a tuple of them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from onestride.methods import METHODS
from onestride.methods.dynamics import ContextsConfig
from onestride.networks.vision import VisionConfig
from onestride.own_code import own_code
from onestride.registry import UnknownNameError
from onestride.runs.settings import EvaluateConfig, PairsConfig, ReturnsConfig
from onestride.runs.trainable import CONTEXTS, PAIRS, TEACHER, check_trainable
from onestride.selectors import SELECTORS
from onestride.training.config import TrainConfig

#: How a stage without settings of its own is trained.
TRAINING = TrainConfig(steps=4_000, batch_size=512, learning_rate=1e-3)
#: How contexts are: small networks, whose differences of probabilities matter.
CLASSIFIER = TrainConfig(steps=20_000, batch_size=256, learning_rate=1e-3, ema_decay=0.99, precision="32-true")


@dataclass(frozen=True)
class Defaults:
    """How a stage without settings of its own is trained or made.

    training: of methods and selectors; contexts: of contexts; pairs: how many, and from which noise.
    """

    training: TrainConfig = TRAINING
    contexts: TrainConfig = CLASSIFIER
    pairs: PairsConfig = field(default_factory=PairsConfig)


DEFAULTS = Defaults()


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One thing that is trained or made, and with which settings.

    name: what it is called in a preset and on the command line.
    role: "selector", "method", "pairs", or "contexts" (see ``runs/contexts.py``).
    of: the selector's or method's name; "": the stage's.
    config, training: None: as the method or selector has it, and as ``Defaults`` say.
    seeds: of training; a method without a folder of its own is trained once with each.
    options: of a selector: how it ranks; None: as its kind does.
    selector: of a method: which ranks its candidates; None: the task's own, or nobody.
    guidance: of a method: weight of the return model's gradient at every reverse step, per standardised return.
    horizon: rows of a method's plans, where they are not the task's.
    prefix: of a method: how many of a plan's first commands may be committed before it is made; None: as many as of
        the plans that it learns from.
    vision: of a method: how a task's cameras are encoded; None: as by default.
    preset: whose stage it is, with the preset's own settings.
    """

    name: str
    role: Literal["selector", "method", "pairs", "contexts"]
    of: str = ""
    config: Any = None
    training: TrainConfig | None = None
    seeds: tuple[int, ...] = (0,)
    options: Any = None
    selector: str | None = None
    guidance: float = 0.0
    horizon: int | None = None
    prefix: int | None = None
    vision: VisionConfig | None = None
    preset: str = field(default="", compare=False)

    @property
    def what(self) -> str:
        """The name of its method or selector."""
        return self.of or self.name

    def complete(self, defaults: Defaults = DEFAULTS) -> Stage:
        """Return the stage with everything that it left to its method or selector, and to ``defaults``."""
        if self.role == "pairs":
            return replace(self, config=self.config or defaults.pairs)
        if self.role == "contexts":
            return replace(self, config=self.config or ContextsConfig(), training=self.training or defaults.contexts)
        record = METHODS[self.what]() if self.role == "method" else SELECTORS[self.what]()
        options = self.options
        if self.role == "selector" and options is None:
            options = SELECTORS[self.what]().options
        config = record.config if self.config is None else self.config
        training = self.training or defaults.training
        if self.role == "method" and self.training is None:
            training = replace(training, batch_size=training.batch_size // METHODS[self.what]().samples(config))
        return replace(self, config=config, training=training, options=options)


@dataclass(frozen=True)
class Ablations:
    """What the ablations of a preset train: a student from which a piece is taken away, and for how long."""

    student: Any
    training: TrainConfig


@dataclass(frozen=True)
class DataSet:
    """Which data a preset is of, where its task has several sets: a run's data and results then bear the name.

    name: such as ``hopper-medium``; "": whatever is collected. behaviours: by how many it is made; 0: by any.
    """

    name: str = ""
    behaviours: int = 0


@dataclass(frozen=True, kw_only=True)
class Preset:
    """One whole experiment. amount: episodes of a task's own demonstrator, or steps of behaviour policies.

    task: "": of any environment. ranked_by: the selector of methods that the preset does not name.
    unnamed: how what it does not name is trained or made.
    name: by which it was loaded; what is made of it keeps that.
    hours: measured, or judged from it, on the machine that ``about`` names.
    """

    about: str
    task: str
    amount: int
    stages: tuple[Stage, ...]
    evaluate: EvaluateConfig | ReturnsConfig
    data_seed: int = 0
    data: DataSet = DataSet()
    ranked_by: str | None = None
    unnamed: Defaults = DEFAULTS
    name: str = field(default="", compare=False)
    ablations: Ablations | None = None
    hours: float = 0.0
    ablation_hours: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", tuple(replace(stage, preset=self.name) for stage in self.stages))

    def stage(self, name: str) -> Stage:
        """Return the stage of that name, or one for the method or selector of that name, as ``unnamed`` says.

        Raises:
            UnknownNameError: there is no such stage, method or selector.
        """
        for stage in self.stages:
            if stage.name == name:
                return stage.complete(self.unnamed)
        if name in (PAIRS, CONTEXTS):
            role = "pairs" if name == PAIRS else "contexts"
            return Stage(name=name, role=role, preset=self.name).complete(self.unnamed)
        kind = SELECTORS if ":" not in name and name in SELECTORS else METHODS
        if ":" in name:
            kind = _kind_of(name)
            name = kind.add(name)
        if name not in kind:
            check_trainable(name)
            raise UnknownNameError(f"this preset has no '{name}'; train a method by its own name, such as diffuser")
        role = "selector" if kind is SELECTORS else "method"
        ranked = kind is METHODS and METHODS[name]().ranked
        stage = Stage(name=name, role=role, selector=self.ranked_by if ranked else None, preset=self.name)
        return stage.complete(self.unnamed)

    def with_stage(self, name: str, **changes: Any) -> Preset:
        """Return the preset with another stage of that name."""
        return replace(self, stages=tuple(replace(s, **changes) if s.name == name else s for s in self.stages))

    def ranked_with(self, selector: str) -> Preset:
        """Return the preset whose planners are all ranked by that selector, the only one that is trained."""
        methods = (replace(s, selector=selector, guidance=0.0) for s in self.stages if s.role == "method")
        others = (s for s in self.stages if s.role in ("pairs", "contexts"))
        order = {s.name: i for i, s in enumerate(self.stages)}
        ranking = Stage(name=selector, role="selector")
        stages = (ranking, *sorted((*methods, *others), key=lambda s: order[s.name]))
        return replace(self, stages=stages, ranked_by=selector)

    def only(self, methods: Collection[str]) -> Preset:
        """Return the preset with no other methods than these, and what they learn from and are ranked by.

        The teacher stays, since every evaluation compares with it; for no methods nothing stays.
        """
        wanted = {*methods, TEACHER} if methods else set()
        scored = any(s.name in wanted and METHODS[s.what]().contexts for s in self.stages if s.role == "method")
        pairs = any(s.name in wanted and METHODS[s.what]().needs == "pairs" for s in self.stages if s.role == "method")
        kept = {"method": wanted, "pairs": {PAIRS} if pairs else set(), "contexts": {CONTEXTS} if scored else set()}
        stages = (s for s in self.stages if (wanted if s.role == "selector" else s.name in kept[s.role]))
        return replace(self, stages=tuple(stages))

    def without(self, *names: str) -> Preset:
        """Return the preset without the stages of these names."""
        return replace(self, stages=tuple(s for s in self.stages if s.name not in names))


def _kind_of(reference: str) -> Any:
    """The registry that FILE.py:NAME or MODULE:NAME belongs to, by what it makes."""
    from onestride.methods.method import Method
    from onestride.registry import attribute
    from onestride.selectors.selector import SelectorKind

    found = attribute(reference, "method or selector")
    with own_code():
        made = found() if callable(found) else found
    if isinstance(made, Method):
        return METHODS
    if isinstance(made, SelectorKind):
        return SELECTORS
    raise UnknownNameError(f"{reference} is a {type(made).__name__}; expected a Method or a SelectorKind")


def distilled(
    *, teacher: Any, teacher_training: TrainConfig, pairs: PairsConfig, student: Any, student_training: TrainConfig,
    methods: tuple[str, ...] = ("dnk",), seeds: tuple[int, ...] = (0,), ranked_by: str | None = None,
    teacher_ranked_by: str | None = None, guidance: float = 0.0,
) -> tuple[Stage, ...]:  # fmt: skip
    """Return the stages from windows to students of a Koopman family: teacher, pairs, one student per method and seed.

    student: the settings that the methods share; each brings its own operator.
    """
    return (
        Stage(
            name="teacher", of="diffuser", role="method", config=teacher, training=teacher_training,
            selector=teacher_ranked_by, guidance=guidance,
        ),
        Stage(name=PAIRS, role="pairs", config=pairs),
        *(
            Stage(
                name=method, role="method", config=replace(student, operator=method), training=student_training,
                seeds=seeds, selector=ranked_by,
            )
            for method in methods
        ),
    )  # fmt: skip
