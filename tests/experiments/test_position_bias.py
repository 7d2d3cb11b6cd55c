import json

import pytest

from recsys.commands.position_bias import main
from recsys.experiments.position_bias import PositionBiasConfig, estimate_curve, read_examination
from tests.experiments.logs import LOOKS, positions_log


@pytest.fixture
def log(tmp_path):
    return positions_log(tmp_path)


@pytest.mark.parametrize("method", ["randomised", "harvested"])
def test_curve_is_written_and_read_again(log, capsys, method):
    with pytest.raises(SystemExit) as ended:
        main([f"log={log}", f"method={method}"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.splitlines() == [str(log.parent / "position_bias")]
    assert read_examination(log.parent / "position_bias") == pytest.approx(LOOKS, abs=0.05)
    figures = json.loads((log.parent / "position_bias" / "position_bias.json").read_text())
    for row, truth in zip(figures["curve"], LOOKS, strict=True):
        assert row["low"] <= truth <= row["high"]
    assert "<svg" in (log.parent / "position_bias" / "position_bias.html").read_text()


def test_items_without_a_context_are_warned_of(log):
    estimate_curve(PositionBiasConfig(log, "harvested", context=None), {})
    figures = json.loads((log.parent / "position_bias" / "position_bias.json").read_text())
    assert "Without a context" in figures["warnings"][0]


def test_a_context_that_is_not_there_is_refused(log):
    with pytest.raises(ValueError, match=r"`context=query`: expected a column of .* found none"):
        estimate_curve(PositionBiasConfig(log, "harvested", context="query"), {})
    with pytest.raises(ValueError, match="`confidence` must lie between 0 and 1, got 0"):
        PositionBiasConfig(log, "harvested", confidence=0)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("1,1\n3,0.5", r"expected positions 1, 2, 3, ... once each, found \[1.0, 3.0\]"),
        ("1,1\n2,0", "found 0 in row 2"),
    ],
)
def test_a_curve_that_is_none_is_refused(tmp_path, rows, message):
    (tmp_path / "curve.csv").write_text(f"position,examination\n{rows}\n")
    with pytest.raises(ValueError, match=message):
        read_examination(tmp_path / "curve.csv")
