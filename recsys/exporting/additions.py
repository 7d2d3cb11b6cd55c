"""extend_bundle: a bundle and a table of new items -> a new bundle, whole, that recommends them too.

The old bundle is read and left as it is. What it answered when it was recorded must be what the new one
answers when the new items are excluded; then the same requests are recorded anew, with the new items.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from recsys.exporting.bundle import describe_catalogue, load_bundle, save_loaded
from recsys.exporting.fields import TABLE_OF_ROLE
from recsys.exporting.gate.differences import ParityError
from recsys.exporting.gate.lists import first_difference
from recsys.exporting.gate.recorded import Record
from recsys.exporting.gate.replay import RESPONSES, answer_of, check_in_fresh_process, record
from recsys.exporting.index import INDEX_FILE
from recsys.exporting.records import raw_values, read_records
from recsys.nn.sentence_encoder import SentenceEncoder
from recsys.retrieval.ann import load
from recsys.schema.errors import InputError
from recsys.schema.features import HISTORY, ITEM_ID
from recsys.schema.json_files import read_json_list
from recsys.schema.manifest import MANIFEST, writing_station
from recsys.schema.program import load_scripted
from recsys.schema.progress import progress
from recsys.schema.requests import REQUESTS, RequestLimits, read_recorded
from recsys.schema.signing import SIGNED, sign

_ADDED_AT_ONCE = 65_536
_RECORDINGS = (REQUESTS, RESPONSES)
# What a manifest says of its own station.
_OF_STATION = (
    SIGNED,
    "checksum",
    "format",
    "version",
    "fingerprint",
    "source",
    "created",
    "commit",
    "config",
    "files",
)

LOGGER = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class AddItemsConfig:
    """Every key of `recsys add-items`.

    Args:
        bundle: folder of a bundle; it stays as it is.
        items: table of new items, CSV with names in its first line or Parquet, a file or a folder of them;
            the columns of `data.items` that a model reads, and the id.
        folder: of the new bundle; null is `BUNDLE-with-ITEMS` beside the old one.
        sign: private key that signs the new bundle.
    """

    bundle: Path
    items: Path
    folder: Path | None = None
    sign: Path | None = None

    @property
    def target(self) -> Path:
        """Folder of the new bundle."""
        bundle = self.bundle if self.bundle.name else self.bundle.absolute()
        return self.folder or bundle.with_name(f"{bundle.name}-with-{self.items.stem}")


def extend_bundle(config: AddItemsConfig) -> Path:
    """Writes the new bundle and returns its folder.

    Raises:
        ValueError: the bundle is damaged or can't be extended; the table can't be read, has items that are
            known, or none; the folder is taken. Nothing is written then.
        ParityError: the new bundle answers the old one's requests otherwise, new items excluded.
    """
    manifest, program = load_bundle(config.bundle)
    _check(config, manifest)
    parts = _parts(program)
    before = [_num_items(part) for part in parts]
    id_fields = [field.removeprefix(f"{TABLE_OF_ROLE['item']}.") for field in parts[0].known.item_fields]
    columns = {feature["column"]: feature["kind"] for feature in _item_features(manifest)}
    table = read_records(config.items, key="items", id_fields=id_fields, columns=columns, kinds=columns)
    missing = sorted(set(columns) - set(table.column_names))
    if missing:
        LOGGER.warning(
            "`items=%s` lacks the columns %s; of all new items they count as missing", config.items, missing
        )
    ids = _add(program, table, id_fields, config, manifest)
    with writing_station(
        config.target, "bundle", config=manifest["config"], source=manifest["fingerprint"]
    ) as (temporary, extra):
        file = temporary / manifest["file"]
        save_loaded(program, file)
        for name in manifest.get("packages", {}):  # arithmetic alone, which no item changes
            shutil.copyfile(config.bundle / name, temporary / name)
        program = load_scripted(file)
        parts = _parts(program)
        entry = manifest.get("index") or {}
        if "file" in entry:
            extend_index(entry, config.bundle, temporary, candidates=parts[0].candidates)
        tolerance = manifest["parity"]["tolerance"]
        compared = _check_recorded(config.bundle, program, ids, before=before, tolerance=tolerance)
        requests = read_recorded(config.bundle)
        record(program, [*requests, _about(ids[0], manifest["task"])], temporary)
        check_in_fresh_process(file, tolerance=tolerance)
        extra.update({name: value for name, value in manifest.items() if name not in _OF_STATION})
        extra.update(_counts(manifest, program))
        entry = {"items": len(ids), "table": str(config.items), "recorded_requests_compared": compared}
        extra["additions"] = [*manifest.get("additions", []), entry]
        if config.sign is not None:
            extra[SIGNED] = sign(temporary, {**extra, "config": manifest["config"]}, config.sign)
        elif SIGNED in manifest:
            LOGGER.warning("`%s` is signed, the new bundle is not; give `sign=KEY`", config.bundle)
    LOGGER.info("%d items added; the catalogue holds %d", len(ids), _num_items(parts[0]))
    return config.target


def extend_index(entry: Mapping[str, Any], old: Path, new: Path, *, candidates: torch.Tensor) -> None:
    """Writes the index of a bundle with the rows of the catalogue beyond those that it has.

    Its settings and what was measured of it, `entry` of the manifest, stay as they are.
    """
    index = load(old / entry["file"], entry["kind"], k=entry["k"], settings=entry["settings"], time_share=0.0)
    index.add(candidates)
    index.save(new / entry["file"])


def _check(config: AddItemsConfig, manifest: Mapping[str, Any]) -> None:
    """Raises where a bundle can't be extended, or the new one has no place.

    Raises:
        ValueError: see `extend_bundle`.
    """
    RequestLimits.of_manifest(manifest)
    known = {manifest["file"], INDEX_FILE, *_RECORDINGS, *manifest.get("packages", {})}
    others = sorted(set(manifest["files"]) - known)
    if others:
        raise InputError(
            f"`{config.bundle}` must hold nothing but a TorchScript file, packages, an index and recorded "
            f"requests to be extended, but {', '.join(f'`{name}`' for name in others)} would not know the "
            "new items; export without them, or train anew on a table of items that has the new ones"
        )
    if config.target.absolute().resolve() == config.bundle.absolute().resolve():
        raise InputError(
            f"`folder` must not be the bundle itself, which stays as it is, got `{config.target}`; name "
            "another"
        )
    if config.target.exists() and not (config.target / MANIFEST).is_file():
        raise InputError(
            f"`folder={config.target}` must be a new folder or an earlier bundle, which is replaced; found "
            "something else there; name another"
        )


def _parts(program: Any) -> list[Any]:
    """The models in a file, the retrieval model first."""
    return [program.retrieval, program.ranking] if hasattr(program, "ranking") else [program]


def _item_features(manifest: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The features of items that a model reads."""
    parts = manifest["stages"].values() if "stages" in manifest else [manifest]
    return [f for part in parts for f in part["features"] if f["role"] == "item" and f["name"] != ITEM_ID]


