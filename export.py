"""Run -> DIR/bundle: python export.py run=DIR, see python export.py --help."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recsys.doctor import importing

with importing():
    from recsys.config.command import command
    from recsys.config.options import ExportConfig
    from recsys.config.trained import open_trained
    from recsys.export.bundle import export_run


@command("export", ExportConfig, continues="run")
def main(config: ExportConfig, composed: dict[str, Any]) -> Path:
    """Writes a bundle that torch alone can serve, once it answers as the trained model does."""
    trained = open_trained(config)
    return export_run(
        trained.model,
        trained.dataset,
        trained.run.path / "bundle",
        history_length=config.data.history_length,
        options=config.export,
        provenance={
            "config": composed,
            "source": trained.run.manifest["fingerprint"],
            "run": str(trained.run.path),
            "metrics": trained.run.metrics,
        },
    )


if __name__ == "__main__":
    main()
