"""Run -> DIR/bundle: python export.py run=DIR [ranker=DIR], see python export.py --help."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recsys.commands.entry import command
from recsys.config.options import ExportConfig
from recsys.config.trained import Trained, open_ranker, open_trained
from recsys.export.bundle import export_run
from recsys.export.recommender import export_two_stage
from recsys.export.stages import Stage


@command("export", ExportConfig, continues="run")
def main(config: ExportConfig, composed: dict[str, Any]) -> Path:
    """Writes a bundle that torch alone can serve, once it answers as the trained model does."""
    trained = open_trained(config)
    folder = trained.run.path / "bundle"
    source = trained.run.manifest["fingerprint"]
    if config.ranker is not None:
        stages = stage(trained), stage(open_ranker(config.ranker))
        return export_two_stage(*stages, folder, options=config.export, config=composed, source=source)
    return export_run(
        trained.model,
        trained.dataset,
        folder,
        history_length=trained.history_length,
        options=config.export,
        provenance={"config": composed, "source": source, **trained.provenance()},
    )


def stage(trained: Trained) -> Stage:
    """A trained run as one stage of a recommender."""
    return Stage(trained.model, trained.dataset, trained.history_length, trained.provenance())