def _add(
    program: Any,
    table: pa.Table,
    id_fields: Sequence[str],
    config: AddItemsConfig,
    manifest: Mapping[str, Any],
) -> list[Any]:
    """Adds the items to a loaded file, in memory; their raw ids."""
    ids: list[Any] = []
    sentences = [feature for feature in _item_features(manifest) if feature["kind"] == "sentence"]
    for first in range(0, table.num_rows, _ADDED_AT_ONCE):
        part = table.slice(first, _ADDED_AT_ONCE)
        columns = {name: raw_values(part[name]) for name in part.column_names}
        for feature in sentences:
            texts = columns.get(feature["column"]) or [None] * part.num_rows
            columns.setdefault(feature["name"], _vectors(texts, feature["model"]))
        records = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        try:
            program.add_items(records)
        except torch.jit.Error as error:
            message = str(error).rpartition("ValueError: ")
            if not message[1]:
                raise
            raise InputError(
                f"`items={config.items}` (item 0 is row {first + 1}): {message[2].strip()}"
            ) from error
        ids += columns[next(field for field in id_fields if field in columns)]
    return ids


def _vectors(texts: Sequence[Any], model: str) -> list[list[float] | None]:
    """The vectors of texts by a sentence model."""
    encoder = SentenceEncoder(model, threads=os.cpu_count() or 1)
    each = progress(texts, f"encoding {len(texts):,} texts by {model}")
    return [encoder.encode([str(text)])[0].tolist() if text else None for text in each]


