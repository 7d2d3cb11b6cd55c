"""Run -> DIR/bundle: python export.py run=DIR [ranker=DIR], see python export.py --help."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys.commands.entry import command
from recsys.config.help import HelpTexts
from recsys.runs.trained import TrainedRun
from recsys.schema.errors import InputError

if TYPE_CHECKING:
    from recsys.commands.options import ExportConfig

_HELP = HelpTexts(
    "python export.py",
    keys=("run", "ranker", "export.format", "export.quantize", "export.index", "export.num_candidates"),
    example="run=runs/first export.index=hnsw",
)


@command("export", "recsys.commands.options.ExportConfig", continues="run", help_texts=_HELP)
def main(config: ExportConfig, composed: dict[str, Any]) -> Path:
    """Writes a bundle that torch alone can serve, once it answers as the trained model does."""
    return export_bundle(config, composed)


def export_bundle(config: ExportConfig, composed: dict[str, Any]) -> Path:
    """Exports the run that `config` names, alone or in two stages with a ranking model."""
    from recsys.exporting.bundle import export_run
    from recsys.exporting.recommender import export_two_stage
    from recsys.exporting.stages import Stage

    run = TrainedRun.open(config.run, config=composed, checkpoint=config.checkpoint)
    folder, source = run.path / "bundle", run.fingerprint
    if config.ranker is not None:
        try:
            ranker = TrainedRun.open(config.ranker)
        except InputError as error:
            raise InputError(f"`ranker`: {error}") from error
        first, second = (
            Stage(one.model, one.dataset, one.history_length, one.provenance(), seen=one.seen)
            for one in (run, ranker)
        )
        return export_two_stage(first, second, folder, options=config.export, config=composed, source=source)
    return export_run(
        run.model,
        run.dataset,
        folder,
        history_length=run.history_length,
        seen=run.seen,
        options=config.export,
        provenance={"config": composed, "source": source, **run.provenance()},
    )
