"""Ids of logs and lists stay what the file says: `007` is no 7, and 20 digits are no float."""

import json
import random

import numpy as np
import pyarrow.parquet as pq
import pytest

from recsys.experiments.interleaving import MakeConfig, make
from recsys.experiments.off_policy import OffPolicyConfig, judge_policy
from recsys.experiments.position_bias import PositionBiasConfig, estimate_curve

RATES = {"x0": 0.8, "x1": 0.2, "x2": 0.5, "x3": 0.1}
NAMES = {
    "plain": ["x0", "x1", "x2", "x3"],
    "leading zeros": ["007", "7", "12", "0012"],
    "long": ["12345678901234567890", "12345678901234567891", "12345678901234567892", "1234567890123456789"],
    "exponents": ["1E5", "100000", "1e5", "1E05"],
    "signs": ["-0", "0", "+0", "00"],
}


def drawn():
    """1,200 requests, an item each, and whether it was rewarded."""
    draw = random.Random(3)
    return [(item, int(draw.random() < RATES[item])) for _ in range(1200) for item in [draw.choice([*RATES])]]


def judged(folder, names, *, parts=1, delimiter=","):
    """The estimate for a policy that chooses the first item seven times in ten."""
    called = dict(zip(RATES, names, strict=True))
    folder.mkdir()
    (folder / "log").mkdir()
    rows = [
        (f"r{n}", called[item], "0.25", str(reward), item)
        for n, (item, reward) in enumerate(drawn(), start=1)
    ]
    groups = [rows] if parts == 1 else [[r for r in rows if (r[4] in ("x0", "x3")) == own] for own in (0, 1)]
    header = delimiter.join(["request_id", "item_id", "propensity", "reward"])
    for number, group in enumerate(groups):
        lines = [header, *(delimiter.join(row[:4]) for row in group)]
        (folder / "log" / f"part-{number}.csv").write_text("\n".join(lines) + "\n")
    shares = [0.7, 0.1, 0.1, 0.1]
    lines = [f"{name},{share}" for name, share in zip(names, shares, strict=True)]
    (folder / "new.csv").write_text("\n".join(["item_id,probability", *lines]) + "\n")
    station = judge_policy(
        OffPolicyConfig(folder / "log", str(folder / "new.csv"), folder=folder / "judged"), {}
    )
    return json.loads((station / "off_policy.json").read_text())


@pytest.mark.parametrize("names", list(NAMES)[1:])
def test_policy_is_judged_as_with_other_names(tmp_path, names):
    expected = judged(tmp_path / "plain", NAMES["plain"])
    found = judged(tmp_path / "names", NAMES[names])
    assert found["estimates"] == expected["estimates"]


@pytest.mark.parametrize("delimiter", ["::", ";", "|"])
def test_parts_whose_ids_look_otherwise_are_one_log(tmp_path, delimiter):
    """The one part's ids are numbers, the other's are not."""
    expected = judged(tmp_path / "plain", NAMES["plain"], parts=2)
    found = judged(tmp_path / "names", NAMES["leading zeros"], parts=2, delimiter=delimiter)
    assert found["estimates"] == expected["estimates"]


@pytest.mark.parametrize(("delimiter", "suffix"), [(",", ".csv"), (";", ".csv"), ("::", ".dat")])
def test_what_is_shown_has_the_ids_of_the_lists(tmp_path, delimiter, suffix):
    lists = {"a": ["007", "012", "010"], "b": ["010", "007", "12"]}
    for side, items in lists.items():
        rows = [
            (f"{user:04d}", rank, item) for user in (1, 2, 12) for rank, item in enumerate(items, start=1)
        ]
        lines = [delimiter.join(map(str, row)) for row in [("user_id", "rank", "item_id"), *rows]]
        (tmp_path / f"{side}{suffix}").write_text("\n".join(lines) + "\n")
    station = make(
        MakeConfig(tmp_path / f"a{suffix}", tmp_path / f"b{suffix}", k=4, folder=tmp_path / "made"), {}
    )
    shown = pq.read_table(station / "interleaved.parquet")
    assert set(shown["item_id"].to_pylist()) == {"007", "012", "010", "12"}
    assert set(shown["user_id"].to_pylist()) == {"0001", "0002", "0012"}


@pytest.mark.parametrize("names", list(NAMES)[1:])
def test_items_of_positions_are_told_apart(tmp_path, names):
    """By item, for whoever harvests: two that had become one would have another curve."""
    rng = np.random.default_rng(5)
    looks = np.array([1.0, 0.6, 0.3])
    rows = []
    for request in range(800):
        for position, item in enumerate(rng.permutation(4)[:3]):
            clicked = rng.random() < looks[position] * list(RATES.values())[item]
            rows.append((request, item, position + 1, int(clicked)))
    curves = []
    for called in (NAMES["plain"], NAMES[names]):
        lines = ["request_id,item_id,position,propensity,reward"]
        lines += [f"r{request},{called[item]},{place},0.25,{click}" for request, item, place, click in rows]
        (tmp_path / "log.csv").write_text("\n".join(lines) + "\n")
        folder = tmp_path / called[0]
        config = PositionBiasConfig(tmp_path / "log.csv", "harvested", context=None, folder=folder)
        station = estimate_curve(config, {})
        curves.append(json.loads((station / "position_bias.json").read_text())["curve"])
    assert curves[0] == curves[1]
