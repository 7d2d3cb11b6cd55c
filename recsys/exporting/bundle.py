"""export_run: a trained model -> a bundle that any process with torch can serve.

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

What holds for both:

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
import functools
import logging
import platform
import warnings
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from recsys.data.dataset import PreparedDataset
from recsys.data.queries import Seen
from recsys.exporting.build import build_program, scripted, statistics_before
from recsys.exporting.compiled import package_of
from recsys.exporting.fields import fields_of
from recsys.exporting.gate.compiled import PackageGate
from recsys.exporting.gate.evaluated_lists import check_evaluated_lists
from recsys.exporting.gate.observing import check_observing
from recsys.exporting.gate.parity import Parity, check_ranking, check_retrieval
from recsys.exporting.gate.recorded import Record, RecordedRequests, Recorder
from recsys.exporting.gate.replay import check_in_fresh_process, ranking_requests, record, retrieval_requests
from recsys.exporting.gate.sentences import check_sentences
from recsys.exporting.index import check_index, ship_index
from recsys.exporting.observed import Log, statistics_of
from recsys.exporting.options import ExportOptions
from recsys.exporting.rounding import describe_rounding, with_rounded_tables
from recsys.exporting.signature import signature
from recsys.models.protocols import MultiTaskModel, RankingModel, RetrievalModel, events_read
from recsys.schema.disk import write_file
from recsys.schema.manifest import read_station, writing_station
from recsys.schema.requests import RequestLimits
from recsys.schema.signing import SIGNED, sign

LOGGER = logging.getLogger(__name__)

RETRIEVAL_FILE = "retrieval.pt"
RANKING_FILE = "ranking.pt"
_OWN_LICENCE = "none is known: the raw tables were the user's own"


def export_run(
    model: nn.Module,
    dataset: PreparedDataset,
    folder: Path,
    *,
    history_length: int = 50,
    seen: Seen = "exclude",
    options: ExportOptions | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Path:
    """Writes the bundle of a trained model to `folder`, after both have given the same answers on test rows.

    Args:
        model: with its weights loaded, on the CPU; it is put into eval mode.
        dataset: what it was trained on.
        folder: of the bundle; one that is there is replaced when all is well.
        history_length: latest items of a history that the model was trained to see (`data.history_length`).
        seen: whether items of a history are recommended by the bundle (`evaluation.seen`): `exclude` or
            `keep`.
        options: of `export.`.
        provenance: `config` (composed configuration), `source` (fingerprint of the run); anything else, such
            as the run's path and metrics, goes into the manifest under `run`.

    Returns:
        `folder`.

    Raises:
        ParityError: the file answers otherwise than the model, or needs more than torch; nothing is written.
        ValueError: the dataset has no test rows to check on; the model does not compile; or the index
            can't be had, see `ship_index`.
    """
    options = options or ExportOptions()
    check_index(options, has_catalogue=isinstance(model, RetrievalModel))
    given = dict(provenance or {})
    config, source = given.pop("config", {}), given.pop("source", None)
    trained = model.eval()
    model = with_rounded_tables(trained, options.quantize)
    name = RANKING_FILE if isinstance(model, RankingModel) else RETRIEVAL_FILE
    recorder = recorder_of(model, dataset, file=name, history_length=history_length)
    with writing_station(folder, "bundle", config=config, source=source) as (temporary, extra):
        file = temporary / name
        built = build_program(
            model, dataset, history_length=history_length, tables=options.quantize, seen=seen
        )
        package = package_of(built, model, dataset.schema) if options.format == "aoti" else None
        save_scripted(built, file)
        program = load_scripted(file)
        LOGGER.info("`%s` is compared with the trained model", name)
        asked = recorder.ask(options.parity_rows)
        parity = check_part(model, program, recorder, asked, options)
        requests = requests_of(recorder, asked, options)
        if package is not None:
            gate = PackageGate(package, temporary, model, program, recorder, options.tolerance)
            requests += gate.passed(asked, extra, options)
        LOGGER.info("%d requests are recorded, and answered again by torch alone", len(requests))
        record(program, requests, temporary)
        check_in_fresh_process(file, tolerance=options.tolerance)
        extra["file"] = name
        if not recorder.is_ranking:
            extra["index"] = ship_index(program, asked[0], temporary, options)
            extra["seen"] = seen
        extra.update(describe_part(model, dataset, history_length=history_length))
        extra["quantize"] = describe_rounding(
            trained, model, dataset, options.quantize, history_length=history_length, seen=seen
        )
        extra.update(
            limits=dataclasses.asdict(RequestLimits()),
            versions=versions(),
            parity=describe_parity(parity, options),
            run=given,
        )
        if options.sign is not None:
            extra[SIGNED] = sign(temporary, {**extra, "config": config}, options.sign)
    return folder


def load_bundle(folder: Path) -> tuple[dict[str, Any], Any]:
    """The manifest and the program of a bundle, after every file of it has been read and found whole.

    A server without this package does the same in a few lines: `manifest.json` has size and SHA-256 of all.

    Raises:
        ValueError: the bundle is missing, incomplete, damaged or of another version; it names the file.
    """
    manifest = read_station(folder, "bundle", verify_all=True)
    return manifest, load_scripted(Path(folder) / manifest["file"])


def recorder_of(
    model: nn.Module, dataset: PreparedDataset, *, file: str, history_length: int, flat: bool | None = None
) -> Recorder:
    """Takes recorded rows for a model out of its dataset.

    Args:
        model: trained.
        dataset: what it was trained on.
        file: name of the file that is checked.
        history_length: latest items of a history that the model sees.
        flat: whether requests are rows of all tables; as its own file takes them when None.
    """
    is_ranking = isinstance(model, RankingModel)
    return Recorder(
        dataset=dataset,
        file=file,
        fields=fields_of(
            dataset.schema, dataset.manifest["config"], flat=is_ranking if flat is None else flat
        ),
        history_length=history_length,
        is_ranking=is_ranking,
        events_read=events_read(model),
    )


def save_scripted(program: nn.Module, file: Path) -> None:
    """Scripts `program` and saves it."""
    save_loaded(scripted(program.eval()), file)


def save_loaded(program: Any, file: Path) -> None:
    """Saves what is scripted, as it is now.

    NOTE: torch 2.13's own writer ends the process where a disk is full, so that the file is made in memory.
    """
    write_file(file, program.save_to_buffer())


def load_scripted(file: Path) -> Any:
    """A scripted file, loaded as a server would."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
        return torch.jit.load(str(file), map_location="cpu")  # type: ignore[no-untyped-call]


