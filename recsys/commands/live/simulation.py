"""Simulates readers: those of a world whose truth is known live with a server.

The server is a real one, over HTTP, or one in this process whose clock is told, for long times. Readers are
those of `recsys.commands.live.readers`:

    session   a reader asks for lists one after the other, and goes away at random
    skip      of what is looked at and not clicked, said now and then

The reward of a list is the expected number of clicks; its regret, that of the best possible list less it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.commands.live.readers import Laws, Readers, best_places
from recsys.commands.live.refreshing import RefreshConfig, refresh_server, seconds_of
from recsys.data.sources.synthetic_world import World
from recsys.schema.disk import replacing_folder
from recsys.schema.errors import InputError
from recsys.schema.manifest import write_json
from recsys.serving.client import Client
from recsys.serving.local import LocalServer
from recsys.serving.messages import FeedbackEvent, Recommendation
from recsys.serving.options import ServeOptions

logger = logging.getLogger(__name__)

T = TypeVar("T", ServeOptions, RefreshConfig)
_PART_ROWS = 10_000


@dataclasses.dataclass(frozen=True)
class SimulateConfig:
    """Every key of `recsys simulate`.

    Args:
        server: URL of the server; null: one in this process, by `serve`.
        serve: keys of `recsys serve`, of a server in this process, as in `{bundle: DIR, folder: DIR, policy:
            thompson}`.
        refresh: keys of `recsys refresh`, of that server and by its clock, as in `{run: DIR, every: 6h}`;
            empty: the bundle stays. A server at an address is refreshed by the command.
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
        hour: requests that make an hour.
        token: of the server.
    """

    world: Path
    out: Path
    server: str | None = None
    serve: dict[str, Any] = dataclasses.field(default_factory=dict)
    refresh: dict[str, Any] = dataclasses.field(default_factory=dict)
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
    hour: int = 1000
    token: str | None = None

    def __post_init__(self) -> None:
        if (self.server is None) == (not self.serve):
            raise InputError(
                "expected either `server`, an address, or `serve`, keys of a server in this process"
            )
        if self.refresh and not (self.serve and self.refresh.get("every")):
            raise InputError(
                "`refresh` is for a server in this process, by `serve`, and needs `every`, as in `6h`; for a "
                "server at an address run `recsys refresh`"
            )
        for name in ("requests", "k", "session", "half_life", "hour"):
            if not getattr(self, name) > 0:
                raise InputError(f"`{name}` must be above 0, got {getattr(self, name)}")
        for name in ("attraction", "skip_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"`{name}` must lie between 0 and 1, got {getattr(self, name)}")

    @property
    def laws(self) -> Laws:
        """Returns what is true of the readers."""
        return Laws(self.k, self.drift, self.looking, self.attraction, self.taste, self.half_life)


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
    readers = Readers(World.load(truth), config.laws)
    items = pq.read_table(config.world / "items.parquet").to_pylist()
    rng = np.random.default_rng(config.seed)
    rows: list[dict[str, Any]] = []
    parts: list[pa.Table] = []
    users = _sessions(World.load(truth), config, rng)
    refreshes = _Refreshes(config) if config.refresh else None
    with contextlib.closing(_server(config)) as client:
        for number in range(config.requests):
            if config.birth_every and number and number % config.birth_every == 0:
                client.add_items([readers.give_birth(items[rng.integers(len(items))], number, rng)])
            if refreshes is not None and isinstance(client, LocalServer):
                refreshes.before(number, client)
            rows.append(_live(client, readers, int(users[number]), number, config, rng))
            if len(rows) == _PART_ROWS or number == config.requests - 1:
                parts.append(pa.Table.from_pylist(rows))
                rows = []
    table = pa.concat_tables(parts, promote_options="permissive")
    with replacing_folder(config.out) as folder:
        pq.write_table(table, folder / "requests.parquet")
        write_json(folder / "simulation.json", figures_of(table, config))
    return config.out


def _server(config: SimulateConfig) -> Client | LocalServer:
    if config.server is not None:
        return Client(config.server, token=config.token)
    return LocalServer(_keys_of("serve", config.serve, ServeOptions), step_seconds=3600 / config.hour)


def _keys_of(command: str, given: Mapping[str, Any], options: type[T]) -> T:
    """The keys of a command as its options."""
    known = [field.name for field in dataclasses.fields(options)]
    unknown = [name for name in given if name not in known]
    if unknown:
        raise InputError(
            f"`{command}`: expected keys of `recsys {command}`, {', '.join(known)}; got `{unknown[0]}`"
        )
    try:
        return msgspec.convert(given, options, dec_hook=lambda kind, value: kind(value))
    except msgspec.ValidationError as error:
        raise InputError(f"`{command}`: expected keys of `recsys {command}`: {error}") from error


class _Refreshes:
    """Refreshes a server in this process every so often, by its own clock."""

    def __init__(self, config: SimulateConfig) -> None:
        rules = {name: value for name, value in config.serve.items() if name == "rules"}
        self._config = _keys_of("refresh", {"server": "", **rules, **config.refresh}, RefreshConfig)
        self._pause = max(1, round(seconds_of(config.refresh["every"]) * config.hour / 3600))

    def before(self, number: int, server: LocalServer) -> None:
        """Refreshes where it is time to; says why where it is refused."""
        if number == 0 or number % self._pause:
            return
        try:
            refresh_server(self._config, server, server.log)
        except InputError as error:
            logger.warning("not refreshed: %s", error)


def _sessions(world: World, config: SimulateConfig, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Who asks, request by request."""
    shares = world.activity / world.activity.sum()
    users: list[int] = []
    while len(users) < config.requests:
        users += [int(rng.choice(len(shares), p=shares))] * int(rng.geometric(1 / config.session))
    return np.array(users[: config.requests])


