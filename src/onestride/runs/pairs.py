"""Teacher-target pairs: what the teacher makes of a stored noise, written in shards (DNK, section IV-A).

Row i of the pairs is a function of the seed and of i alone (its observation, its temperature, its noise), and
rows are computed in blocks of a fixed size, so the pairs do not depend on how many shards there are or on how
often the work was interrupted. The target is a function of the stored noise because the default solver is
deterministic; with "ddpm" it is not, and a student can only learn the mean of its targets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import torch
from torch import Tensor

from onestride.checkpoint import plain
from onestride.differences import differing
from onestride.files import CheckpointError, exclusive, read_json
from onestride.memory import keep_freed_memory
from onestride.methods.asked import drawn
from onestride.methods.prefixed import PrefixedPlanner
from onestride.methods.settings import solver
from onestride.networks.conditions import COLUMN
from onestride.plans.asking import Asking
from onestride.plans.given import make_prior
from onestride.policy.embedding import embedded
from onestride.policy.policy import Policy
from onestride.progress import console, track
from onestride.runs.settings import PairsConfig
from onestride.seals import check_file, check_seal, seal, sha256
from onestride.tensors import opened, save_unsealed
from onestride.training.datasets import Rows

BLOCK = 1024  # rows computed together; part of what makes a row what it is
MANIFEST = "pairs.json"
SCHEMA = 2
COLUMNS = ("prior", "target", "context", "quality", "temperature")


class Shard(TypedDict):
    """A finished shard, as the manifest lists it."""

    sha256: str
    rows: int


class Manifest(TypedDict):
    """What the pairs are, and which shards are finished."""

    schema: int
    settings: dict[str, Any]
    identity: dict[str, Any]
    shards: dict[str, Shard]
    count: int


class Cut(NamedTuple):
    """A shard: its file's name, its first block, and the block after its last."""

    name: str
    first: int
    last: int


#: Makes shards that are missing, as they come. Its second argument is told up to which row it is, and where.
Maker = Callable[[Sequence[Cut], Callable[[int, str], None]], Iterator[tuple[Cut, Shard]]]


def make_pairs(
    teacher: Policy, observations: Rows, config: PairsConfig, folder: Path, identity: dict[str, Any]
) -> None:
    """Write all shards that are not there yet, or no longer what their checksums say.

    observations (M, observation_dim), task units: where plans start. What the teacher's encoders make of them is part
    of the pairs' context. identity: the teacher and the data, so that a folder begun with others is refused.

    Raises:
        CheckpointError: the folder was begun with other settings, another teacher or other data, or another process
            makes pairs there.
    """
    teacher, more = teacher.with_settings(solver(config.solver)), torch.Generator(teacher.device)

    def here(missing: Sequence[Cut], report: Callable[[int, str], None]) -> Iterator[tuple[Cut, Shard]]:
        for cut in missing:
            yield cut, write_shard(teacher, observations, config, folder, cut, more, report)

    make_shards(here, config, folder, identity)


def make_shards(make: Maker, config: PairsConfig, folder: Path, identity: dict[str, Any]) -> None:
    """Have all shards made that are missing or altered; see ``make_pairs``."""
    with exclusive(folder):
        cuts = cuts_of(config)
        manifest = _begin(folder, config, len(cuts), identity)
        shards = manifest["shards"]
        intact = {c.name for c in cuts if c.name in shards and _intact(folder, c.name, shards[c.name]["sha256"])}
        done = sum(shards[name]["rows"] for name in intact)
        with track("pairs", config.count, done) as bar:
            missing = [cut for cut in cuts if cut.name not in intact]
            for cut, shard in make(missing, lambda rows, said: bar.update(min(rows, config.count), said)):
                shards[cut.name] = shard
                seal(folder / MANIFEST, manifest)
                done += shard["rows"]
                bar.update(done)