def check_part(
    model: nn.Module, program: Any, recorder: Recorder, asked: list[RecordedRequests], options: ExportOptions
) -> Parity:
    """Compares what a file of one model, or one stage of a file, answers with the trained model.

    Args:
        model: trained.
        program: the file or the stage of it, loaded again.
        recorder: of the prepared dataset.
        asked: recorded requests.
        options: of `export.`.

    Raises:
        ParityError: at the first difference.
    """
    trained = cast(Any, model)
    check_sentences(recorder.dataset)
    if not recorder.is_ranking:
        k, tolerance = options.k, options.tolerance
        parity = check_retrieval(trained, program, recorder, asked, k=k, tolerance=tolerance)
        lists = check_evaluated_lists(trained, program, recorder, k=k, tolerance=tolerance)
        return dataclasses.replace(parity, lists=lists)
    parity = check_ranking(trained, program, recorder, asked, tolerance=options.tolerance)
    if statistics_of(recorder.dataset):
        log = Log.read(recorder.dataset)
        before = functools.partial(statistics_before, model, log)
        check_observing(program, log, before, num_rows=options.parity_rows)
    return parity


def requests_of(recorder: Recorder, asked: list[RecordedRequests], options: ExportOptions) -> list[Record]:
    """The requests that are recorded with their responses."""
    if recorder.is_ranking:
        return ranking_requests(asked, number=options.recorded_requests)
    return retrieval_requests(asked, number=options.recorded_requests, k=options.k)


def describe_part(model: nn.Module, dataset: PreparedDataset, *, history_length: int) -> dict[str, Any]:
    """Describes one model and the data it was trained on, for a manifest."""
    is_ranking = isinstance(model, RankingModel)
    licence = dataset.manifest.get("licence") or _OWN_LICENCE
    return {
        "task": "ranking" if is_ranking else "retrieval",
        "model": type(model).__name__,
        "signature": signature(
            dataset,
            is_ranking=is_ranking,
            history_length=history_length,
            labels=model.labels if isinstance(model, MultiTaskModel) else (),
        ),
        # Without the weights of rows, which the file holds.
        "features": [
            {key: value for key, value in feature.items() if key != "idf"}
            for feature in dataset.schema.to_dict()["features"]
        ],
        "vocabulary_sizes": dataset.schema.num_rows,
        "catalogue": {"items": dataset.num_items - 1, "users": dataset.num_users - 1},
        "history_length": history_length,
        "prepared": {
            "name": dataset.manifest.get("name"),
            "fingerprint": dataset.manifest["fingerprint"],
            "licence": licence,
        },
        "licence": licence,
    }


def describe_parity(parity: Parity, options: ExportOptions) -> dict[str, Any]:
    """Describes the comparison with the trained models, for a manifest."""
    found = {
        "requests": parity.num_requests,
        "max_difference": parity.max_difference,
        "tolerance": options.tolerance,
    }
    return found if parity.lists is None else {**found, "lists": dict(parity.lists)}


def versions() -> dict[str, str | None]:
    """Versions that a manifest names."""
    try:
        own: str | None = version("recsys")
    except PackageNotFoundError:  # run from a checkout that is not installed; the manifest has its commit
        own = None
    return {"recsys": own, "torch": str(torch.__version__), "python": platform.python_version()}
