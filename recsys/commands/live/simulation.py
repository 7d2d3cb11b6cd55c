"""Simulates readers: those of a world whose truth is known live with a real server, over HTTP.

    session   a reader asks for lists one after the other, and goes away at random
    looking   position p is looked at with probability p^-eta (position bias)
    click     on what is looked at, with probability attraction(reader, item, time)
    skip      of what is looked at and not clicked, said now and then
    drift     tastes go on turning, as in the world, while the simulation goes on
    birth     articles appear, alike to one that was there, and fade with a half-life

The reward of a list is the expected number of clicks; its regret, that of the best possible list less it.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.data.sources.synthetic_world import World, unit
from recsys.schema.disk import replacing_folder
from recsys.schema.errors import InputError
from recsys.schema.manifest import write_json
from recsys.serving.client import Client
from recsys.serving.messages import FeedbackEvent, Recommendation

_Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclasses.dataclass(frozen=True)
class SimulateConfig:
    """Every key of `recsys simulate`.

    Args:
        server: URL of the server.
        world: folder of the synthetic data that its bundle was trained on: `truth.npz`, `items.parquet`.
        out: of what happened.
        requests: how many.
        k: length of the lists.
        seed: of the readers.
        drift: how far tastes turn in a thousand requests, in parts of the world's whole time.
        looking: eta; 0 looks at every position, 1 is strong position bias.
        attraction: click probability of the most liked item.
        taste: how fast attraction falls with distance.
        session: mean number of lists a session.
        skip_share: of what was passed over, that readers say.
        birth_every: requests between two new articles; 0: none.
        half_life: requests after which a new article attracts half.
        token: of the server.
    """

    server: str
    world: Path
    out: Path
    requests: int = 2000
    k: int = 10
    seed: int = 0
    drift: float = 0.02
    looking: float = 0.5
    attraction: float = 0.6
    taste: float = 3.0
    session: float = 4.0
    skip_share: float = 0.2
    birth_every: int = 0
    half_life: float = 1000.0
    token: str | None = None

    def __post_init__(self) -> None:
        for name in ("requests", "k", "session", "half_life"):
            if not getattr(self, name) > 0:
                raise InputError(f"`{name}` must be above 0, got {getattr(self, name)}")
        for name in ("attraction", "skip_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"`{name}` must lie between 0 and 1, got {getattr(self, name)}")


class Readers:
    """The readers of a world, and what they would click.

    Args:
        world: its truth.
        config: of the simulation.
    """

    def __init__(self, world: World, config: SimulateConfig) -> None:
        self._world = world
        self._config = config
        self._vectors = world.item_vectors.astype(np.float64)
        self.item_ids: list[Any] = world.item_ids.tolist()
        self._places = {str(item_id): place for place, item_id in enumerate(self.item_ids)}
        self._births = np.full(len(self.item_ids), -np.inf)
        self.looking_K = np.arange(1, config.k + 1, dtype=np.float64) ** -config.looking

    def attractions(self, user: int, number: int) -> _Floats:
        """[I] click probability of every item that is looked at, at the request of this number."""
        time = 1.0 + self._config.drift * number / 1000
        taste_D = self._world.tastes(np.array([user]), np.array([time]))[0]
        likings = self._config.attraction * np.exp(self._config.taste * (self._vectors @ taste_D - 1))
        # Articles that were there from the start do not fade: they are what a catalogue is made of.
        ages = np.where(np.isfinite(self._births), number - self._births, 0.0)
        faded: _Floats = likings * 0.5 ** (ages / self._config.half_life)
        return faded

    def user_id(self, user: int) -> Any:
        """Raw id of a reader."""
        return self._world.user_ids[user].item()

    def place(self, item_id: Any) -> int:
        """Where an item stands."""
        return self._places[str(item_id)]

    def give_birth(self, row: dict[str, Any], number: int, rng: np.random.Generator) -> dict[str, Any]:
        """A new article alike to an item, better liked at first; its fields, under an id of its own."""
        parent = self.place(row["item_id"])
        new_id = max(int(item_id) for item_id in self.item_ids) + 1
        noisy = self._vectors[parent] + 0.1 * rng.standard_normal(self._vectors.shape[1])
        self._vectors = np.concatenate([self._vectors, unit(noisy[None])])
        self._births = np.append(self._births, float(number))
        self._places[str(new_id)] = len(self.item_ids)
        self.item_ids.append(new_id)
        return {**{name: value for name, value in row.items() if value is not None}, "item_id": new_id}

    @property
    def born(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """[I] whether each item appeared while the simulation went on."""
        born_I: np.ndarray[Any, np.dtype[np.bool_]] = np.isfinite(self._births)
        return born_I


def simulate(config: SimulateConfig) -> Path:
    """Lives with a server, and writes what happened.

    Raises:
        ValueError: the world can't be read, or the server does not answer.
    """
    truth = config.world / "truth.npz"
    if not truth.is_file():
        raise InputError(
            f"`world={config.world}`: expected the folder of synthetic data, with `truth.npz`, found none; "
            "`recsys prepare data=synthetic` writes it below its cache"
        )
    readers = Readers(World.load(truth), config)
    items = pq.read_table(config.world / "items.parquet").to_pylist()
    rng = np.random.default_rng(config.seed)
    rows: list[dict[str, Any]] = []
    users = _sessions(World.load(truth), config, rng)
    with Client(config.server, token=config.token) as client:
        for number in range(config.requests):
            if config.birth_every and number and number % config.birth_every == 0:
                client.add_items([readers.give_birth(items[rng.integers(len(items))], number, rng)])
            rows.append(_live(client, readers, int(users[number]), number, config, rng))
    table = pa.Table.from_pylist(rows)
    with replacing_folder(config.out) as folder:
        pq.write_table(table, folder / "requests.parquet")
        write_json(folder / "simulation.json", figures_of(table, config))
    return config.out


def _sessions(world: World, config: SimulateConfig, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Who asks, request by request."""
    shares = world.activity / world.activity.sum()
    users: list[int] = []
    while len(users) < config.requests:
        users += [int(rng.choice(len(shares), p=shares))] * int(rng.geometric(1 / config.session))
    return np.array(users[: config.requests])


