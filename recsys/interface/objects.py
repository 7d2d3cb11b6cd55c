"""Run and Evaluation: what the Python interface hands back, over the folders that the commands write."""

from __future__ import annotations

import dataclasses
import functools
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from recsys.commands.evaluation import evaluate_run
from recsys.commands.export import export_bundle
from recsys.evaluation.station import METRICS, REPORT
from recsys.interface.composing import configured, logging_shown
from recsys.interface.recommending import Recommender
from recsys.runs.trained import TrainedRun
from recsys.schema.json_files import read_json
from recsys.serving.bundle import Bundle

Overrides = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The evaluation of a run or of recommendations; a notebook shows its table and its report.

    Args:
        path: its folder.

    Example:
        >>> evaluation = run.evaluate()  # doctest: +SKIP
        >>> evaluation.metrics["ndcg@10"]  # doctest: +SKIP
        0.0578
    """

    path: Path

    @functools.cached_property
    def results(self) -> dict[str, Any]:
        """Everything in metrics.json: intervals, slices, baselines, diagnosis, protocol."""
        results: dict[str, Any] = read_json(self.path / METRICS)
        return results

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics of the model on the test split, by name."""
        metrics: dict[str, float] = self.results["metrics"]
        return metrics

    @property
    def table(self) -> pd.DataFrame:
        """Metrics of the model and of every baseline, a row each."""
        baselines = self.results["baselines"].items()
        rows = {name: baseline["metrics"] for name, baseline in baselines if "metrics" in baseline}
        rows = {"model": self.metrics, **rows}
        return pd.DataFrame.from_dict(rows, orient="index")

    @property
    def report(self) -> Path:
        """The report, a page without outside parts."""
        return self.path / REPORT

    def __repr__(self) -> str:
        return f"Evaluation({str(self.path)!r})\n{self.results['verdict']['text']}\n{self.table.T.round(4)}"

    def _repr_html_(self) -> str:
        verdict = html.escape(self.results["verdict"]["text"])
        page = html.escape(self.report.read_text(encoding="utf-8"))
        frame = f'<iframe srcdoc="{page}" style="width:100%;height:640px;border:1px solid #ccc"></iframe>'
        table = self.table.round(4).to_html()
        return f"<p>{verdict}</p>{table}<details><summary>Report</summary>{frame}</details>"


@dataclasses.dataclass(frozen=True)
class Run:
    """A trained run: its metrics, recommendations, evaluation and export.

    Args:
        trained: the run on disk.
    """

    trained: TrainedRun

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self.trained.path

    @property
    def metrics(self) -> Mapping[str, Any]:
        """Content of metrics.json: `validation`, `test`, `monitor`, `best_epoch`, `train_seconds`, ..."""
        return self.trained.metrics

    @property
    def config(self) -> Mapping[str, Any]:
        """The composed configuration."""
        return self.trained.config

    @functools.cached_property
    def _recommender(self) -> Recommender:
        return Recommender(self.trained)

    def recommend(self, users: Sequence[Any], k: int = 10) -> pd.DataFrame:
        """The k best items for each user, by everything that the data know of the user.

        Args:
            users: ids as in the interactions.
            k: items a user; fewer where the catalogue has no more.

        Returns:
            A row per recommended item: `user_id`, `rank` (from 1), `item_id`, `score`. Items of the user's
            history are not among them.

        Raises:
            InputError: the run holds a ranking model, which does not choose from the catalogue.
        """
        return self._recommender.recommend(users, k)

    def evaluate(self, *, overrides: Overrides | None = None) -> Evaluation:
        """Evaluates the model on the test split beside baselines, into `evaluation/` of the run's folder.

        Args:
            overrides: keys below `evaluation.` in place of the run's own, as `{"evaluation.k": [10, 100]}`.
        """
        with logging_shown():
            config, plain = configured("evaluate", {**self._keys, **(overrides or {})})
            run = TrainedRun.open(self.path, config=plain, checkpoint=config.checkpoint)
            return Evaluation(evaluate_run(run, config.evaluation, plain))

    def export(self, *, ranker: Run | str | Path | None = None, overrides: Overrides | None = None) -> Bundle:
        """Writes `bundle/` into the run's folder, checks that it answers as the model, and opens it.

        Args:
            ranker: the run of a ranking model, to recommend in two stages.
            overrides: keys below `export.`, as `{"export.quantize": "int8"}`.
        """
        keys = {**self._keys, **(overrides or {})}
        if ranker is not None:
            keys["ranker"] = str(ranker.path if isinstance(ranker, Run) else ranker)
        with logging_shown():
            return Bundle.open(export_bundle(*configured("export", keys)))

    @property
    def _keys(self) -> dict[str, Any]:
        return {"run": str(self.path), "checkpoint": self.trained.checkpoint}

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})\n{self._figures().round(4)}"

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(str(self.path))}</p>{self._figures().round(4).to_html()}"

    def _figures(self) -> pd.DataFrame:
        return pd.DataFrame({split: self.metrics[split] for split in ("validation", "test")}).dropna()