def cuts_of(config: PairsConfig) -> list[Cut]:
    """Return the shards of some settings, each a run of blocks."""
    blocks = -(-config.count // BLOCK)
    count = min(config.shards, blocks)
    ends = pairwise(shard * blocks // count for shard in range(count + 1))
    return [Cut(f"pairs-{i:05d}-of-{count:05d}.safetensors", *each) for i, each in enumerate(ends)]


def _begin(folder: Path, config: PairsConfig, shards: int, identity: dict[str, Any]) -> dict[str, Any]:
    """The manifest of a folder, which may have been begun before."""
    # Where the shards are cut does not change the pairs, so it is not part of what they are.
    settings = {k: v for k, v in asdict(config).items() if k != "shards" and (k, v) != ("teacher", "teacher")}
    manifest: dict[str, Any] = {"schema": SCHEMA, "settings": plain(settings), "identity": identity, "shards": {}}
    if (folder / MANIFEST).exists():
        found = load_manifest(folder)
        if any(found[k] != manifest[k] for k in ("settings", "identity")):
            which = differing(*({**each["settings"], **each["identity"]} for each in (found, manifest)))
            raise CheckpointError(
                f"{folder} holds pairs made with other settings, another teacher or other data{which}; choose another "
                "--run, or delete the folder to make them anew"
            )
        if found["shards"] and found["count"] != shards:
            raise CheckpointError(
                f"{folder} was begun with {found['count']} shards, now {shards} are asked for; use --pairs.shards "
                f"{found['count']}, or delete the folder"
            )
        manifest = found
    return manifest | {"count": shards}


def write_shard(
    teacher: Policy, observations: Rows, config: PairsConfig, folder: Path, cut: Cut, more: torch.Generator,
    report: Callable[[int, str], None] = lambda _rows, _said: None,
) -> Shard:  # fmt: skip
    """Make one shard and write its file; returns what the manifest says of it. more: see ``make_block``."""
    keep_freed_memory()
    parts = []
    for block in range(cut.first, cut.last):
        parts.append(make_block(teacher, observations, config, block, more))
        report((block + 1) * BLOCK, cut.name)
    columns = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    save_unsealed(folder / cut.name, columns)
    return {"sha256": sha256(folder / cut.name), "rows": len(columns["prior"])}


@torch.inference_mode()
def make_block(
    teacher: Policy, observations: Rows, config: PairsConfig, block: int, more: torch.Generator, size: int = BLOCK
) -> dict[str, Tensor]:
    """Rows size * block ... of the pairs, normalised, on the CPU.

    teacher: with the solver of the pairs.
    more: a generator on the teacher's device, seeded here. It is one and the same for every block, since a teacher that
    is one CUDA graph goes on drawing from the one that it was captured with.
    """
    device = teacher.device
    rng = torch.Generator().manual_seed(_seed(config.seed, block))
    pick = torch.randint(len(observations), (size,), generator=rng)
    which = torch.multinomial(torch.tensor(config.probabilities), size, replacement=True, generator=rng)
    temperature = torch.tensor(config.temperatures)[which]
    noise = torch.randn(size, teacher.control.horizon, teacher.control.transition_dim, generator=rng)
    observation = observations[pick].to(device)
    given = teacher.task.encode(observation)
    values = given.values
    if config.jitter:
        shift = torch.randn(values.shape, generator=rng).to(device) * torch.rand(size, 1, generator=rng).to(device)
        values = values + config.jitter * shift * teacher.normalizer.std[teacher.known % teacher.control.transition_dim]
    values = teacher.normalizer.entries(values, teacher.known)
    prior = make_prior(noise.to(device), temperature.to(device), values, teacher.known)
    context = teacher.normalizer.context(given.context)
    committed = prefixes(teacher, prior, context, rng)
    context = embedded(teacher.generator, context, given.images, committed=committed)
    asked = conditions_asked(teacher, size, rng)
    # Only the ancestral solver draws more noise, from a stream that belongs to the block too.
    more.manual_seed(_seed(config.seed, ~block))
    with teacher.products():
        conditions = {"conditions": asked} if asked else {}
        target = teacher.generator.sample(prior, context, generator=more, **conditions).float()
    plans = teacher.normalizer.unnormalize(target)
    quality = teacher.score(plans[:, None], observation, given.frame)[:, 0]
    rows = min(size, config.count - block * size)
    values = (prior, target, context, quality, temperature)
    columns = {key: value[:rows].cpu() for key, value in zip(COLUMNS, values, strict=True)}
    for key, value in columns.items():  # conditions may be NaN: not asked for
        if not torch.isfinite(value).all():
            raise ArithmeticError(f"the teacher made a non-finite {key} in block {block}; train it longer or anew")
    return columns | {f"{COLUMN}{name}": value[:rows].cpu() for name, value in asked.items()}


def prefixes(teacher: Policy, prior: Tensor, context: Tensor, rng: torch.Generator) -> Tensor | None:
    """Return what rows of pairs commit a teacher to (B, P, A), normalised, NaN where nothing; None: it knows no prefix.

    It is how the teacher's own plan of other noise begins. A prefix of the pair's target would be told by the pair's
    noise too, which a student might follow instead of the prefix.
    """
    generator = teacher.generator
    if not isinstance(generator, PrefixedPlanner):
        return None
    noise = torch.randn(prior.shape, generator=rng).to(prior)
    other = make_prior(noise, prior.new_ones(len(prior)), prior.flatten(1)[:, teacher.known], teacher.known)
    more = torch.Generator(prior.device).manual_seed(int(torch.randint(2**62, (1,), generator=rng)))
    with teacher.products():
        plans = generator.sample(other, generator.embed(context), generator=more).float()
    return generator.draw(plans.cpu(), rng).to(prior.device)


def conditions_asked(teacher: Policy, rows: int, rng: torch.Generator) -> dict[str, Tensor]:
    """Return what rows of pairs ask a teacher for (rows, size), by name; nothing of one that takes no conditions.

    Raises:
        ValueError: a condition has no range.
    """
    conditions = getattr(teacher.generator, "conditions", None)
    if conditions is None:
        return {}
    usual = torch.from_numpy(Asking.of(teacher.generator).numbers({n: v[0].tolist() for n, v in teacher.asked.items()}))
    return {name: value.to(teacher.device) for name, value in drawn(conditions, usual, rows, rng).items()}


def load_manifest(folder: Path) -> dict[str, Any]:
    """Return what a folder of pairs says of itself, held against its digest.

    Raises:
        CheckpointError: it was altered, or is of another version.
    """
    path, again = folder / MANIFEST, "delete the folder and run `onestride pairs` again"
    schema = read_json(path, dict[str, Any]).get("schema")
    if schema != SCHEMA:
        raise CheckpointError(f"{path} has schema {schema!r}, this version reads {SCHEMA}: {again}")
    return check_seal(path, Manifest, advice=again)


def load_pairs(folder: Path) -> dict[str, Tensor]:
    """All shards, checked against their checksums, as {"prior", "target", "context", "weight"} and what was asked for.

    Raises:
        CheckpointError: unfinished, a shard missing, altered or cut short.
    """
    if not (folder / MANIFEST).is_file():
        raise CheckpointError(f"{folder} holds no pairs (no {MANIFEST}); make them with `onestride pairs`")
    manifest = load_manifest(folder)
    if len(manifest["shards"]) != manifest["count"]:
        raise CheckpointError(
            f"{folder} has {len(manifest['shards'])} of {manifest['count']} shards; run `onestride pairs` again to "
            "finish them"
        )
    parts: dict[str, list[Tensor]] = {}
    for name, entry in sorted(manifest["shards"].items()):  # the order in which they were made does not matter
        verify(folder, name, entry["sha256"])
        for key, value in open_shard(folder / name).items():
            parts.setdefault(key, []).append(value)
    pairs = {key: torch.cat(values) for key, values in parts.items()}
    return {
        "prior": pairs["prior"],
        "target": pairs["target"],
        "context": pairs["context"],
        "weight": sample_weights(pairs["quality"]),
        **{key: value for key, value in pairs.items() if key.startswith(COLUMN)},
    }


def open_shard(path: Path) -> dict[str, Tensor]:
    """One shard's columns, read through a memory map."""
    with opened(path, "delete the folder and run `onestride pairs` again") as f:
        return {key: f.get_tensor(key) for key in f.keys()}  # noqa: SIM118


def sample_weights(quality: Tensor, beta: float = 1.0) -> Tensor:
    """Quality (M,) -> weights (M,) in [1, 1 + beta]: the empirical distribution function, ties averaged."""
    order = quality.double().sort().values
    below = torch.searchsorted(order, quality.double(), right=False)
    upto = torch.searchsorted(order, quality.double(), right=True)
    rank = 0.5 * (below + upto - 1)
    return (1 + beta * rank / max(len(quality) - 1, 1)).float()


def _intact(folder: Path, name: str, wanted: str) -> bool:
    """Whether a finished shard is still what it was; says so when it is not, since it is made anew."""
    try:
        verify(folder, name, wanted)
    except CheckpointError as error:
        console.print(f"making a shard anew: {error}", highlight=False)
        return False
    return True


def verify(folder: Path, name: str, wanted: str) -> None:
    """Raise ``CheckpointError`` unless a shard's SHA-256 is the recorded one."""
    again = "run `onestride pairs` again to make it anew"
    if not (folder / name).is_file():
        raise CheckpointError(f"shard {folder / name} is missing; {again}")
    check_file(folder, name, wanted, MANIFEST, again)


def _seed(seed: int, block: int) -> int:
    return int.from_bytes(hashlib.blake2b(f"pairs/{seed}/{block}".encode(), digest_size=8).digest(), "little") >> 1
