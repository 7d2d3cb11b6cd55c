"""Evaluates a run or a table of recommendations, and compares it with others."""

from __future__ import annotations

import csv
import dataclasses
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recsys.commands.options import EvaluateConfig
from recsys.commands.results import RESULTS
from recsys.commands.sweeps.rerank import WINNER
from recsys.config.build import built
from recsys.config.keys import spelled_out
from recsys.config.register import import_functions
from recsys.config.saved import CONFIG
from recsys.data.dataset import PreparedDataset
from recsys.data.prepare import prepare, prepared_folder
from recsys.evaluation.comparing.compare import MOST, compare
from recsys.evaluation.comparing.stations import (
    Answers,
    ReadEvaluation,
    check_same_protocol,
    named,
)
from recsys.evaluation.evaluate import evaluate, evaluate_lists
from recsys.evaluation.external import read_lists
from recsys.evaluation.options import EvaluationOptions
from recsys.evaluation.protocol import PROTOCOL_VERSION
from recsys.evaluation.questions import EvaluatedModel, RetrievalQuestions
from recsys.evaluation.station import FOLDER, METRICS, RESULT_KINDS, EvaluatedRun
from recsys.runs.folders import unique_folder
from recsys.runs.trained import BUNDLE, TrainedRun
from recsys.schema.errors import InputError
from recsys.schema.json_files import read_json
from recsys.schema.manifest import MANIFEST, file_sha256, read_station
from recsys.schema.places import at_home

# What a figure does not depend on.
_IMMATERIAL = ("batch_size", "num_examples")

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class _Other:
    """Names a system to compare with, as it was given, and the folder of a run or of an evaluation's run."""

    name: str
    folder: Path


def evaluated(config: EvaluateConfig, composed: Mapping[str, Any]) -> Path:
    """Judges what is asked for, and compares it where that is asked for.

    Args:
        config: of the command.
        composed: what it was made from.

    Returns:
        The folder of the evaluation, or of the comparison.

    Raises:
        ValueError: a run, table or name is not what it should be, or protocols differ.
    """
    _check_number(config)
    if config.recommendations:
        folder = evaluate_recommendations(config, composed).parent
        return (
            _compared(config, composed, folder=folder, others=_others(config.against))
            if config.against
            else folder / FOLDER
        )
    if config.run:
        run = TrainedRun.open(config.run, config=composed, checkpoint=config.checkpoint)
        options = config.evaluation or EvaluationOptions()
        if not config.against:
            return evaluate_run(run, options, composed)
        _evaluate_again(run, options, composed)
        return _compared(config, composed, folder=run.path, others=_others(config.against))
    runs = (
        _trials_of(Path(config.sweep.folder), further=len(config.against))
        if config.sweep
        else [
            _Other(name, Path(text))
            for name, text in zip(named([*map(Path, config.runs)]), config.runs, strict=True)
        ]
    )
    first, others = runs[0], [*runs[1:], *_others(config.against)]
    _evaluate_as(
        TrainedRun.open(first.folder), dataclasses.asdict(config.evaluation) if config.evaluation else None
    )
    into = Path(config.sweep.folder) if config.sweep else first.folder
    config = dataclasses.replace(config, run_dir=config.run_dir or str(into))
    return _compared(config, composed, folder=first.folder, others=others, name=first.name)


def _check_number(config: EvaluateConfig) -> None:
    """Raises before anything is judged where more is named than one page can compare.

    Raises:
        ValueError: more than eight systems.
    """
    given = len(config.against) + (len(config.runs) or 1)
    if given > MOST:
        raise InputError(
            f"a comparison takes at most {MOST} systems, got {given} in `runs` and `against`; name fewer"
        )


