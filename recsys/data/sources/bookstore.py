"""Bookstore: a generated bookstore whose truth is known, with new books and new readers.

Tables (Parquet, below `<cache>/raw/bookstore_<digest of the arguments>`):

    events.parquet    reader, book, event (view, wishlist, purchase), at (seconds); by time
    readers.parquet   reader, country, age, interests (topics picked at sign-up), joined
    books.parquet     book, title, description, authors (list), category (path), price (as text), language,
                      published (date)
    truth.npz         topics of the books, tastes of the readers, popularity, when either appeared

Every book is of one topic or two; title and description are made of the topics' words and of words that say
nothing, an author keeps to a topic. A reader's taste is a distribution over topics. An event at time t takes,
among the books that are out, book b with a probability in proportion to
popularity_b * exp(taste_strength * K * taste_u . topics_b), K the number of topics; whether it is a view, a
wish or a purchase depends on taste_u . topics_b alone. A book that was bought is not taken again.

Legend: U readers, B books, K topics, E events.
"""

import dataclasses
import datetime
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.data.options import RawTables
from recsys.data.sources.raw_folder import made_once
from recsys.schema.errors import InputError

# Raised when the same arguments give other rows, so that cached ones are made anew.
GENERATION = 1
START_SECONDS = 1_704_067_200  # 2024-01-01 UTC
_DAY = 86_400
_TOPICS = {
    "Fiction > Fantasy": "dragon wizard realm sword magic kingdom prophecy elf throne spell quest castle",
    "Fiction > Crime": "detective murder clue suspect alibi inspector corpse poison motive witness case",
    "Fiction > Romance": "love heart kiss wedding summer letter passion bride promise stranger duke longing",
    "Fiction > Space": "starship planet alien orbit galaxy robot colony captain signal moon station comet",
    "Fiction > Horror": "haunted ghost grave nightmare demon blood shadow attic curse scream cellar fog",
    "History > War": "battle soldier trench general siege regiment enemy invasion front tank victory",
    "History > Antiquity": "emperor senate legion temple pharaoh gladiator ruin oracle chariot myth tomb",
    "Life > Cooking": "recipe oven bread spice kitchen flavour dough roast soup sauce herb butter",
    "Life > Gardening": "garden seed soil rose pruning compost tomato hedge bulb orchard bee harvest",
    "Life > Travel": "journey island train harbour desert border map pilgrim coast village mountain suitcase",
    "Science > Nature": "forest wolf river species whale evolution fossil ocean bird climate insect glacier",
    "Science > Numbers": "theorem proof prime number logic infinity chance algorithm cipher geometry puzzle",
}
_PLAIN = (
    "book story life world year reader new first last secret great long time people follows tells day night "
    "beginning end home way place young old true house years never every hidden"
)
_AUTHORS_A_TOPIC = 12
_COUNTRIES = ["DE", "FR", "GB", "IN", "US"]
_SYLLABLES = "an bel cor dan el fir gos har il jun kal lem mor nor os per quin ros sul tar um ver wen yor"

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bookstore:
    """A generated bookstore. Shares lie between 0 and 1.

    Args:
        num_readers, num_books, num_events: size; time grows as events times books.
        seed: draws everything.
        taste_strength: how much taste decides beside popularity; 0 not at all, 1 much.
        new_book_share: of books that appear in the last fifth of the time, some after the last event.
        new_reader_share: of readers who join in the last fifth of the time.
        days: time from the first event to the last.

    Raises:
        InputError: an argument is out of its range.
    """

    num_readers: int = 1_500
    num_books: int = 1_200
    num_events: int = 40_000
    seed: int = 0
    taste_strength: float = 0.5
    new_book_share: float = 0.2
    new_reader_share: float = 0.2
    days: float = 365.0

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise InputError(f"`data.source.{name}` must be between {low:g} and {high:g}, got {value}")
        if self.num_events > self.num_readers * self.num_books / 4:
            raise InputError(
                f"`data.source.num_events` must be at most a quarter of the {self.num_readers} x "
                f"{self.num_books} pairs of readers and books, got {self.num_events}"
            )

    def tables(self, cache_dir: Path) -> RawTables:
        """Files of the raw tables below `cache_dir`, generated when they are not there yet."""
        folder = self._made(cache_dir)
        return RawTables(
            interactions=folder / "events.parquet",
            users=folder / "readers.parquet",
            items=folder / "books.parquet",
            licence="generated; no rights attached",
        )

    def truth(self, cache_dir: Path) -> dict[str, npt.NDArray[Any]]:
        """`topics` [B, K], `tastes` [U, K], `popularity` [B], seconds of `published` [B] and `joined` [U]."""
        with np.load(self._made(cache_dir) / "truth.npz") as held:
            return dict(held)

    def _made(self, cache_dir: Path) -> Path:
        facts = {"dataset": "bookstore", "generation": GENERATION, **dataclasses.asdict(self)}
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8]
        return made_once(Path(cache_dir) / "raw" / f"bookstore_{digest}", facts, self._make)

    def _make(self, folder: Path) -> Mapping[str, Any]:
        generator = np.random.default_rng([self.seed, 0])
        truth = _truth(self, generator)
        pq.write_table(_books(truth, generator), folder / "books.parquet")
        pq.write_table(_readers(truth, generator), folder / "readers.parquet")
        events = _events(self, truth, generator)
        pq.write_table(events, folder / "events.parquet")
        np.savez(folder / "truth.npz", **truth)
        logger.info("bookstore: %s events of %s books", f"{events.num_rows:,}", f"{self.num_books:,}")
        return {"num_events": events.num_rows}