def _live(
    client: Client | LocalServer,
    readers: Readers,
    user: int,
    number: int,
    config: SimulateConfig,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """One list: asked for, looked at, clicked and skipped."""
    user_id = readers.user_id(user)
    begin = time.perf_counter()
    answer = client.recommend({"user_id": user_id}, k=config.k)
    asked = time.perf_counter()
    attractions_I = readers.attractions(user, number)
    shown = np.array([readers.place(item.item_id) for item in answer.items], dtype=np.int64)
    looking_K = readers.looking_K[: len(shown)]
    looked = rng.random(len(shown)) < looking_K
    clicked = looked & (rng.random(len(shown)) < attractions_I[shown])
    said = looked & ~clicked & (rng.random(len(shown)) < config.skip_share)
    events = _events(answer, user_id, clicked, said)
    told = time.perf_counter()
    if events:
        client.feedback(events)
    ended = time.perf_counter()
    best = best_places(attractions_I, config.k)
    reward = float((looking_K * attractions_I[shown]).sum())
    readers.has_read(user, shown[clicked].tolist())
    return {
        "request": number,
        "user_id": user_id,
        "reward": reward,
        "regret": float((readers.looking_K[: len(best)] * attractions_I[best]).sum()) - reward,
        "clicks": int(clicked.sum()),
        **_young(readers.ages(number), shown, best, config.hour),
        "request_milliseconds": 1000 * (asked - begin),
        "feedback_milliseconds": 1000 * (ended - told) if events else None,
        "state_age_seconds": answer.state_age_seconds,
        "degraded": answer.degraded,
    }


def _young(ages_I: Any, shown: Any, best: Any, hour: int) -> dict[str, int]:
    """Counts articles of the last hour that are shown, and that the best list has, by half hours."""
    counts = {}
    for name, places in (("shown", shown), ("deserved", best)):
        ages = ages_I[places]
        counts[f"first_half_hour_{name}"] = int((ages < hour / 2).sum())
        counts[f"second_half_hour_{name}"] = int(((ages >= hour / 2) & (ages < hour)).sum())
    return counts


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
    return {
        "requests": len(reward),
        "reward": float(reward.mean()),
        "regret": float(regret.mean()),
        "regret_first_half": float(regret[:half].mean()) if half else None,
        "regret_second_half": float(regret[half:].mean()),
        "clicks": int(np.sum(table["clicks"].to_numpy())),
        **{
            f"{half}_half_hour_shown_of_deserved": _shown_of_deserved(table, half)
            for half in ("first", "second")
        },
        "request_milliseconds": {f"p{q}": float(np.percentile(asked, q)) for q in (50, 99)},
        "feedback_milliseconds": (
            {f"p{q}": float(np.percentile(told, q)) for q in (50, 99)} if len(told) else None
        ),
        "largest_state_age_seconds": float(np.max(table["state_age_seconds"].to_numpy())),
        "degraded": int(np.sum(table["degraded"].to_numpy())),
        "config": {name: str(value) for name, value in dataclasses.asdict(config).items() if name != "token"},
    }


def _shown_of_deserved(table: pa.Table, half: str) -> float | None:
    shown, deserved = (
        int(np.sum(table[f"{half}_half_hour_{name}"].to_numpy())) for name in ("shown", "deserved")
    )
    return shown / deserved if deserved else None