def evaluate_run(run: TrainedRun, options: EvaluationOptions, composed: Mapping[str, Any]) -> Path:
    """Evaluates a run on the test split of its dataset, and returns the evaluation's folder.

    Args:
        run: finished.
        options: every key under `evaluation.`.
        composed: plain configuration, kept in the evaluation's manifest.
    """
    import_functions(options.metrics, "evaluation.metrics")
    evaluated_run = EvaluatedRun(run.path, run.fingerprint, composed, checkpoint=run.made_of)
    run.warn_of_outdated(BUNDLE)
    since = run.dataset.instant(run.data.train_from, key="data.train_from")
    negatives = run.data.negatives_per_positive
    trained = EvaluatedModel(run.model, run.dataset, run.task, run.history_length, negatives, since)
    return evaluate(trained, options, run=evaluated_run)


def options_of(run: TrainedRun, evaluation: Mapping[str, Any] | None = None) -> EvaluationOptions:
    """The evaluation options of a run.

    Args:
        run: finished.
        evaluation: plain options in place of the run's own.

    Raises:
        InputError: they are not what this release reads.
    """
    plain = run.config.get("evaluation", {}) if evaluation is None else evaluation
    options: EvaluationOptions = built(
        plain, EvaluationOptions, "evaluation", behind=f" (in {run.path / CONFIG})"
    )
    return options


def evaluate_recommendations(config: EvaluateConfig, composed: Mapping[str, Any]) -> Path:
    """Judges a table of recommendations as a run's are, and returns the evaluation's folder."""
    assert config.recommendations is not None
    assert config.data is not None
    path = at_home(config.recommendations)
    if config.run_dir and (Path(config.run_dir) / CONFIG).is_file():
        raise InputError(
            f"expected a folder of its own for the evaluation of `{path}`, but `run_dir={config.run_dir}` "
            "holds a run, which has one; name another"
        )
    options = config.evaluation or EvaluationOptions()
    import_functions(options.metrics, "evaluation.metrics")
    chosen = config.data.prepared
    dataset = PreparedDataset.open(
        prepared_folder(chosen, cache=config.data.cache_path) if chosen else prepare(config.data)
    )
    questions = RetrievalQuestions.of(dataset, options, history_length=config.data.history_length)
    lists, findings = read_lists(path, dataset, questions.queries, k=questions.options.list_length)
    for finding in findings:
        logger.warning("%s", finding["text"])
    folder = Path(config.run_dir) if config.run_dir else unique_folder(f"recommendations-{path.stem}")
    run = EvaluatedRun(folder, fingerprint=file_sha256(path), config=composed)
    return evaluate_lists(lists, questions, run=run, findings=findings)


def _trials_of(folder: Path, *, further: int = 0) -> list[_Other]:
    """The winner of a sweep, or the best of several runs, then the best others; 8 with `further` systems.

    Raises:
        ValueError: it is no sweep, has not come to its end, or fewer than two of its trials have.
    """
    if not (folder / RESULTS).is_file():
        missing = f"no {RESULTS} in it" if folder.is_dir() else "no such folder"
        raise InputError(
            f"expected the folder of a finished sweep for `sweep`, got `{folder}`: {missing}; "
            "`python train.py sweep=NAME` makes one, and the same command with its `run_dir` goes on with it"
        )
    with (folder / RESULTS).open(newline="") as file:
        numbers = [row["trial"] for row in csv.DictReader(file) if row["status"] == "complete"]
    winner = None
    if (folder / WINNER).is_file():
        winner = str(read_json(folder / WINNER)["winner"]["trial"])
        numbers = [winner, *(number for number in numbers if number != winner)]
    if len(numbers) < 2:
        raise InputError(
            f"expected two complete trials or more in the sweep `{folder}`, found {len(numbers)}; evaluate "
            "one with run=DIR"
        )
    return [
        _Other(f"trial {number}{' (winner)' if number == winner else ''}", folder / number)
        for number in numbers[: MOST - further]
    ]


def _others(texts: Sequence[str]) -> list[_Other]:
    """Resolves the names in `against`: folders get names that tell them apart, baselines keep their own."""
    folders = [text for text in texts if at_home(text).is_dir()]
    paths = [at_home(text) for text in folders]
    own = [path.parent if path.name == FOLDER and not _is_run(path) else path for path in paths]
    names = dict(zip(folders, zip(named(own), own, strict=True), strict=True))
    return [_Other(*names[text]) if text in names else _Other(text, Path(text)) for text in texts]


