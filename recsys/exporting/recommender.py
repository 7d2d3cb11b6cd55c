"""export_two_stage: a retrieval model and a ranking model -> one bundle that recommends in two stages.

A newcomer's whole program, in a Python that has torch and nothing else:

    import torch

    model = torch.jit.load("bundle/recommender.pt")
    user = {"user_id": 196, "age": 49}  # columns of the users' table; of a known user the id is enough
    history = [242, 257, 111]  # ids of what the user liked, oldest first; [] when there is nothing
    context = {"timestamp": 881251577}  # columns of the interactions' table; may be left out
    ids, probabilities, scores, sources = model.recommend(user, history, 10, context)
    for item_id, probability, source in zip(ids, probabilities, sources):
        print(item_id, round(probability, 3), source)

What `recsys.exporting.bundle` says of requests holds here too. `model.retrieval` and `model.ranking` are the
two stages, with every method that bundles of one model have.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recsys.exporting.bundle import (
    check_part,
    describe_parity,
    describe_part,
    load_scripted,
    recorder_of,
    requests_of,
    save_scripted,
    versions,
)
from recsys.exporting.compiled import package_of
from recsys.exporting.gate.compiled import PackageGate
from recsys.exporting.gate.composed import RECOMMENDER_FILE, ask_both, check_two_stage
from recsys.exporting.gate.parity import Parity
from recsys.exporting.gate.recorded import Record
from recsys.exporting.gate.replay import check_in_fresh_process, of_stage, record, two_stage_requests
from recsys.exporting.index import check_index, ship_index
from recsys.exporting.options import ExportOptions
from recsys.exporting.program.two_stage import TwoStageProgram
from recsys.exporting.rounding import describe_rounding, with_rounded_tables
from recsys.exporting.signature import two_stage_signature
from recsys.exporting.stages import Stage, build_two_stage
from recsys.schema.manifest import writing_station
from recsys.schema.requests import RequestLimits
from recsys.schema.signing import SIGNED, sign

LOGGER = logging.getLogger(__name__)


def export_two_stage(
    retrieval: Stage,
    ranking: Stage,
    folder: Path,
    *,
    options: ExportOptions | None = None,
    config: Mapping[str, Any] | None = None,
    source: str | None = None,
) -> Path:
    """Writes the bundle of two trained models to `folder`, after it has given their answers on test rows.

    Each stage is checked as in a bundle of its own, then both together (`recsys.exporting.gate.composed`).

    Args:
        retrieval: the first stage, trained; it is put into eval mode.
        ranking: the second, the same.
        folder: of the bundle; one that is there is replaced when all is well.
        options: of `export.`.
        config: the composed configuration.
        source: fingerprint of the retrieval model's run.

    Returns:
        `folder`.

    Raises:
        ParityError: the file answers otherwise than the models, or needs more than torch; nothing is written.
        ValueError: the two can't work together, a model does not compile, there is nothing to check them on,
            or the index can't be had.
    """
    options = options or ExportOptions()
    check_index(options, has_catalogue=True)
    trained = {"retrieval": retrieval, "ranking": ranking}
    stages = {
        name: dataclasses.replace(one, model=with_rounded_tables(one.model.eval(), options.quantize))
        for name, one in trained.items()
    }
    with writing_station(folder, "bundle", config=config or {}, source=source) as (temporary, extra):
        file = temporary / RECOMMENDER_FILE
        built = build_two_stage(stages["retrieval"], stages["ranking"], options)
        packages = {
            name: package_of(getattr(built, name), stage.model, stage.dataset.schema)
            for name, stage in stages.items()
            if options.format == "aoti"
        }
        save_scripted(built, file)
        program = load_scripted(file)
        requests: list[Record] = []
        parities = {}
        for name, stage in stages.items():
            recorder = recorder_of(
                stage.model, stage.dataset, file=RECOMMENDER_FILE, history_length=stage.history_length
            )
            asked = recorder.ask(options.parity_rows)
            part = getattr(program, name)
            LOGGER.info("the %s model in `%s` is compared with the trained one", name, RECOMMENDER_FILE)
            parities[name] = check_part(stage.model, part, recorder, asked, options)
            asked_again = requests_of(recorder, asked, options)
            if name in packages:
                gate = PackageGate(packages[name], temporary, stage.model, part, recorder, options.tolerance)
                asked_again += gate.passed(asked, extra, options)
            requests += of_stage(name, asked_again)
            if name == "retrieval":
                extra["index"] = ship_index(
                    program.retrieval, asked[0], temporary, options, k=options.num_candidates
                )
        LOGGER.info("both models together are compared with the trained ones")
        both = ask_both(*stages.values(), num_rows=options.parity_rows)
        parities["two_stage"] = check_two_stage(
            stages["retrieval"], stages["ranking"], program, both, options
        )
        own = two_stage_requests(
            [one.queries() for one in both], number=options.recorded_requests, k=options.k
        )
        record(program, [*own, *requests], temporary)
        check_in_fresh_process(file, tolerance=options.tolerance)
        extra.update(_manifest(stages, built, parities, options))
        for name, one in trained.items():
            extra["stages"][name]["quantize"] = describe_rounding(
                one.model,
                stages[name].model,
                one.dataset,
                options.quantize,
                history_length=one.history_length,
                seen=one.seen,
            )
        if options.sign is not None:
            extra[SIGNED] = sign(temporary, {**extra, "config": config or {}}, options.sign)
    return folder


def _manifest(
    stages: Mapping[str, Stage],
    program: TwoStageProgram,
    parities: Mapping[str, Parity],
    options: ExportOptions,
) -> dict[str, Any]:
    parts = {
        name: {
            **describe_part(stage.model, stage.dataset, history_length=stage.history_length),
            "run": dict(stage.run),
            "parity": describe_parity(parities[name], options),
        }
        for name, stage in stages.items()
    }
    num_known = int((program.ranker_rows > 0).sum())
    num_items = stages["retrieval"].num_items
    return {
        "task": "two_stage",
        "file": RECOMMENDER_FILE,
        "signature": two_stage_signature(
            *(stage.dataset for stage in stages.values()),
            history_lengths=[stage.history_length for stage in stages.values()],
            defaults={"num_candidates": options.num_candidates, "diversity": options.diversity},
        ),
        "catalogue": {
            "items": num_items,
            "known_to_ranking_model": num_known,
            "unknown_to_ranking_model": num_items - num_known,
        },
        "num_candidates": options.num_candidates,
        "diversity": options.diversity,
        "seen": stages["retrieval"].seen,
        "stages": parts,
        "licence": "; ".join(dict.fromkeys(part["licence"] for part in parts.values())),
        "limits": dataclasses.asdict(RequestLimits()),
        "versions": versions(),
        "parity": describe_parity(parities["two_stage"], options),
    }
