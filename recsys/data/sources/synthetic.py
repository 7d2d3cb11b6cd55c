"""Synthetic data: a world whose truth is known, of any size, written in parts with bounded memory.

Tables (Parquet, below `<cache>/raw/synthetic_<digest of the arguments>`):

    interactions/part-*  user_id int64, item_id int64, rating float (1..5), timestamp int64 (seconds); by time
    users                user_id int64, age int64, group
    items                item_id int64, title, categories list<string>, price double
    truth.npz            the `World` (see synthetic_world.py, which states the laws)

The rows depend on the arguments alone, not on how many go into a part: randomness is drawn block by block.
"""

import dataclasses
import hashlib
import json
import logging
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.data.options import RawTables
from recsys.data.sources.raw_folder import made_once
from recsys.data.sources.synthetic_events import BLOCK_ROWS, Events, event_blocks
from recsys.data.sources.synthetic_world import Floats, Integers, World, unit
from recsys.schema.errors import InputError
from recsys.schema.progress import progress

# Raised when the same arguments give other rows, so that cached ones are made anew.
GENERATION = 1
START_SECONDS = 1_577_836_800  # 2020-01-01 UTC
NUM_GROUPS = 8
NUM_CATEGORIES = 20
WORDS_PER_CATEGORY = 8
NUM_NEUTRAL_WORDS = 400
ACTIVITY_SKEW = 0.5
GENEROSITY_STD = 0.3
QUALITY_STD = 0.4

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Synthetic:
    """A generated world. Shares lie between 0 and 1.

    Args:
        num_users, num_items, num_interactions: size. Memory grows with users and items alone.
        seed: draws everything.
        latent_dim: dimensions of taste, at least 2.
        popularity_skew: exponent of Zipf's law; 0 makes all items equally popular, 1 is usual.
        taste_strength: how much taste decides beside popularity; 0 not at all. Time grows as its exponential.
        drift: 0 keeps tastes and popularity as they are; at 1 the end has nothing of the beginning.
        content_share: how much of an item's vector its price and categories explain.
        profile_share: how much of a user's first taste age and group explain.
        new_item_share, new_user_share: how many appear after the beginning.
        rating_noise: standard deviation of the noise in a rating.
        repeats: whether a user can choose an item more than once.
        days: time from the first event to the last.
        rows_per_part: rows of a file, rounded up to whole blocks.

    Raises:
        ValueError: an argument is out of its range, or there are too few pairs for so many interactions.
    """

    num_users: int = 2_000
    num_items: int = 1_000
    num_interactions: int = 100_000
    seed: int = 0
    latent_dim: int = 8
    popularity_skew: float = 1.0
    taste_strength: float = 3.0
    drift: float = 0.3
    content_share: float = 0.6
    profile_share: float = 0.3
    new_item_share: float = 0.3
    new_user_share: float = 0.2
    rating_noise: float = 0.7
    repeats: bool = False
    days: float = 365.0
    rows_per_part: int = 8 * BLOCK_ROWS

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise InputError(f"`data.source.{name}` must be between {low:g} and {high:g}, got {value}")
        if not self.repeats and self.num_interactions > self.num_users * self.num_items / 4:
            raise InputError(
                f"`data.source.num_interactions` must be at most a quarter of the {self.num_users} x "
                f"{self.num_items} pairs of users and items, got {self.num_interactions}; "
                "ask for fewer, or set `data.source.repeats=true`"
            )

    def tables(self, cache_dir: Path) -> RawTables:
        """Files of the raw tables below `cache_dir`, generated when they are not there yet."""
        folder = self._made(cache_dir)
        return RawTables(
            interactions=folder / "interactions",
            users=folder / "users.parquet",
            items=folder / "items.parquet",
            licence="generated; no rights attached",
        )

    def world(self, cache_dir: Path) -> World:
        """The truth behind `tables(cache_dir)`."""
        return World.load(self._made(cache_dir) / "truth.npz")

    def _made(self, cache_dir: Path) -> Path:
        facts = {"dataset": "synthetic", "generation": GENERATION, **dataclasses.asdict(self)}
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8]
        return made_once(Path(cache_dir) / "raw" / f"synthetic_{digest}", facts, self._make)

    def _make(self, folder: Path) -> Mapping[str, Any]:
        started = time.perf_counter()
        generator = np.random.default_rng([self.seed, 0])
        items, content_ID = _describe_items(self, generator)
        users, profile_UD = _describe_users(self, generator)
        world = _build_world(self, generator, content_ID=content_ID, profile_UD=profile_UD)
        pq.write_table(_with_ids("item_id", world.item_ids, items), folder / "items.parquet")
        pq.write_table(_with_ids("user_id", world.user_ids, users), folder / "users.parquet")
        world.save(folder / "truth.npz")
        blocks = event_blocks(world, num_events=self.num_interactions, seed=self.seed, repeats=self.repeats)
        num_parts = self._write(world, blocks, folder / "interactions")
        seconds = time.perf_counter() - started
        logger.info("synthetic: %s rows in %.1f s, %s parts", self.num_interactions, seconds, num_parts)
        return {"num_parts": num_parts, "seconds": seconds}

    def _write(self, world: World, blocks: Iterator[Events], folder: Path) -> int:
        folder.mkdir()
        blocks_per_part = math.ceil(self.rows_per_part / BLOCK_ROWS)
        writer: pq.ParquetWriter | None = None
        number = -1
        total = math.ceil(self.num_interactions / BLOCK_ROWS)
        for number, events in enumerate(progress(blocks, "generating events", total=total)):
            if number % blocks_per_part == 0:
                if writer is not None:
                    writer.close()
                name = f"part-{number // blocks_per_part:05d}.parquet"
                writer = pq.ParquetWriter(folder / name, _INTERACTIONS, compression="zstd")
            assert writer is not None
            writer.write_batch(_as_batch(world, events, seconds=self.days * 86_400))
        if writer is not None:
            writer.close()
        return math.ceil((number + 1) / blocks_per_part)


