"""RankingExport: makes, describes and checks the program of a ranking model.

Legend: B rows, H heads, N items.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import nn

from recsys.data.events import Events
from recsys.exporting.build import ProgramParts, frozen, trained
from recsys.exporting.compiled import EmbeddedTensors, Package, TensorOf, entries_of, tensors_of
from recsys.exporting.gate.differences import Comparison
from recsys.exporting.gate.observing import check_observing
from recsys.exporting.gate.parity import Parity
from recsys.exporting.gate.recorded import Call, Record, RecordedRequests, Recorder
from recsys.exporting.gate.replay import request_to
from recsys.exporting.observed import Log
from recsys.exporting.options import ExportOptions
from recsys.exporting.program.inputs import Network
from recsys.exporting.program.ranking import RankingProgram, answer_of
from recsys.exporting.program.tensors import PackageTensors
from recsys.exporting.signature import history_of, methods_of, records_of
from recsys.exporting.stage import Stage
from recsys.metrics.classification import auc, log_loss
from recsys.models.protocols import MultiTaskModel, RankingModel
from recsys.schema.features import ALL_ROLES, HISTORY
from recsys.schema.labels import MAIN, AuxiliaryLabel

_ASKED_AT_ONCE = 1024
# Items of one request to a package.
_FEW_ITEMS = 200


class RankingExport:
    """Exports a model that scores rows."""

    has_catalogue = False

    def program(self, parts: ProgramParts) -> RankingProgram:
        """The module of raw values in, probabilities out."""
        stage = parts.stage
        model = cast(RankingModel, stage.model)
        log = Log.read(stage.dataset) if stage.dataset.schema.statistics else None
        return RankingProgram(
            parts.known(),
            network=Network(parts.inputs(ALL_ROLES), trained(model.head)),
            statistics=parts.statistics(log),
            read_fields=[*parts.fields.read(stage.dataset.schema), HISTORY],
            ambiguous=parts.fields.ambiguous,
            labels=_labels(model),
        )

    def package(self, program: Any, stage: Stage) -> Package:
        """The head, to be compiled; from now on the program, not yet scripted, makes its tensors."""
        inputs = program.network.inputs
        entries = entries_of(inputs, stage.dataset.schema)
        program.package = PackageTensors(entries, has_requests=True)
        heads = ["main", *program.heads]
        return Package(
            "ranking.pt2",
            _RankingArithmetic(
                EmbeddedTensors(inputs, entries, stage.dataset.schema, has_requests=True),
                program,
                frozen(cast(RankingModel, stage.model).head),
            ),
            [
                TensorOf("dense", "float32", ("rows", len(inputs.dense))),
                TensorOf("request", "int64", ("rows",)),
                *tensors_of(entries, "rows"),
            ],
            TensorOf(", ".join(heads), "float32", ("rows", len(heads)) if program.heads else ("rows",)),
            ("inputs_of_rows", "inputs_of_items"),
        )

    def signature(self, stage: Stage) -> dict[str, Any]:
        """Methods, and the fields of rows."""
        methods = methods_of(RankingProgram, stage)
        methods["predict_heads"]["heads"] = {MAIN: "probability that the row is a positive"} | {
            label.name: "probability"
            if label.kind == "binary"
            else f"number, as in the column `{label.column}`"
            for label in _labels(stage.model)
        }
        records = records_of(stage)
        row = {name: field for role in ALL_ROLES for name, field in records[role].items()}
        return {"methods": methods, "row": row | {HISTORY: history_of(stage)}}

    @torch.no_grad()
    def check(
        self, program: Any, recorder: Recorder, asked: list[RecordedRequests], options: ExportOptions
    ) -> Parity:
        """Probabilities, the outputs of all heads, and statistics as they are observed."""
        model = cast(RankingModel, recorder.stage.model)
        largest = 0.0
        for requests in asked:
            rows = requests.rows()
            features = program.features(rows)
            comparison = Comparison(
                *(recorder, requests.name, rows, requests.batch, program.network.inputs, features, ALL_ROLES)
            )
            comparison.check_inputs()
            answers = [(torch.sigmoid(model.forward(requests.batch)), program.predict(rows))]
            if isinstance(model, MultiTaskModel):
                answers.append((model.every_head(requests.batch), program.network(*features)))
            for expected, found in answers:
                largest = max(largest, comparison.check_scores(expected, found, tolerance=options.tolerance))
        if recorder.dataset.schema.statistics:
            check_observing(program, recorder.stage, num_rows=options.parity_rows)
        return Parity(sum(map(len, asked)), largest)

    def requests(self, asked: list[RecordedRequests], options: ExportOptions) -> list[Record]:
        """Probabilities; the rows of one way of asking in one request."""
        each = -(-options.recorded_requests // len(asked))
        return [request_to("predict", rows=requests.rows()[:each]) for requests in asked]

    def package_call(self, requests: RecordedRequests, rows: slice) -> Call:
        """Tensors of rows."""
        return "inputs_of_rows", {"rows": requests.rows()[rows]}

    def item_calls(self, recorder: Recorder, requests: RecordedRequests, row: int) -> list[Call]:
        """Tensors of items of the catalogue, evenly spaced."""
        ids = recorder.dataset.item_ids[1:]
        at = np.linspace(0, len(ids) - 1, min(_FEW_ITEMS, len(ids))).astype(int)
        arguments = {
            "user": requests.users[row],
            "item_ids": ids[at].tolist(),
            HISTORY: requests.histories[row],
            "context": requests.contexts[row],
        }
        return [("inputs_of_items", arguments)]

    @torch.no_grad()
    def metrics_on_test(self, stage: Stage) -> dict[str, float]:
        """Log loss, and AUC where there are both classes."""
        model, dataset = cast(RankingModel, stage.model), stage.dataset
        events = Events.from_arrow(dataset.split_table("test"), dataset.schema)
        if not len(events):
            return {}
        collator, histories = dataset.collator(stage.history_length), dataset.histories("test")
        parts = []
        for positions in torch.split(torch.arange(len(events)), _ASKED_AT_ONCE):
            rows = events.select(positions)
            batch = collator.rows(rows, histories.before(rows))
            parts.append(torch.sigmoid(model.forward(batch).double()))
        labels, probabilities = events.positives.numpy(), torch.cat(parts).numpy()
        metrics = {"log_loss": log_loss(labels, probabilities)}
        return metrics | ({"auc": auc(labels, probabilities)} if 0 < labels.mean() < 1 else {})


def _labels(model: Any) -> tuple[AuxiliaryLabel, ...]:
    """Labels beside the main one."""
    return model.labels if isinstance(model, MultiTaskModel) else ()


class _RankingArithmetic(nn.Module):
    """Tensors -> probabilities [B], or with auxiliary labels [B, 1 + H] as `predict_heads` has them."""

    def __init__(self, embedded: EmbeddedTensors, program: RankingProgram, head: nn.Module) -> None:
        super().__init__()
        self.embedded = embedded
        self.head = head
        heads = zip(program.head_kinds, program.head_means, program.head_stds, strict=True)
        self.heads = [("binary", 0.0, 1.0), *heads]

    def forward(self, tensors: list[torch.Tensor]) -> torch.Tensor:
        """Answers for B rows."""
        return self.answers(self.head(self.embedded(tensors), tensors[0]))

    def answers(self, outputs: torch.Tensor) -> torch.Tensor:
        """Turns the outputs of the head into probabilities and numbers."""
        if outputs.dim() == 1:
            return torch.sigmoid(outputs)
        columns = [answer_of(outputs[:, at], *head) for at, head in enumerate(self.heads)]
        return torch.stack(columns, dim=1)
