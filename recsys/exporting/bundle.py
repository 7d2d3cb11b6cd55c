"""export_bundle: a trained model, or two -> a bundle that any process with torch can serve.

A newcomer's whole program, in a Python that has torch and nothing else, for a bundle of a retrieval model:

    import torch

    model = torch.jit.load("bundle/retrieval.pt")
    user = {"user_id": 196, "age": 49}  # columns of the users' table; of a known user the id is enough
    history = [242, 257, 111]  # ids of what the user liked, oldest first; [] when there is nothing
    context = {"timestamp": 881251577}  # columns of the interactions' table; may be left out
    item_ids, scores = model.recommend(user, history, 10, context)
    for rank, (item_id, score) in enumerate(zip(item_ids, scores), start=1):
        print(rank, item_id, round(score, 3))

and for one of a ranking model:

    model = torch.jit.load("bundle/ranking.pt")
    rows = [{"user_id": 196, "item_id": 242, "timestamp": 881251577}, {"user_id": 196, "item_id": 257}]
    print(model.predict(rows).tolist())  # probabilities
    model.observe([{**rows[0], "label": 4}])  # where features are statistics: later requests see this event

and for both together, the candidates of the one ranked by the other:

    model = torch.jit.load("bundle/recommender.pt")
    ids, probabilities, scores, sources = model.recommend(user, history, 10, context)
    model.retrieval, model.ranking  # the two stages, with every method that bundles of one model have

What holds for all:

- A field that is there overrides what is stored of a known user or item, None too; one that is left out is
  looked up. Fields that no feature reads do nothing; `unread_fields(record)` lists them.
- An unknown or unreadable value is row 0 of its table, trained for unknowns; a number then is the train mean.
- A value must be plain Python: int, float, str, bool, None, or a list of one of these. Inside a record, None
  stands for an empty list: torch can't hand over an empty list there.
- Strings of digits do for integer ids, integers for string ids.
- A list where one value belongs is an error that names the field.
- `model.add_items([{"item_id": 2000, "genres": ["Drama"]}])` puts new items into the catalogue, untrained.
- `where={"genres": ["Drama", "War"], "year": [1994]}` lists items of that year that are drama or war; after
  `model.set_available([242], False)` item 242 is not recommended. Lists are shorter only where less is left.
"""

from __future__ import annotations

import dataclasses
import logging
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from recsys.exporting.build import scripted
from recsys.exporting.fields import PER_SECOND
from recsys.exporting.gate.compiled import PackageGate
from recsys.exporting.gate.composed import ask_both, check_two_stage
from recsys.exporting.gate.parity import Parity
from recsys.exporting.gate.recorded import Record, Recorder
from recsys.exporting.gate.replay import check_in_fresh_process, record, requests_of_lists
from recsys.exporting.index import NUM_COMPARED, check_index, ship_index
from recsys.exporting.options import ExportOptions
from recsys.exporting.program.ranking import RankingProgram
from recsys.exporting.program.retrieval import RetrievalProgram
from recsys.exporting.rounding import describe_rounding, with_rounded_tables
from recsys.exporting.signature import two_stage_signature
from recsys.exporting.stage import Stage
from recsys.exporting.tasks.register import build_program, check_stage, task_of
from recsys.exporting.two_stages import check_stages, join_programs
from recsys.schema.disk import write_file
from recsys.schema.manifest import read_station, writing_station
from recsys.schema.program import load_scripted
from recsys.schema.requests import RequestLimits
from recsys.schema.signing import SIGNED, sign
from recsys.schema.values import FIRST_YEAR

LOGGER = logging.getLogger(__name__)

# Numbers that are instants of this year and later are of another unit.
_END_YEAR = 2200
_OWN_LICENCE = "none is known: the raw tables were the user's own"


