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
    from recsys.exporting.stage import Stage

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
    from recsys.exporting import bundle

    run = TrainedRun.open(config.run, config=composed, checkpoint=config.checkpoint)
    stages = [_stage_of(run)]
    if config.ranker is not None:
        try:
            ranker = TrainedRun.open(config.ranker)
        except InputError as error:
            raise InputError(f"`ranker`: {error}") from error
        stages.append(_stage_of(ranker))
    return bundle.export_bundle(
        stages[0],
        run.path / "bundle",
        ranker=stages[1] if len(stages) > 1 else None,
        options=config.export,
        config=composed,
        source=run.fingerprint,
    )


def _stage_of(run: TrainedRun) -> Stage:
    from recsys.exporting.stage import Stage

    return Stage(run.model, run.dataset, run.history_length, run.provenance(), seen=run.seen)