def _live(
    client: Client, readers: Readers, user: int, number: int, config: SimulateConfig, rng: np.random.Generator
) -> dict[str, Any]:
    """One list: asked for, looked at, clicked and skipped."""
    user_id = readers.user_id(user)
    begin = time.perf_counter()
    answer = client.recommend({"user_id": user_id}, k=config.k)
    asked = time.perf_counter()
    attractions_I = readers.attractions(user, number)
    shown = np.array([readers.place(item.item_id) for item in answer.items], dtype=np.int64)
    looked = rng.random(len(shown)) < readers.looking_K[: len(shown)]
    clicked = looked & (rng.random(len(shown)) < attractions_I[shown])
    said = looked & ~clicked & (rng.random(len(shown)) < config.skip_share)
    events = _events(answer, user_id, clicked, said)
    told = time.perf_counter()
    if events:
        client.feedback(events)
    ended = time.perf_counter()
    reward = float((readers.looking_K[: len(shown)] * attractions_I[shown]).sum())
    best = float((readers.looking_K * np.sort(attractions_I)[::-1][: config.k]).sum())
    born = readers.born
    return {
        "request": number,
        "user_id": user_id,
        "reward": reward,
        "regret": best - reward,
        "clicks": int(clicked.sum()),
        "new_shown": int(born[shown].sum()),
        "new_deserved": int(born[np.argsort(-attractions_I)[: config.k]].sum()),
        "request_milliseconds": 1000 * (asked - begin),
        "feedback_milliseconds": 1000 * (ended - told) if events else None,
        "state_age_seconds": answer.state_age_seconds,
        "degraded": answer.degraded,
    }


def _events(answer: Recommendation, user_id: Any, clicked: Any, said: Any) -> list[FeedbackEvent]:
    kinds = {"click": clicked, "skip": said}
    return [
        FeedbackEvent(answer.items[place].item_id, kind, answer.request_id, user_id)  # type: ignore[arg-type]
        for kind, which in kinds.items()
        for place in np.flatnonzero(which).tolist()
    ]


def figures_of(table: pa.Table, config: SimulateConfig) -> Mapping[str, Any]:
    """Summarises a simulation in a few figures; the second half shows what was learnt."""
    reward, regret = table["reward"].to_numpy(), table["regret"].to_numpy()
    half = len(reward) // 2
    asked = table["request_milliseconds"].to_numpy()
    told = table["feedback_milliseconds"].drop_null().to_numpy()
    deserved = int(np.sum(table["new_deserved"].to_numpy()))
    return {
        "requests": len(reward),
        "reward": float(reward.mean()),
        "regret": float(regret.mean()),
        "regret_first_half": float(regret[:half].mean()) if half else None,
        "regret_second_half": float(regret[half:].mean()),
        "clicks": int(np.sum(table["clicks"].to_numpy())),
        "new_items_shown_of_deserved": (
            float(np.sum(table["new_shown"].to_numpy())) / deserved if deserved else None
        ),
        "request_milliseconds": {f"p{q}": float(np.percentile(asked, q)) for q in (50, 99)},
        "feedback_milliseconds": (
            {f"p{q}": float(np.percentile(told, q)) for q in (50, 99)} if len(told) else None
        ),
        "largest_state_age_seconds": float(np.max(table["state_age_seconds"].to_numpy())),
        "degraded": int(np.sum(table["degraded"].to_numpy())),
        "config": {name: str(value) for name, value in dataclasses.asdict(config).items() if name != "token"},
    }
