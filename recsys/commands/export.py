"""Run -> DIR/bundle: python export.py run=DIR [ranker=DIR], see python export.py --help."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recsys.commands.entry import command
from recsys.commands.options import ExportConfig
from recsys.export.bundle import export_run
from recsys.export.recommender import export_two_stage
from recsys.export.stages import Stage
from recsys.runs.trained import TrainedRun
from recsys.schema.errors import InputError


@command("export", ExportConfig, continues="run")
def main(config: ExportConfig, composed: dict[str, Any]) -> Path:
    """Writes a bundle that torch alone can serve, once it answers as the trained model does."""
    return export_bundle(config, composed)


def export_bundle(config: ExportConfig, composed: dict[str, Any]) -> Path:
    """Exports the run that `config` names, alone or in two stages with a ranking model."""
    run = TrainedRun.open(config.run, config=composed, checkpoint=config.checkpoint)
    folder, source = run.path / "bundle", run.fingerprint
    if config.ranker is not None:
        try:
            ranker = TrainedRun.open(config.ranker)
        except InputError as error:
            raise InputError(f"`ranker`: {error}") from error
        stages = stage(run), stage(ranker)
        return export_two_stage(*stages, folder, options=config.export, config=composed, source=source)
    return export_run(
        run.model,
        run.dataset,
        folder,
        history_length=run.history_length,
        options=config.export,
        provenance={"config": composed, "source": source, **run.provenance()},
    )


def stage(run: TrainedRun) -> Stage:
    """A trained run as one stage of a recommender."""
    return Stage(run.model, run.dataset, run.history_length, run.provenance())
