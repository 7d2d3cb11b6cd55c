"""Regret, memory and intervals of the server in a world whose truth is known, in this process for speed.

A world is the synthetic data that a two-tower model was trained on; see `recsys simulate`. Rows are what was
measured, its figure and its goal.
"""

from __future__ import annotations

import json
import resource
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks.harness import run_command
from recsys.bandits.acting.choice import Candidates
from recsys.bandits.acting.policies import make_policy
from recsys.commands.live.readers import Readers
from recsys.commands.live.simulation import SimulateConfig, simulate
from recsys.data.sources.synthetic_world import World
from recsys.experiments.off_policy import OffPolicyConfig, judge_policy
from recsys.experiments.policy_page import FEW_ROWS
from recsys.serving.local import LocalServer
from recsys.serving.messages import FeedbackEvent
from recsys.serving.opening import open_journal
from recsys.serving.options import ServeOptions
from recsys.serving.records import Event, Request, decode
from recsys.serving.rules import SECOND, Rules
from recsys.serving.tables import Target, write_tables

Row = tuple[str, str, str]
_LEARNING = {"learning": True}
POLICIES: dict[str, dict[str, Any]] = {
    "greedy, static": {"policy": "greedy"},
    "greedy, with feedback": {"policy": "greedy", "policy_parameters": _LEARNING},
    "thompson": {"policy": "thompson", "policy_parameters": {"scale": 0.5}},
    "softmax, with feedback": {
        "policy": "softmax",
        "policy_parameters": {"learning": True, "temperature": 0.1},
    },
}
# Thompson sampling, with a bundle that is trained on every six hours.
_REFRESHED = "thompson, refreshed"
_REFRESH = {
    "every": "6h",
    "holdout_share": 0.05,
    "training": {"trainer.max_epochs": 6, "trainer.progress_bar": False, "trainer.projector_items": 0},
}
# An hour has so many requests; a new article attracts half after three.
_HOUR, _HALF_LIFE, _BIRTHS = 4000, 12_000.0, 100
# In 200,000 requests tastes turn by 54 degrees.
_DRIFT = 0.005
_DRAWS = 40
# Few enough readers that each is known by the end; articles are mostly what their fields say.
_WORLD = (
    "data.source.num_users=500",
    "data.source.num_items=1000",
    "data.source.num_interactions=60000",
    "data.source.content_share=0.9",
    "data.source.drift=0.6",
)


def world_and_bundle(cache: Path, seed: int) -> tuple[Path, Path]:
    """The folder of a world's raw data and that of a bundle trained on it, made when missing."""
    folder = cache / f"live-world-{seed}"
    run = folder / "run"
    if not (run / "bundle").is_dir():
        data = ["data=synthetic", f"data.source.seed={seed}", f"data.cache_dir={folder}", *_WORLD]
        run_command(["train.py", *data, "model=two_tower", f"run_dir={run}", "trainer.max_epochs=12"])
        run_command(["export.py", f"run={run}"])
    [truth] = folder.glob("raw/synthetic_*/truth.npz")
    return truth.parent, run / "bundle"


def lived(
    world: Path, bundle: Path, options: dict[str, Any], *, requests: int, seed: int = 0, **laws: Any
) -> dict[str, Any]:
    """Reports what happened in a world with a server of its own in this process."""
    # State on disk is as it is in service; fsync of a folder in memory costs nothing.
    folder = Path(tempfile.mkdtemp(prefix="recsys-live-", dir="/dev/shm"))
    serve = {"bundle": str(bundle), "folder": str(folder / "live"), "max_gigabytes": 4.0, **options}
    config = SimulateConfig(
        world=world, out=folder / "out", serve=serve, requests=requests, seed=seed,
        **{"birth_every": _BIRTHS, "half_life": _HALF_LIFE, "hour": _HOUR, "drift": _DRIFT, **laws},
    )  # fmt: skip
    try:
        found: dict[str, Any] = json.loads((simulate(config) / "simulation.json").read_text())
        found["rows"] = pq.read_table(folder / "out" / "requests.parquet")
    finally:
        shutil.rmtree(folder)
    return found