_RANGES: dict[str, tuple[float, float]] = {
    "num_users": (1, 2**31 - 1),
    "num_items": (1, 2**31 - 1),
    "num_interactions": (1, 2**40),
    "latent_dim": (2, 256),
    "popularity_skew": (0, 3),
    "taste_strength": (0, 6),
    "drift": (0, 1),
    "content_share": (0, 1),
    "profile_share": (0, 1),
    "new_item_share": (0, 0.99),
    "new_user_share": (0, 0.99),
    "rating_noise": (1e-6, 10),
    "days": (1, 36_500),
    "rows_per_part": (1, 2**31 - 1),
}

_INTERACTIONS = pa.schema(
    [("user_id", pa.int64()), ("item_id", pa.int64()), ("rating", pa.float32()), ("timestamp", pa.int64())]
)


def _build_world(
    options: Synthetic, generator: np.random.Generator, *, content_ID: Floats, profile_UD: Floats
) -> World:
    num_users, num_items = options.num_users, options.num_items
    ranks_I = generator.permutation(num_items)
    return World(
        user_ids=1 + generator.permutation(num_users),
        item_ids=1 + generator.permutation(num_items),
        user_births=_births(generator, num_users, late_share=options.new_user_share),
        item_births=_births(generator, num_items, late_share=options.new_item_share),
        activity=_zipf(generator.permutation(num_users), ACTIVITY_SKEW),
        popularity_start=_zipf(ranks_I, options.popularity_skew),
        popularity_end=_zipf(_shuffled(generator, ranks_I, share=options.drift), options.popularity_skew),
        tastes_start=_partly(generator, profile_UD, share=options.profile_share),
        tastes_end=_directions(generator, num_users, options.latent_dim),
        item_vectors=_partly(generator, content_ID, share=options.content_share),
        generosity=generator.normal(0, GENEROSITY_STD, num_users).astype(np.float32),
        quality=generator.normal(0, QUALITY_STD, num_items).astype(np.float32),
        taste_strength=options.taste_strength,
        drift=options.drift,
        rating_noise=options.rating_noise,
    )


