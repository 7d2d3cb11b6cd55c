"""Logs of made worlds, on disk."""

from pathlib import Path

import numpy as np
import pandas as pd

RATES = {"tea": 0.2, "coffee": 0.5, "water": 0.1}
LOOKS = np.array([1.0, 0.6, 0.3])
START = pd.Timestamp("2026-01-05T08:00:00Z")


def drinks_log(folder: Path) -> Path:
    """1,500 requests of 300 users, one drink each, logged with known probabilities."""
    rng = np.random.default_rng(0)
    items = rng.choice(list(RATES), p=[0.5, 0.2, 0.3], size=1500)
    table = pd.DataFrame(
        {
            "request_id": [f"r{n}" for n in range(1500)],
            "user_id": np.arange(1500) % 300,
            "item_id": items,
            "propensity": pd.Series(items).map({"tea": 0.5, "coffee": 0.2, "water": 0.3}),
            "reward": (rng.random(1500) < pd.Series(items).map(RATES)).astype(int),
            "new_model": pd.Series(items).map({"tea": 0.1, "coffee": 0.8, "water": 0.1}),
        }
    )
    table.to_csv(folder / "log.csv", index=False)
    return folder / "log.csv"


def positions_log(folder: Path) -> Path:
    """Items at random positions, the same ones shown to each of 500 users again and again."""
    rng = np.random.default_rng(0)
    positions, items = rng.integers(1, 4, size=30_000), rng.integers(20, size=30_000)
    clicks = rng.random(30_000) < LOOKS[positions - 1] * np.linspace(0.1, 0.9, 20)[items]
    pd.DataFrame(
        {
            "user_id": rng.integers(500, size=30_000),
            "item_id": items,
            "position": positions,
            "propensity": 1 / 3,
            "reward": clicks.astype(int),
        }
    ).to_csv(folder / "log.csv", index=False)
    return folder / "log.csv"


def traffic_log(folder: Path) -> Path:
    """Ten days with 200 new users each, who ask once."""
    table = pd.DataFrame({"user_id": range(2000), "reward": [1, 0, 0, 0] * 500})
    table["timestamp"] = [(START + pd.Timedelta(days=n // 200)).isoformat() for n in range(2000)]
    table.to_csv(folder / "before.csv", index=False)
    return folder / "before.csv"


def pilot_log(
    folder: Path, *, lift: float = 0.5, harm: float = 0.0, wearing: float = 0.0, treated_share: float = 0.5
) -> Path:
    """A week of 2,000 users who ask once a day; the treated ones are rewarded more often."""
    rng = np.random.default_rng(0)
    users, days = np.tile(np.arange(2000), 7), np.repeat(np.arange(7), 2000)
    treated = users < 2000 * treated_share
    rate = 0.2 * (1 + treated * (lift - wearing * days))
    table = pd.DataFrame(
        {
            "user_id": users,
            "timestamp": (START.timestamp() + 86_400 * days).astype(int),
            "arm": np.where(treated, "new", "old"),
            "reward": (rng.random(14_000) < rate).astype(int),
            "latency_ms": 100 * (1 + harm * treated) + rng.normal(size=14_000),
        }
    )
    table.to_parquet(folder / "pilot.parquet")
    return folder / "pilot.parquet"


def lists_of(path: Path, order: list[str], users: int = 200) -> Path:
    """The same list for every user."""
    rows = [
        {"user_id": f"u{user}", "rank": n + 1, "item_id": item}
        for user in range(users)
        for n, item in enumerate(order)
    ]
    pd.DataFrame(rows).assign(timestamp=7).to_parquet(path)
    return path
