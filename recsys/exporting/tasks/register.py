"""Finds the export of a model by its task, and does what is done alike for either."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from recsys.data.tasks import Task
from recsys.exporting.build import ProgramParts
from recsys.exporting.gate.parity import Parity
from recsys.exporting.gate.recorded import RecordedRequests, Recorder
from recsys.exporting.gate.sentences import check_sentences
from recsys.exporting.options import ExportOptions, TableType
from recsys.exporting.stage import Stage
from recsys.exporting.tasks.ranking import RankingExport
from recsys.exporting.tasks.retrieval import RetrievalExport

TaskExport = RetrievalExport | RankingExport
TASKS: Mapping[Task, TaskExport] = {"retrieval": RetrievalExport(), "ranking": RankingExport()}


def task_of(stage: Stage) -> TaskExport:
    """The export of a stage's model.

    Raises:
        TypeError: the model is neither a retrieval nor a ranking model.
    """
    return TASKS[stage.task]


def build_program(stage: Stage, tables: TableType = "float32") -> nn.Module:
    """The module of raw values in, answers out, that holds the model's weights and the dataset's encodings.

    Args:
        stage: the trained model, which is not changed, and its dataset.
        tables: how embedding tables are stored.

    Raises:
        TypeError: the model is neither a retrieval nor a ranking model.
    """
    return task_of(stage).program(ProgramParts(stage, tables))


def check_stage(
    program: Any, recorder: Recorder, asked: list[RecordedRequests], options: ExportOptions
) -> Parity:
    """Compares what a file of one model, or one stage of a file, answers with the trained model.

    Args:
        program: the file or the stage of it, loaded again.
        recorder: of the trained model and its dataset.
        asked: recorded requests.
        options: of `export.`.

    Raises:
        ParityError: at the first difference.
    """
    check_sentences(recorder.dataset)
    return task_of(recorder.stage).check(program, recorder, asked, options)