def export_bundle(
    stage: Stage,
    folder: Path,
    *,
    ranker: Stage | None = None,
    options: ExportOptions | None = None,
    config: Mapping[str, Any] | None = None,
    source: str | None = None,
) -> Path:
    """Writes the bundle of one trained model, or two, after it has given their answers on test rows.

    Args:
        stage: the model, which is put into eval mode, and its dataset; the first where there are two.
        folder: of the bundle; one that is there is replaced when all is well.
        ranker: ranks what the first retrieves.
        options: of `export.`.
        config: the composed configuration.
        source: fingerprint of the run.

    Returns:
        `folder`.

    Raises:
        ParityError: the file answers otherwise than the models, or needs more than torch; nothing is written.
        ValueError: the dataset has no test rows to check on; a model does not compile; the two can't work
            together; or the index can't be had, see `ship_index`.
    """
    options = options or ExportOptions()
    check_index(options, has_catalogue=task_of(stage).has_catalogue)
    trained: dict[str, Stage] = {stage.task: stage}
    if ranker is not None:
        check_stages(stage, ranker)
        trained[ranker.task] = ranker
    config = config or {}
    with writing_station(folder, "bundle", config=config, source=source) as (temporary, manifest):
        _Export(trained, temporary, manifest, options).write()
        if options.sign is not None:
            manifest[SIGNED] = sign(temporary, {**manifest, "config": config}, options.sign)
    return folder