_RANGES: dict[str, tuple[float, float]] = {
    "num_readers": (10, 1_000_000),
    "num_books": (24, 100_000),
    "num_events": (100, 10_000_000),
    "taste_strength": (0, 3),
    "new_book_share": (0, 0.9),
    "new_reader_share": (0, 0.9),
    "days": (30, 3_650),
}


def _truth(options: Bookstore, generator: np.random.Generator) -> dict[str, Any]:
    """Draws what decides on the events."""
    num_topics, seconds = len(_TOPICS), options.days * _DAY
    main_B, second_B = (generator.integers(0, num_topics, options.num_books) for _ in range(2))
    share_B = np.where(generator.random(options.num_books) < 0.7, 1.0, 0.65)
    topics_BK = np.zeros((options.num_books, num_topics))
    np.add.at(topics_BK, (np.arange(options.num_books), main_B), share_B)
    np.add.at(topics_BK, (np.arange(options.num_books), second_B), 1 - share_B)
    return {
        "topics": topics_BK,
        "main": main_B,
        "tastes": generator.dirichlet(np.full(num_topics, 0.15), options.num_readers),
        "popularity": generator.lognormal(0, 0.8, options.num_books),
        "published": _appears(options.num_books, options.new_book_share, seconds, generator, latest=1.05),
        "joined": _appears(options.num_readers, options.new_reader_share, seconds, generator, latest=0.99),
    }


def _appears(
    count: int, new_share: float, seconds: float, generator: np.random.Generator, *, latest: float
) -> Integers:
    """When each appears: before the beginning, or in the last fifth."""
    is_new = generator.random(count) < new_share
    at = np.where(is_new, generator.uniform(0.8, latest, count), -generator.exponential(2.0, count))
    return (START_SECONDS + at * seconds).astype(np.int64)


def _books(truth: Mapping[str, Any], generator: np.random.Generator) -> pa.Table:
    words, plain_words = [text.split() for text in _TOPICS.values()], _PLAIN.split()
    names = list(_TOPICS)
    columns: dict[str, list[Any]] = {"title": [], "description": [], "authors": [], "category": []}
    for topics_K, main in zip(truth["topics"], truth["main"], strict=True):
        drawn = generator.choice(len(names), 14, p=topics_K)
        own = [words[topic][generator.integers(len(words[topic]))] for topic in drawn]
        plain = [plain_words[at] for at in generator.integers(0, len(plain_words), 10)]
        of_title = [*dict.fromkeys(own), "book"][:2]
        columns["title"].append(f"The {of_title[0]} and the {of_title[1]}".title())
        columns["description"].append(" ".join(generator.permutation([*own, *plain]).tolist()))
        authors = generator.choice(_AUTHORS_A_TOPIC, 1 + int(generator.random() < 0.15), replace=False)
        columns["authors"].append([_name(int(main) * _AUTHORS_A_TOPIC + int(one)) for one in authors])
        columns["category"].append(names[main])
    count = len(truth["main"])
    days = [datetime.date.fromtimestamp(0) + datetime.timedelta(seconds=int(at)) for at in truth["published"]]
    return pa.table(
        {
            "book": [f"b{n}" for n in range(count)],
            **columns,
            "price": [f"${price:.2f}" for price in generator.lognormal(2.5, 0.4, count)],
            "language": generator.choice(["eng", "ger", "fre"], count, p=[0.8, 0.1, 0.1]),
            "published": [day.isoformat() for day in days],
        }
    )


def _name(number: int) -> str:
    """The name of an author, no two alike."""
    syllables = _SYLLABLES.split()
    rest, first = divmod(number, len(syllables))
    last = syllables[rest % len(syllables)] + syllables[(first + rest) % len(syllables)]
    return f"{syllables[first].title()}a {last.title()}"


def _readers(truth: Mapping[str, Any], generator: np.random.Generator) -> pa.Table:
    names = [name.rpartition(" > ")[2] for name in _TOPICS]
    count = len(truth["tastes"])
    return pa.table(
        {
            "reader": [f"r{n}" for n in range(count)],
            "country": generator.choice(_COUNTRIES, count),
            "age": pa.array(generator.integers(14, 90, count)),
            "interests": [
                [names[topic] for topic in dict.fromkeys(generator.choice(len(names), 2, p=taste_K).tolist())]
                for taste_K in truth["tastes"]
            ],
            "joined": pa.array(truth["joined"]),
        }
    )


def _events(options: Bookstore, truth: Mapping[str, Any], generator: np.random.Generator) -> pa.Table:
    """Draws the events one after the other, in the order of time."""
    affinity_UB = truth["tastes"] @ truth["topics"].T
    weights_UB = truth["popularity"] * np.exp(options.taste_strength * truth["topics"].shape[1] * affinity_UB)
    activity_U = generator.lognormal(0, 0.8, options.num_readers)
    seconds_E = np.sort(generator.random(options.num_events)) * options.days * _DAY
    rows: list[Sequence[Any]] = []
    for at in (START_SECONDS + seconds_E).astype(np.int64).tolist():
        reader = _drawn(activity_U * (truth["joined"] <= at), generator)
        book = _drawn(weights_UB[reader] * (truth["published"] <= at), generator)
        liking = generator.random() < 0.1 + 0.8 * affinity_UB[reader, book]
        event = ("purchase" if generator.random() < 0.6 else "wishlist") if liking else "view"
        if event == "purchase":
            weights_UB[reader, book] = 0
        rows.append((f"r{reader}", f"b{book}", event, at))
    names = ("reader", "book", "event", "at")
    return pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))


def _drawn(weights: Floats, generator: np.random.Generator) -> int:
    sums = np.cumsum(weights)
    return int(np.searchsorted(sums, generator.random() * sums[-1], side="right"))
