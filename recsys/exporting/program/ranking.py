"""RankingProgram: what becomes `ranking.pt`; raw rows in, probabilities out.

Legend: B rows, N candidates of one request.
"""
# ruff: noqa: UP006, UP035, UP045 (scripted)
# mypy: allow-untyped-calls, no-warn-return-any

from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
from torch import nn

from recsys.exporting.fields import TABLE_OF_ROLE
from recsys.exporting.program.inputs import Network
from recsys.exporting.program.known import Known, empty_records, first_of, renamed, unread
from recsys.exporting.program.statistics import Statistics
from recsys.exporting.program.tensors import PackageTensors
from recsys.exporting.program.types import Bag, Features, Record, Records, Rows
from recsys.exporting.program.values import elements, is_list
from recsys.schema.labels import AuxiliaryLabel


class RankingProgram(nn.Module):
    """Scores rows of user, item and context.

    Args:
        known: users and items by raw id.
        network: the head behind its inputs.
        statistics: what was observed; nothing where no feature is a statistic.
        read_fields: fields that a row may hold to some effect.
        ambiguous: columns that several tables have; a row must name the table too, as in `users.city`.
        labels: the auxiliary labels that the network has heads for.
    """

    read_fields: List[str]
    ambiguous: List[str]
    item_names: Dict[str, str]
    heads: List[str]
    head_kinds: List[str]
    head_means: List[float]
    head_stds: List[float]

    def __init__(
        self,
        known: Known,
        *,
        network: Network,
        statistics: Statistics,
        read_fields: List[str],
        ambiguous: List[str],
        labels: Sequence[AuxiliaryLabel] = (),
    ) -> None:
        super().__init__()
        self.known = known
        self.network = network
        self.statistics = statistics
        self.read_fields = read_fields
        self.ambiguous = ambiguous
        # Of a new item nothing but the table of items is given: its columns may go by their own names.
        qualified = {name: f"{TABLE_OF_ROLE['item']}.{name}" for name in ambiguous}
        self.item_names = {name: field for name, field in qualified.items() if field in read_fields}
        self.heads = [label.name for label in labels]
        self.head_kinds = ["log" if label.transform == "log" else label.kind for label in labels]
        self.head_means = [label.mean for label in labels]
        self.head_stds = [label.std for label in labels]
        self.package = PackageTensors(None, has_requests=True)

    def forward(self, rows: List[Record]) -> torch.Tensor:
        """Probabilities [B] that each row is a positive; see `predict`."""
        bags, dense = self.features(rows)
        return torch.sigmoid(self.main_logits(bags, dense))

    @torch.jit.export
    def predict(self, rows: List[Record]) -> torch.Tensor:
        """Probabilities [B] that each row is a positive.

        Args:
            rows: fields of the users', the items' and the interactions' tables; of a known user or item the
                id is enough. `history` may hold the raw ids of the items the user liked before, oldest first.
        """
        return self.forward(rows)

    @torch.jit.export
    def predict_heads(self, rows: List[Record]) -> Dict[str, torch.Tensor]:
        """Predicts by every head [B]: probabilities, and numbers as they stand in the raw table.

        `main` is what `predict` gives; the others are the auxiliary labels that the model was trained with.
        """
        bags, dense = self.features(rows)
        outputs = self.network(bags, dense)
        if outputs.dim() == 1:
            return {"main": torch.sigmoid(outputs)}
        answers = {"main": torch.sigmoid(outputs[:, 0])}
        for position, name in enumerate(self.heads):
            answers[name] = answer_of(
                outputs[:, position + 1],
                self.head_kinds[position],
                self.head_means[position],
                self.head_stds[position],
            )
        return answers

    @torch.jit.export
    def predict_items(
        self, user: Record, item_ids: List[Any], history: List[Any], context: Optional[Record] = None
    ) -> torch.Tensor:
        """Probabilities [N] of many items for one user, whose features are read once.

        Args:
            user: fields of the user.
            item_ids: raw ids.
            history: raw ids of the items the user liked, oldest first.
            context: fields of the request.
        """
        given = empty_records(1)[0] if context is None else context
        self._check_unambiguous([user, given])
        rows = self.known.rows_of_items(item_ids)
        return torch.sigmoid(self.candidate_logits(user, given, history, rows, item_ids))

    @torch.jit.export
    def prepare_items(self, most_bytes: int) -> int:
        """Embeds all items at once, which makes ranking candidates quicker; the bytes that it takes.

        Args:
            most_bytes: nothing is prepared where it were more.
        """
        return self.network.inputs.prepare_items(self.known.histories.item_id_rows.size(0), most_bytes)

    @torch.jit.export
    def inputs_of_rows(self, rows: List[Record]) -> List[torch.Tensor]:
        """Makes the tensors that a compiled package takes for `predict`."""
        bags, dense = self.features(rows)
        return self.package(bags, dense)

    @torch.jit.export
    def inputs_of_items(
        self, user: Record, item_ids: List[Any], history: List[Any], context: Optional[Record] = None
    ) -> List[torch.Tensor]:
        """Makes the tensors that a compiled package takes for `predict_items`."""
        given = empty_records(1)[0] if context is None else context
        self._check_unambiguous([user, given])
        rows = self.known.rows_of_items(item_ids)
        bags, dense = self.candidate_features(user, given, history, rows, item_ids)
        return self.package(bags, dense)

    @torch.jit.export
    def observe(self, rows: List[Record]) -> None:
        """Counts events in the statistics, so that later requests see them; not safe among threads.

        Args:
            rows: as of `predict`, each with the ids of its user and item, its timestamp (where the data have
                timestamps) and, where the data have a label, `label`; in the order of time. One that is
                earlier than the latest of its key counts as of that instant.
        """
        self._check_unambiguous(rows)
        user_ids = first_of(rows, self.known.user_fields)
        item_ids = first_of(rows, self.known.item_fields)
        # All that can be refused is read first: `columns` gives new ids their numbers.
        times, labels = self.statistics.times(rows, True), self.statistics.labels(rows)
        places = self._rows_of(rows, self.known.rows_of_items(item_ids))
        columns = self.statistics.columns(_of_each_role(rows), places, user_ids, item_ids, True)
        self.statistics.add(columns, times, labels)

    @torch.jit.export
    def add_items(self, items: List[Record]) -> int:
        """Has the content of new items known by their id from now on.

        Their id is read as an unknown one. Statistics of them begin with what was observed of the id, mostly
        nothing, and go on by `observe`. `torch.jit.save` keeps them. Not safe among threads.

        Args:
            items: fields of the items' table, each with an id that is not known yet; what is missing is
                answered as in `predict`. Where one can't be read, none is added.

        Returns:
            How many were added.
        """
        ids, features, keys = self.read_new_items(items)
        self.keep_new_items(ids, features, keys)
        return len(ids)

    @torch.jit.export
    def unread_fields(self, row: Record) -> List[str]:
        """Fields of a row that no feature reads, to find mistyped names; elsewhere they do nothing.

        Args:
            row: any.
        """
        return unread(row, self.read_fields)

    def main_logits(self, bags: Dict[str, Bag], dense: torch.Tensor) -> torch.Tensor:
        """Logits [B] of the label."""
        return _main(self.network(bags, dense))

    def features(self, rows: List[Record]) -> Features:
        """Reads rows."""
        self._check_unambiguous(rows)
        histories: List[List[Any]] = []
        for row in rows:
            history: List[Any] = []
            if "history" in row:
                history = _as_history(row["history"])
            histories.append(history)
        item_ids = first_of(rows, self.known.item_fields)
        places = self._rows_of(rows, self.known.rows_of_items(item_ids))
        records = self._with_statistics(_of_each_role(rows), places, item_ids)
        return self._features_of(records, places, self.known.history_rows(histories))

    def candidate_logits(
        self,
        user: Record,
        context: Record,
        history: List[Any],
        item_rows: torch.Tensor,
        item_ids: List[Any],
    ) -> torch.Tensor:
        """Logits [N] of items of the catalogue for one user; see `candidate_features`."""
        if self.network.inputs.of_items.numel() == 0:
            bags, dense = self.candidate_features(user, context, history, item_rows, item_ids)
            return self.main_logits(bags, dense)
        records, places = self._candidates(user, context, item_rows, item_ids)
        past = self.known.history_rows([history])
        embedded, dense = self.network.inputs.embed_candidates(
            records, places, self.known.histories(past[0], past[1])
        )
        return _main(self.network.head.forward(embedded, dense))

    def candidate_features(
        self,
        user: Record,
        context: Record,
        history: List[Any],
        item_rows: torch.Tensor,
        item_ids: List[Any],
    ) -> Features:
        """Reads items of the catalogue for one user, whose bags stand for all.

        Args:
            user: as of `predict_items`.
            context: the same.
            history: the same.
            item_rows: [N] of the catalogue.
            item_ids: their raw ids; only statistics need them.
        """
        records, places = self._candidates(user, context, item_rows, item_ids)
        return self._features_of(records, places, self.known.history_rows([history]))

    def _candidates(
        self, user: Record, context: Record, item_rows: torch.Tensor, item_ids: List[Any]
    ) -> Tuple[Records, Rows]:
        """Records and rows of items for one user. Of items nothing is given: all is looked up at once."""
        records = {"user": [user], "context": [context], "pair": empty_records(1), "item": empty_records(0)}
        places = self._rows_of([user], item_rows)
        return self._with_statistics(records, places, item_ids), places

    def _features_of(self, records: Records, rows: Rows, history: Bag) -> Features:
        """Reads records, and histories as rows and lengths."""
        bags, dense = self.network.inputs.read(records, rows, rows["item"].numel())
        bags["history"] = self.known.histories(history[0], history[1])
        return bags, dense

    def read_new_items(self, items: List[Record]) -> Tuple[List[Any], Features, Dict[str, Bag]]:
        """Ids, features and what makes keys of statistics, of new items; raises where they can't be read."""
        named = [renamed(item, self.item_names) for item in items]
        ids = first_of(named, self.known.item_fields)
        self.known.items.check_new(ids)
        records = _of_each_role(empty_records(len(ids)))
        records["item"] = named
        row_0 = torch.zeros(len(ids), dtype=torch.int64)
        rows = {"user": row_0, "context": row_0, "pair": row_0, "item": row_0}
        features = self.network.inputs.read(records, rows, len(ids))
        return ids, features, self.statistics.attributes.bags(records, rows)

    def keep_new_items(self, ids: List[Any], features: Features, keys: Dict[str, Bag]) -> None:
        """Stores what was read of new items."""
        if len(ids) == 0:
            return
        bags, dense = features
        self.network.inputs.append("item", bags, dense)
        self.statistics.attributes.append("item", keys, torch.zeros(len(ids), 0))
        self.known.add_items(ids)

    def _rows_of(self, users: List[Record], item_rows: torch.Tensor) -> Rows:
        """Where users and items stand, by role."""
        user_rows = self.known.user_rows(users)
        return {
            "user": user_rows,
            "context": torch.zeros_like(user_rows),
            "pair": torch.zeros_like(item_rows),
            "item": item_rows,
        }

    def _with_statistics(self, records: Records, rows: Rows, item_ids: List[Any]) -> Records:
        """The records with every statistic that they do not hold."""
        if len(self.statistics.fields) == 0:
            return records
        user_ids, size = first_of(records["user"], self.known.user_fields), len(item_ids)
        columns = self.statistics.columns(records, rows, user_ids, item_ids, False)
        times = self.statistics.times(records["context"], False)
        pair_times = [times[min(row, len(times) - 1)] for row in range(size)]
        completed = records.copy()
        completed["context"] = self.statistics(records["context"], columns, times, False)
        completed["pair"] = self.statistics(records["pair"], columns, pair_times, True)
        return completed

    def _check_unambiguous(self, records: List[Record]) -> None:
        """Raises when one holds a column that several tables have, without naming the table."""
        for record in records:
            for name in self.ambiguous:
                if name in record:
                    raise ValueError(
                        f"`{name}` is a column of several tables; name the table, as in `users.{name}` or "
                        f"`items.{name}`"
                    )


def _main(outputs: torch.Tensor) -> torch.Tensor:
    """Logits [B] of the label among the outputs of a network."""
    return outputs if outputs.dim() == 1 else outputs[:, 0]


def _of_each_role(rows: List[Record]) -> Records:
    """The records of each role where every row holds those of all."""
    return {"user": rows, "context": rows, "pair": rows, "item": rows}


def answer_of(values: torch.Tensor, kind: str, mean: float, std: float) -> torch.Tensor:
    """Turns the outputs [B] of a head into probabilities, or numbers as in the raw table."""
    if kind == "binary":
        return torch.sigmoid(values)
    numbers = mean + std * values
    return torch.expm1(numbers) if kind == "log" else numbers


def _as_history(value: Any) -> List[Any]:
    """The item ids of a history held in a row."""
    if not is_list(value) and (isinstance(value, int) or not torch.jit.isinstance(value, Optional[int])):
        raise ValueError("`history` must be a list of item ids or None")
    return elements(value)