@dataclasses.dataclass
class _Export:
    """A bundle on its way into a folder.

    Args:
        trained: the models by task, the retrieval model first.
        folder: of the files.
        manifest: of the bundle, to be filled.
        options: of `export.`.
    """

    trained: dict[str, Stage]
    folder: Path
    manifest: dict[str, Any]
    options: ExportOptions

    def __post_init__(self) -> None:
        self.is_two_stage = len(self.trained) == 2
        self.file = "recommender.pt" if self.is_two_stage else f"{next(iter(self.trained))}.pt"
        # What the file holds: the models as their rounded tables make them.
        self.stages = {
            task: dataclasses.replace(
                stage, model=with_rounded_tables(stage.model.eval(), self.options.quantize)
            )
            for task, stage in self.trained.items()
        }
        self.parities: dict[str, Parity] = {}

    def write(self) -> None:
        """Writes the file and all that goes with it, once it answers as the trained models do."""
        options, stages = self.options, self.stages
        programs = {task: build_program(stage, options.quantize) for task, stage in stages.items()}
        packages = {
            task: task_of(stage).package(programs[task], stage)
            for task, stage in stages.items()
            if options.format == "aoti"
        }
        program = self._save(programs)
        requests: list[Record] = []
        for task, stage in stages.items():
            part = getattr(program, task) if self.is_two_stage else program
            recorder = Recorder(stage, self.file)
            asked = recorder.ask(options.parity_rows)
            LOGGER.info("the %s model in `%s` is compared with the trained one", task, self.file)
            self.parities[task] = check_stage(part, recorder, asked, options)
            recorded = task_of(stage).requests(asked, options)
            if task in packages:
                gate = PackageGate(packages[task], self.folder, part, recorder, options)
                recorded += gate.ship(asked, self.manifest)
            prefix = f"{task}." if self.is_two_stage else ""
            requests += [{**request, "method": prefix + request["method"]} for request in recorded]
            if task_of(stage).has_catalogue:
                num_found = options.num_candidates if self.is_two_stage else NUM_COMPARED
                self.manifest["seen"] = stage.seen
                self.manifest["index"] = ship_index(part, asked[0], self.folder, options, k=num_found)
        if self.is_two_stage:
            LOGGER.info("both models together are compared with each")
            both = ask_both(*stages.values(), file=self.file, num_rows=options.parity_rows)
            self.parities["two_stage"] = check_two_stage(program, stages["retrieval"], both, options)
            requests = [*requests_of_lists(both, options), *requests]
        LOGGER.info("%d requests are recorded, and answered again by torch alone", len(requests))
        record(program, requests, self.folder)
        check_in_fresh_process(self.folder / self.file, tolerance=options.tolerance)
        self._describe(program)

    def _save(self, programs: Mapping[str, nn.Module]) -> Any:
        """The program of the whole file, after it was saved and loaded as a server would."""
        program, *others = programs.values()
        if others:
            parts = cast(RetrievalProgram, program), cast(RankingProgram, others[0])
            program = join_programs(
                self.stages["retrieval"], self.stages["ranking"], *parts, options=self.options
            )
        save_scripted(program, self.folder / self.file)
        return load_scripted(self.folder / self.file)

    def _describe(self, program: Any) -> None:
        """Fills the manifest."""
        parts = {
            task: {
                **_describe_stage(stage),
                "run": dict(stage.run),
                "parity": self.parities[task].describe(self.options),
                "quantize": describe_rounding(self.trained[task], stage, self.options.quantize),
            }
            for task, stage in self.stages.items()
        }
        own = self._describe_both(program, parts) if self.is_two_stage else next(iter(parts.values()))
        self.manifest.update(own, file=self.file, limits=self._limits().stated(), versions=_versions())

    def _limits(self) -> RequestLimits:
        """Limits of requests; the years of instants where the data has none before FIRST_YEAR."""
        manifests = [stage.dataset.manifest for stage in self.stages.values()]
        instants = [manifest.get("understood", {}).get("instants") for manifest in manifests]
        if not all(known and known["first"] >= str(FIRST_YEAR) for known in instants):
            return RequestLimits()
        per_second = PER_SECOND[manifests[0]["timestamp"]["unit"] or "s"]
        first, end = (
            int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * per_second for year in (FIRST_YEAR, _END_YEAR)
        )
        return RequestLimits(instant_from=first, instant_to=end - 1)

    def _describe_both(self, program: Any, parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        defaults = {"num_candidates": self.options.num_candidates, "diversity": self.options.diversity}
        return {
            "task": "two_stage",
            "signature": two_stage_signature(*self.stages.values(), defaults=defaults),
            "catalogue": describe_catalogue(program),
            **defaults,
            "stages": parts,
            "licence": "; ".join(dict.fromkeys(part["licence"] for part in parts.values())),
            "parity": self.parities["two_stage"].describe(self.options),
        }


def _describe_stage(stage: Stage) -> dict[str, Any]:
    """Describes one model and the data it was trained on, for a manifest."""
    dataset = stage.dataset
    licence = dataset.manifest.get("licence") or _OWN_LICENCE
    return {
        "task": stage.task,
        "model": type(stage.model).__name__,
        "signature": task_of(stage).signature(stage),
        # Without the weights of rows, which the file holds.
        "features": [
            {key: value for key, value in feature.items() if key != "idf"}
            for feature in dataset.schema.to_dict()["features"]
        ],
        "vocabulary_sizes": dataset.schema.num_rows,
        "catalogue": {"items": dataset.num_items - 1, "users": dataset.num_users - 1},
        "history_length": stage.history_length,
        "prepared": {
            "name": dataset.manifest.get("name"),
            "fingerprint": dataset.manifest["fingerprint"],
            "licence": licence,
        },
        "licence": licence,
    }


def describe_catalogue(program: Any) -> dict[str, int]:
    """Counts the items of a two-stage file, and how many of them its ranking model knows."""
    num_items = program.ranker_rows.numel() - 1
    num_known = int((program.ranker_rows > 0).sum())
    return {
        "items": num_items,
        "known_to_ranking_model": num_known,
        "unknown_to_ranking_model": num_items - num_known,
    }


def load_bundle(folder: Path) -> tuple[dict[str, Any], Any]:
    """The manifest and the program of a bundle, after every file of it has been read and found whole.

    A server without this package does the same in a few lines: `manifest.json` has size and SHA-256 of all.

    Raises:
        ValueError: the bundle is missing, incomplete, damaged or of another version; it names the file.
    """
    manifest = read_station(folder, "bundle", verify_all=True)
    return manifest, load_scripted(Path(folder) / manifest["file"])


def save_scripted(program: nn.Module, file: Path) -> None:
    """Scripts `program` and saves it."""
    save_loaded(scripted(program.eval()), file)


def save_loaded(program: Any, file: Path) -> None:
    """Saves what is scripted, as it is now.

    NOTE: torch 2.13's own writer ends the process where a disk is full, so that the file is made in memory.
    """
    write_file(file, program.save_to_buffer())


def _versions() -> dict[str, str | None]:
    try:
        own: str | None = version("recsys")
    except PackageNotFoundError:  # run from a checkout that is not installed; the manifest has its commit
        own = None
    return {"recsys": own, "torch": str(torch.__version__), "python": platform.python_version()}
