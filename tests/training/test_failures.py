"""What goes wrong while training stops it at once, by its name, and leaves the last good checkpoint."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torchrec import KeyedJaggedTensor

from recsys.data.options import SideTable
from recsys.data.prepare import prepare
from tests.training.runs import AtStep, Case, checkpoint, differences, run
from tests.training.stopping import assert_stops_and_resumes

# `last` is written after steps 3, 6, 9 and so on, so that what happens at step 7 (from 0) leaves 6 steps.
TRAINER = dataclasses.replace(Case().trainer, checkpoint_every_steps=3, max_epochs=1)
RANKING = Case(model="wide_deep", trainer=TRAINER)
RETRIEVAL = Case(trainer=TRAINER)
NAN, INFINITE = float("nan"), float("inf")


@pytest.fixture(scope="module")
def priced(options, tmp_path_factory):
    """The same dataset, whose items have a number as well."""
    table = tmp_path_factory.mktemp("items") / "items.csv"
    lines = Path(options.items.path).read_text().splitlines()
    prices = [f"{line},{9.99 + n}" for n, line in enumerate(lines[1:])]
    table.write_text("\n".join([f"{lines[0]},price", *prices]))
    priced = dataclasses.replace(options, name="priced", items=SideTable(path=str(table)))
    prepare(priced)
    return priced


def with_trainer(case, **keys):
    return dataclasses.replace(case, trainer=dataclasses.replace(case.trainer, **keys))


def table(model, name):
    """Weights of the table `name` of a model, fused or not, sharing memory."""
    return model.state_dict()[f"tables.collection.embedding_bags.{name}.weight"]


def spoil_weight(task, batch):
    task.model.state_dict()["head.deep.layers.0.weight"][0, 0] = NAN


def spoil_user_rows(task, batch):
    table(task.model, "user_id").fill_(NAN)


def spoil_genres(task, batch):
    table(task.model, "genre").fill_(NAN)


def spoil_dense_value(task, batch):
    batch.dense = batch.dense.index_fill(0, torch.tensor([2]), NAN)


def spoil_gradient(task, batch):
    [bias] = [one for name, one in task.model.named_parameters() if name.endswith("layers.0.bias")][:1]
    bias.register_hook(lambda gradient: gradient * NAN)


@pytest.mark.parametrize("tables", ["adamw", "rowwise_adagrad"])
@pytest.mark.parametrize(
    ("act", "found"),
    [
        (
            spoil_weight,
            "weights `head.deep.layers.0.weight` are not finite, training has diverged before; lower",
        ),
        (spoil_user_rows, "table rows of `user_id` are not finite, training has diverged before; lower"),
        (spoil_dense_value, r"dense values \[0\] of the batch .* are not finite; prepare the data anew"),
    ],
)
def test_loss_that_is_no_number_stops_training(priced, tmp_path, act, found, tables):
    case = dataclasses.replace(RANKING, tables=tables)
    match = f"expected finite numbers at step 7, but the loss is nan: {found}"
    assert_stops_and_resumes(case, priced, tmp_path, act, match=match)


def test_arithmetic_that_overflows_on_finite_weights_is_told_apart(options, tmp_path):
    def enlarge(task, batch):
        task.model.head.register_forward_hook(lambda head, inputs, logits: logits * INFINITE)

    match = (
        "loss is (inf|nan): the dense values .* and the weights are finite, .*; `trainer.detect_anomaly=true`"
    )
    assert_stops_and_resumes(RANKING, options, tmp_path, enlarge, match=match)


def test_table_of_the_catalogue_that_is_not_finite_is_named(options, tmp_path):
    """No example of the batch has the row, but the softmax is over all items."""
    match = "step 7, but the loss is nan: table rows of `genre` are not finite"
    assert_stops_and_resumes(RETRIEVAL, options, tmp_path, spoil_genres, match=match)


@pytest.mark.parametrize("case", [RANKING, RETRIEVAL], ids=["ranking", "retrieval"])
def test_weights_that_are_not_finite_are_not_saved(options, tmp_path, case):
    """The loss before the update was finite: without the check, `last` would hold NaN."""
    match = (
        r"expected finite weights for the checkpoint `.*broken/checkpoints/last`, but (table rows|weights) .*"
        r"not; `.*/last` still holds the one before; lower `optimizer.learning_rate`"
    )
    assert_stops_and_resumes(case, options, tmp_path, spoil_gradient, match=match, step=8)


@pytest.mark.parametrize(
    ("case", "match"),
    [
        (
            RANKING,
            "finite `val/log_loss` after epoch 0, got nan: weights `.*` are not finite; lower `optimizer",
        ),
        (RETRIEVAL, "a score is not a number"),
    ],
    ids=["ranking", "retrieval"],
)
def test_weights_that_are_not_finite_are_never_the_best(options, tmp_path, case, match):
    num_steps = len(run(case, options, tmp_path / "whole"))
    case = with_trainer(case, checkpoint_every_steps=None)
    with pytest.raises(ValueError, match=match):
        run(case, options, tmp_path / "broken", watchers=[AtStep(num_steps - 1, spoil_gradient)])
    assert not list(tmp_path.glob("broken/checkpoints/*"))


def test_validation_metric_that_is_no_number_stops_training(options, tmp_path):
    """Nothing is better than NaN, nor worse: the first epoch would stay the best for ever."""

    def spoil_validation(task, batch):
        task.model.register_forward_hook(
            lambda model, inputs, logits: logits if model.training else logits * NAN
        )

    case = with_trainer(RANKING, max_epochs=2, checkpoint_every_steps=None)
    num_steps = len(run(case, options, tmp_path / "whole"))
    match = "expected a finite `val/log_loss` after epoch 1, got nan: the weights are finite"
    with pytest.raises(ValueError, match=match):
        run(case, options, tmp_path / "broken", watchers=[AtStep(num_steps // 2 + 1, spoil_validation)])
    for name in ("last", "best"):
        assert checkpoint(tmp_path / "broken", name)["epoch"] == 0
    run(case, options, tmp_path / "broken", resume=True)
    for name in ("last", "best"):
        assert differences(checkpoint(tmp_path / "whole", name), checkpoint(tmp_path / "broken", name)) == []


class _Steep(torch.autograd.Function):
    """Zeros, the gradient of which is infinite."""

    @staticmethod
    def forward(ctx, values):
        return torch.zeros_like(values)

    @staticmethod
    def backward(ctx, gradient):
        return torch.full_like(gradient, INFINITE)


def spoil_feature(task, batch):
    """What comes out of the tables stays as it is; what goes back into one of them is infinite."""

    def steepen(tables, ids, embedded):
        return {**embedded, "user_id": embedded["user_id"] + _Steep.apply(embedded["user_id"])}

    task.model.tables.register_forward_hook(steepen)


def spoil_operation(task, batch):
    """The root of 0 is 0, its slope infinite, and 0 times that is no number."""
    task.model.head.register_forward_hook(lambda head, inputs, logits: logits + (logits * 0).sqrt())


@pytest.mark.parametrize("tables", ["adamw", pytest.param("rowwise_adagrad", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("act", "match"),
    [
        (
            spoil_user_rows,
            r"the embedding of feature `user_id` has none for 64 of 64 examples \(the first: 0\)",
        ),
        (spoil_feature, r"the gradient of feature `user_id` has none for 64 of 64 examples \(the first: 0\)"),
        (spoil_operation, "the gradient of `MulBackward0` is nan: the warning above shows where .*; lower"),
    ],
)
@pytest.mark.filterwarnings("ignore:(?s)Error detected in MulBackward0.*:UserWarning")
def test_detect_anomaly_names_where_numbers_cease_to_be_finite(options, tmp_path, act, match, tables):
    """The last two are seen in the backward pass alone, before a fused table has taken them up."""
    case = dataclasses.replace(with_trainer(RANKING, detect_anomaly=True), tables=tables)
    assert_stops_and_resumes(case, options, tmp_path, act, match=f"expected finite numbers, but {match}")


def spoil_ids(feature, row):
    """Puts `row` first among those of a feature, the bags of which keep their lengths."""

    def act(task, batch):
        bags = batch.ids.to_dict()
        values = {name: bag.values() for name, bag in bags.items()}
        values[feature] = values[feature].index_fill(0, torch.tensor([0]), row)
        batch.ids = KeyedJaggedTensor(
            keys=batch.ids.keys(), values=torch.cat(list(values.values())), lengths=batch.ids.lengths()
        )

    return act


@pytest.mark.parametrize(
    ("case", "feature", "row", "last"),
    [
        (RANKING, "user_id", 61, 60),
        (RANKING, "genre", -1, 4),
        (RANKING, "history", 41, 40),
        (RETRIEVAL, "history", 2**40, 40),
        (dataclasses.replace(RETRIEVAL, tables="adamw"), "user_id", 61, 60),
    ],
)
def test_row_beyond_its_table_stops_training(options, tmp_path, case, feature, row, last):
    match = (
        f"expected rows of feature `{feature}` from 0 to {last}, its table's last, got {row}: .* prepare the"
    )
    assert_stops_and_resumes(case, options, tmp_path, spoil_ids(feature, row), match=match)


@pytest.mark.parametrize(
    ("loss", "row"),
    [
        ("full_softmax", 41),
        ("full_softmax", -1),
        ("in_batch_softmax", 41),
        ("in_batch_softmax", 0),
        ("sampled_softmax", 0),
        ("bpr", 0),
    ],
)
def test_item_beyond_the_catalogue_stops_training(options, tmp_path, loss, row):
    def act(task, batch):
        batch.item_rows = batch.item_rows.index_fill(0, torch.tensor([2]), row)

    match = (
        f"expected items of the catalogue, rows 1 to 40, to learn from, got {row}: .* prepare the data anew"
    )
    assert_stops_and_resumes(dataclasses.replace(RETRIEVAL, loss=loss), options, tmp_path, act, match=match)