def _describe_items(options: Synthetic, generator: np.random.Generator) -> tuple[dict[str, pa.Array], Floats]:
    """Columns of the items and the vectors they explain: price on dimension 0, categories on the others."""
    num_items = options.num_items
    category_vectors_CD = _directions(generator, NUM_CATEGORIES, options.latent_dim - 1)
    categories_I3 = generator.integers(0, NUM_CATEGORIES, (num_items, 3))
    num_categories_I = generator.integers(1, 4, num_items)
    used_I3 = np.arange(3) < num_categories_I[:, None]
    prices_I = generator.standard_normal(num_items)
    sums_ID = (category_vectors_CD[categories_I3] * used_I3[..., None]).sum(axis=1)
    # A category drawn twice weighs twice, and is listed once.
    listed = zip(categories_I3, num_categories_I, strict=True)
    columns = {
        "title": pa.array(_titles(generator, categories_I3[:, 0])),
        "categories": pa.array(
            [
                sorted({f"category {c}" for c in row[:count]})
                for row, count in progress(listed, "sorting items into categories", total=num_items)
            ],
            pa.list_(pa.string()),
        ),
        "price": pa.array(np.round(np.exp(3 + 0.8 * prices_I), 2)),
    }
    return columns, unit(np.column_stack([prices_I, sums_ID]).astype(np.float32))


def _describe_users(options: Synthetic, generator: np.random.Generator) -> tuple[dict[str, pa.Array], Floats]:
    """Columns of the users and the tastes they explain: age on dimension 0, the group on the others."""
    group_vectors_GD = _directions(generator, NUM_GROUPS, options.latent_dim - 1)
    groups_U = generator.integers(0, NUM_GROUPS, options.num_users)
    ages_U = generator.integers(16, 80, options.num_users)
    columns = {"age": pa.array(ages_U), "group": pa.array([f"group {g}" for g in groups_U])}
    scaled_U = (ages_U - 47.5) / 18.5  # mean 0 and standard deviation 1 of the ages above
    return columns, unit(np.column_stack([scaled_U, group_vectors_GD[groups_U]]).astype(np.float32))


def _with_ids(name: str, ids: Integers, columns: Mapping[str, pa.Array]) -> pa.Table:
    return pa.table({name: pa.array(ids), **columns}).sort_by(name)


def _as_batch(world: World, events: Events, *, seconds: float) -> pa.RecordBatch:
    columns = [
        world.user_ids[events.users],
        world.item_ids[events.items],
        events.ratings,
        START_SECONDS + (events.times * seconds).astype(np.int64),
    ]
    return pa.record_batch([pa.array(column) for column in columns], schema=_INTERACTIONS)


def _births(generator: np.random.Generator, count: int, *, late_share: float) -> Floats:
    num_late = int(count * late_share)
    return np.concatenate([np.zeros(count - num_late), np.sort(generator.random(num_late))])


def _zipf(ranks: Integers, skew: float) -> Floats:
    weights: Floats = (ranks + 1.0) ** -skew
    return weights


def _shuffled(generator: np.random.Generator, ranks: Integers, *, share: float) -> Integers:
    """The ranking after a share of it, drawn at random, has changed places among itself."""
    changed = np.flatnonzero(generator.random(len(ranks)) < share)
    result = ranks.copy()
    result[changed] = ranks[generator.permutation(changed)]
    return result


def _directions(generator: np.random.Generator, count: int, dim: int) -> Floats:
    return unit(generator.standard_normal((count, dim)).astype(np.float32))


def _partly(generator: np.random.Generator, explained_ND: Floats, *, share: float) -> Floats:
    """Directions of which `explained_ND` explains a share, in squared length."""
    own_ND = _directions(generator, *explained_ND.shape)
    return unit(math.sqrt(share) * explained_ND + math.sqrt(1 - share) * own_ND)


def _titles(generator: np.random.Generator, categories_I: Integers) -> list[str]:
    """Titles of three words; the second is one of the first category's own words."""
    num_items = len(categories_I)
    own_I = categories_I * WORDS_PER_CATEGORY + generator.integers(0, WORDS_PER_CATEGORY, num_items)
    neutral_I2 = NUM_CATEGORIES * WORDS_PER_CATEGORY + generator.integers(
        0, NUM_NEUTRAL_WORDS, (num_items, 2)
    )
    words = progress(zip(own_I, neutral_I2, strict=True), "giving items titles", total=num_items)
    return [f"{_word(first)} {_word(own)} {_word(last)}".capitalize() for own, (first, last) in words]


def _word(number: int) -> str:
    """A pronounceable word, another for every number below nine thousand."""
    return _SYLLABLES[number // len(_SYLLABLES)] + _SYLLABLES[number % len(_SYLLABLES)]


_SYLLABLES = tuple(consonant + vowel for consonant in "bcdfghjklmnprstvwyz" for vowel in "aeiou")