def _check_recorded(
    bundle: Path, program: Any, ids: Sequence[Any], *, before: Sequence[int], tolerance: float
) -> int:
    """Compares what was recorded with what a file answers now, new items excluded; how many there were.

    Requests that name one of the new items, known now and unknown then, are left out.

    Args:
        bundle: the old one.
        program: the file with the new items.
        ids: of the new items.
        before: how many items each model of the file knew without them.
        tolerance: largest difference of a number.

    Raises:
        ParityError: at the first difference.
    """
    requests, responses = read_recorded(bundle), read_json_list(bundle / RESPONSES)
    if len(requests) != len(responses):
        raise InputError(
            f"`{bundle}` is damaged: {len(requests)} requests are recorded, and {len(responses)} answers"
        )
    parts = _parts(program)
    compared = 0
    for request, expected in zip(requests, responses, strict=True):
        try:
            found = _answer_without_new(program, parts, request, ids, before=before, bundle=bundle)
            is_same = found is None or _is_same(expected, found, tolerance)
        except (RuntimeError, TypeError, ValueError, LookupError, AttributeError) as error:
            raise InputError(
                f"`{bundle}` holds a recorded request that it does not answer as recorded, or that is none: "
                f"{str(request)[:200]}: {str(error).strip()[-200:]}"
            ) from error
        compared += found is not None
        if not is_same:
            raise ParityError(
                f"the new bundle must answer as `{bundle}` where no new item is concerned; but to the "
                f"request {request} it answers {found}, recorded was {expected}; nothing was written"
            )
    return compared


def _answer_without_new(
    program: Any,
    parts: Sequence[Any],
    request: Record,
    ids: Sequence[Any],
    *,
    before: Sequence[int],
    bundle: Path,
) -> Any:
    """The answer to a recorded request, new items excluded; None where it names one of them."""
    arguments = request["arguments"]
    named = [*_items_in(arguments)]
    if any(
        bool((part.known.rows_of_items(named) > known).any())
        for part, known in zip(parts, before, strict=True)
    ):
        return None
    if request["method"].endswith("recommend"):
        arguments = {**arguments, "exclude": [*(arguments.get("exclude") or []), *ids]}
    return answer_of(program, {**request, "arguments": arguments}, bundle)


def _items_in(arguments: Mapping[str, Any]) -> Iterator[Any]:
    """The ids of items in a recorded request."""
    for name in (HISTORY, "exclude", "item_ids"):
        yield from arguments.get(name) or []
    for history in arguments.get("histories", []):
        yield from history
    for row in [*arguments.get("rows", []), arguments.get("item", {})]:
        yield from row.get(HISTORY) or []
        yield row.get(ITEM_ID)


def _is_same(expected: Any, found: Any, tolerance: float) -> bool:
    if isinstance(expected, dict):
        ids, scores = list(expected)[:2]
        lists = [(answer[ids], answer[scores]) for answer in (expected, found)]
        return first_difference(*lists, tolerance=tolerance) is None
    pair = torch.tensor(expected), torch.tensor(found)
    return pair[0].shape == pair[1].shape and torch.allclose(*pair, rtol=tolerance, atol=tolerance)


def _about(item_id: Any, task: str) -> Record:
    """A recorded request that only a file which knows this item answers as recorded."""
    if task == "ranking":
        return {"method": "predict", "arguments": {"rows": [{ITEM_ID: item_id}]}}
    prefix = "retrieval." if task == "two_stage" else ""
    return {"method": f"{prefix}encode_item", "arguments": {"item": {ITEM_ID: item_id}}}


def _counts(manifest: Mapping[str, Any], program: Any) -> dict[str, Any]:
    """Returns the manifest's entries on the catalogue of each model, as it is now."""
    parts = _parts(program)
    if "stages" not in manifest:
        return {"catalogue": {**manifest["catalogue"], "items": _num_items(program)}}
    stages = {
        name: {**stage, "catalogue": {**stage["catalogue"], "items": _num_items(part)}}
        for (name, stage), part in zip(manifest["stages"].items(), parts, strict=True)
    }
    return {"catalogue": describe_catalogue(program), "stages": stages}


def _num_items(part: Any) -> int:
    return int(part.known.histories.item_id_rows.numel()) - 1