def regret(world: Path, bundle: Path, requests: int, *, seed: int = 0) -> list[Row]:
    """Regret by policy."""
    rows, before = [], {}
    refresh = {"refresh": {"run": str(bundle.parent), **_REFRESH}}
    for name in (*POLICIES, _REFRESHED):
        laws = refresh if name == _REFRESHED else {}
        options = POLICIES["thompson" if name == _REFRESHED else name]
        found = lived(world, bundle, options, requests=requests, seed=seed, **laws)
        before[name] = found["regret"]
        halves = " and ".join(
            "-" if share is None else f"{share:.0%}"
            for share in (found[f"{half}_half_hour_shown_of_deserved"] for half in ("first", "second"))
        )
        said = f"{found['regret']:.4f}, second half {found['regret_second_half']:.4f}; new articles {halves}"
        rows.append(
            (f"regret a request of {requests:,}, {name}", said, "below the one before; 80% after 30 min")
        )
    return [
        *rows,
        *(
            (f"regret of {name} over greedy, static", f"{before[name] / before['greedy, static']:.2f}", "0.5")
            for name in ("thompson", _REFRESHED)
        ),
    ]


def memory(world: Path, bundle: Path, requests: int) -> list[Row]:
    """Memory and disk of 24 simulated hours: 2,000 readers, clicks, articles that come and leave."""
    folder = Path(tempfile.mkdtemp(prefix="recsys-live-", dir="/dev/shm"))
    options = ServeOptions(
        bundle=bundle, folder=folder, max_gigabytes=16.0, **POLICIES["softmax, with feedback"]
    )
    server = LocalServer(options, step_seconds=86_400 / requests)
    items = pq.read_table(world / "items.parquet").to_pylist()
    rng = np.random.default_rng(0)
    hour, sizes = requests // 24, []
    for number in range(requests):
        if number % max(hour // 40, 1) == 0:
            born = {**items[rng.integers(len(items))], "item_id": 10**9 + number}
            server.add_items([{**born, "valid_until": server.now / SECOND + 6 * 3600}])
        reader = int(rng.integers(2000))
        answer = server.recommend({"user_id": reader})
        if answer.items and rng.random() < 0.3:
            item = answer.items[int(rng.integers(len(answer.items)))]
            server.feedback([FeedbackEvent(item.item_id, "click", answer.request_id, reader)])
        if (number + 1) % hour == 0:
            sizes.append(_megabytes(folder))
            print(number + 1, *(f"{size:.0f} MB" for size in sizes[-1]), file=sys.stderr, flush=True)
    server.close()
    shutil.rmtree(folder)
    rows = []
    for name, megabytes in (
        ("memory", [own for own, _ in sizes]),
        ("log and state", [on for _, on in sizes]),
    ):
        first, most, last = megabytes[0], max(megabytes), megabytes[-1]
        said = f"{first:.0f} MB after an hour, {most:.0f} at most, {last:.0f} at the end"
        goal = "flat" if name == "memory" else "grows with the log"
        rows.append((f"{name} of 24 simulated hours, {requests:,} requests", said, goal))
    return rows


def _megabytes(folder: Path) -> tuple[float, float]:
    """Memory of this process without files that it maps, and what a folder takes."""
    _, resident, shared, *_ = map(int, Path("/proc/self/statm").read_text().split())
    own = (resident - shared) * resource.getpagesize()
    on_disk = sum(512 * path.stat().st_blocks for path in folder.rglob("*"))
    return own / 2**20, on_disk / 2**20


def coverage(world: Path, bundle: Path, requests: int) -> list[Row]:
    """Counts how often intervals from a server's own log cover what another policy earns on its requests.

    Ten logs of a policy each, and ten targets for each of them: a hundred pairs. Where `recsys off-policy`
    itself says that neither figure nor interval can be relied on, a pair is counted apart.
    """
    logging = [("softmax", {"temperature": t}) for t in (0.3, 0.5, 0.7, 1.0, 1.5)]
    logging += [("epsilon", {"epsilon": e}) for e in (0.3, 0.5, 0.7, 0.8, 0.9)]
    targets = [Target("softmax", {"temperature": t}) for t in (0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.2, 1.5)]
    targets += [Target("epsilon", {"epsilon": e}) for e in (0.6, 0.8)]
    covered: dict[tuple[str, bool], list[bool]] = {}
    for number, (policy, parameters) in enumerate(logging):
        folder = Path(tempfile.mkdtemp(prefix="recsys-live-", dir="/dev/shm"))
        serve = {
            **{"bundle": str(bundle), "folder": str(folder / "live"), "max_gigabytes": 1.0},
            **{"policy": policy, "policy_parameters": parameters, "policy_candidates": 12, "explore_new": 0},
        }
        out = folder / "out"
        config = SimulateConfig(world=world, out=out, serve=serve, requests=requests, k=4, seed=number)
        simulate(config)
        log = open_journal(ServeOptions(bundle=bundle, folder=folder / "live", max_gigabytes=1.0)).log
        for target in targets:
            out = write_tables(log, folder / "tables", rules=Rules(), target=target)
            judged = judge_policy(
                OffPolicyConfig(
                    log=out / "logged_feedback.parquet",
                    policy="target_propensity",
                    policy_given_above="target_given_above",
                    folder=folder / "judged",
                ),
                {},
            )
            said = json.loads((judged / "off_policy.json").read_text())
            truth = _truth(log, world, config, target)
            relied_on = said["effective_sample_size"] >= FEW_ROWS
            for name, found in said["estimates"].items():
                if found.get("interval"):
                    low, high = found["interval"]
                    covered.setdefault((name, relied_on), []).append(low <= truth <= high)
            shutil.rmtree(folder / "judged")
        shutil.rmtree(folder)
    return [
        (
            f"intervals of {len(held)} pairs that {'can' if relied_on else 'cannot'} be relied on, {name}",
            f"{sum(held)} cover the truth ({np.mean(held):.0%})",
            "93%" if relied_on else "said so",
        )
        for (name, relied_on), held in sorted(covered.items())
    ]


def _truth(log: Any, world: Path, config: SimulateConfig, target: Target) -> float:
    """Returns what the target earns a request, on the requests of a log, by what is true of the world."""
    readers = Readers(World.load(world / "truth.npz"), config.laws)
    by_name = {str(one): user for user, one in enumerate(World.load(world / "truth.npz").user_ids.tolist())}
    requests, clicks = _requests(log)
    policy = make_policy(target.policy, target.policy_parameters)
    rng = np.random.default_rng(0)
    earned: list[float] = []
    for number, request in enumerate(requests):
        user = by_name[str(request.user_id)]
        attractions_N = readers.attractions(user, number)[[readers.place(one) for one in request.candidates]]
        candidates = Candidates(np.array(request.candidate_scores))
        lists = [policy.draw(candidates, config.k, rng) for _ in range(_DRAWS)]
        earned.append(float(np.mean([(readers.looking_K * attractions_N[one]).sum() for one in lists])))
        readers.has_read(user, [readers.place(one) for one in clicks.get(request.request_id, ())])
    return float(np.mean(earned))


def _requests(log: Any) -> tuple[list[Request], dict[str, list[Any]]]:
    """Requests of a log, and what was clicked by request."""
    requests: list[Request] = []
    clicks: dict[str, list[Any]] = {}
    after = 0
    while batch := log.read(after, limit=1000):
        for record in (decode(content) for _, content in batch):
            if isinstance(record, Request):
                requests.append(record)
            elif isinstance(record, Event) and record.kind == "click":
                clicks.setdefault(str(record.request_id), []).append(record.item_id)
        after = batch[-1][0]
    return requests, clicks
