"""Two trained models -> the module of a two-stage recommender, for prepared datasets of the same raw tables.

The datasets may be split otherwise and hold other features: users and items are matched by raw id.
"""

from __future__ import annotations

import torch

from recsys.exporting.options import ExportOptions
from recsys.exporting.program.ranking import RankingProgram
from recsys.exporting.program.retrieval import RetrievalProgram
from recsys.exporting.program.two_stage import TwoStageProgram
from recsys.exporting.stage import Stage
from recsys.models.protocols import RankingModel, RetrievalModel
from recsys.schema.errors import InputError
from recsys.schema.feature_kinds import Role
from recsys.schema.features import ITEM_ID, USER_ID
from recsys.schema.tables import TIMESTAMP


def check_stages(retrieval: Stage, ranking: Stage) -> None:
    """Raises where two runs can't work together.

    Raises:
        ValueError: a model is for another task, or the runs read different raw tables.
    """
    for key, stage, kind, task in (
        ("run", retrieval, RetrievalModel, "retrieval"),
        ("ranker", ranking, RankingModel, "ranking"),
    ):
        if not isinstance(stage.model, kind):
            raise InputError(
                f"`{key}` must name a run of a {task} model when two models are exported together, got one "
                f"of {type(stage.model).__name__}; as in `python export.py run=RETRIEVAL ranker=RANKING`"
            )
    units = [stage.dataset.manifest["timestamp"]["unit"] for stage in (retrieval, ranking)]
    if retrieval.dataset.has_timestamps and ranking.dataset.has_timestamps and units[0] != units[1]:
        raise InputError(
            "`run` and `ranker` must read timestamps alike, for requests bring one; found "
            f"{' and '.join(str(unit or 'text') for unit in units)}; prepare both from the same raw tables"
        )


def join_programs(
    retrieval: Stage,
    ranking: Stage,
    first: RetrievalProgram,
    second: RankingProgram,
    *,
    options: ExportOptions,
) -> TwoStageProgram:
    """The module of raw values in, ranked raw item ids out.

    Args:
        retrieval: the first stage.
        ranking: the second stage.
        first: the program of the first stage.
        second: the program of the second.
        options: of `export.`.

    Raises:
        InputError: the ranking model knows none of the items.
    """
    ids = retrieval.dataset.item_ids[1:].tolist()
    ranker_rows = torch.cat([torch.zeros(1, dtype=torch.int64), second.known.rows_of_items(ids)])
    if not bool((ranker_rows > 0).any()):
        raise InputError(
            f"`ranker` must know items of the catalogue of `run`, but of {len(ids)} item ids (as {ids[0]!r}) "
            "it knows none; train both from the same raw tables"
        )
    return TwoStageProgram(
        first,
        second,
        ranker_rows=ranker_rows,
        fields=(
            names_for_ranker(retrieval, ranking, "user"),
            names_for_ranker(retrieval, ranking, "context"),
            names_for_ranker(retrieval, ranking, "item"),
        ),
        num_candidates=options.num_candidates,
        diversity=options.diversity,
    )


def names_for_ranker(retrieval: Stage, ranking: Stage, role: Role) -> dict[str, str]:
    """Returns the ranking model's names for fields of users, contexts or items, where they are other names.

    In its rows a column of several tables goes by table and name; in a record of one table it does not.
    """
    theirs, flat = ranking.fields(flat=False), ranking.fields(flat=True)
    names = {
        theirs.columns[role][column]: field
        for column, field in flat.columns[role].items()
        if theirs.columns[role][column] != field
    }
    ours = retrieval.fields(flat=False)
    key, aliases, known = {
        "user": (USER_ID, ours.user_id, flat.user_id),
        "item": (ITEM_ID, ours.item_id, flat.item_id),
    }.get(role, (TIMESTAMP, ours.timestamp, flat.timestamp))
    taken = set(flat.columns[role].values()) | set(names)
    return names | {alias: key for alias in aliases if alias not in known and alias not in taken}