def _compared(
    config: EvaluateConfig,
    composed: Mapping[str, Any],
    *,
    folder: Path,
    others: Sequence[_Other],
    name: str | None = None,
) -> Path:
    """Compares the evaluation in `folder` with others, which are judged alike first where they must be."""
    first = ReadEvaluation.open(folder / FOLDER)
    systems = [first.model(name or named([folder])[0])]
    for other in others:
        answers = _answers(other, first)
        if any(answers.name == system.name for system in systems):
            answers = dataclasses.replace(answers, name=f"{answers.name} ({other.folder})")
        if any(answers.source == system.source for system in systems):
            raise InputError(
                f"expected different systems to compare, but `{other.folder}` is named twice; leave one out"
            )
        systems.append(answers)
    into = Path(config.run_dir) if config.run_dir else folder
    return compare(first, systems, folder=into, options=config.comparison, config=composed)


def _answers(other: _Other, first: ReadEvaluation) -> Answers:
    """Returns another system's answers to the queries of `first`.

    Raises:
        ValueError: it is neither a folder nor a baseline that was judged, or its protocol differs.
    """
    if _is_run(other.folder):
        _evaluate_as(TrainedRun.open(other.folder), first.results["options"])
    if (other.folder / FOLDER / MANIFEST).is_file():
        evaluation = ReadEvaluation.open(other.folder / FOLDER)
        check_same_protocol(first, evaluation)
        return evaluation.model(other.name, like=first)
    reasons = first.baselines
    if other.name in reasons and reasons[other.name] is None:
        return first.baseline(other.name)
    if other.name in reasons:
        raise InputError(f"`against={other.name}`: this baseline is left out: {reasons[other.name]}")
    there = ", ".join(baseline for baseline, reason in reasons.items() if reason is None) or "none"
    missing = "no run and no evaluation in it" if other.folder.is_dir() else "no such folder"
    raise InputError(
        "expected the folder of a run or of judged recommendations, or one of the baselines that were judged "
        f"({there}), for `against`, got `{other.folder}`: {missing}"
    )


def _evaluate_as(run: TrainedRun, evaluation: Mapping[str, Any] | None) -> None:
    """Evaluates a run as its own configuration says, but for the evaluation, where that is given."""
    options = options_of(run, evaluation)
    keys = {field.name for field in dataclasses.fields(EvaluateConfig)} - {"sweep", "run_dir"}
    plain = {key: value for key, value in run.config.items() if key in keys}
    plain |= {"run": str(run.path), "evaluation": dataclasses.asdict(options)}
    _evaluate_again(run, options, spelled_out(plain, EvaluateConfig))


def _evaluate_again(run: TrainedRun, options: EvaluationOptions, composed: Mapping[str, Any]) -> None:
    """Evaluates a run, unless its evaluation is there with the same options."""
    if _is_current(run, options, composed):
        logger.info("the evaluation of `%s` is there already", run.path)
        return
    logger.info("evaluating `%s`", run.path)
    evaluate_run(run, options, composed)


def _is_current(run: TrainedRun, options: EvaluationOptions, composed: Mapping[str, Any]) -> bool:
    path = run.path / FOLDER
    if not (path / MANIFEST).is_file():
        return False
    try:
        manifest = read_station(path, "evaluation")
    except ValueError as error:
        logger.warning("%s", error)
        return False
    results = read_json(path / METRICS, RESULT_KINDS)
    wanted, had = (
        {key: value for key, value in plain.items() if key not in _IMMATERIAL}
        for plain in (_plain(dataclasses.asdict(options)), results["options"])
    )
    return (
        manifest["source"] == run.fingerprint
        and manifest["config"].get("data") == _plain(composed["data"])
        and results["protocol"]["version"] == PROTOCOL_VERSION
        and wanted == had
    )


def _plain(value: Any) -> Any:
    """As JSON gives it back."""
    return json.loads(json.dumps(value, default=str))


def _is_run(folder: Path) -> bool:
    return (folder / CONFIG).is_file()
