"""A command whose trials take no time: its metric is a model's width, and some widths misbehave."""

import dataclasses
import os
import signal
import time
from pathlib import Path

from recsys.commands.entry import command
from recsys.commands.sweeps.options import SweepOptions
from recsys.commands.sweeps.reports import trial_report
from recsys.config.register import trusting
from recsys.config.saved import config_text
from recsys.config.targets import Factory
from recsys.schema.errors import InputError
from recsys.schema.manifest import write_json

FAILS, KILLED, FAILS_WITH_OTHER_SEEDS = 13, 66, 9
RUNS = "runs.log"
CONFIGS = {
    "train.yaml": "defaults: [_self_, sweep: null]\n"
    "model: {_target_: tests.toy_sweep.Model, width: 1}\ntask: {_target_: tests.toy_sweep.Task}\n"
    "trainer: {monitor: null}\nseed: 0\nrun_dir: null\nresume: null\npause: 0.0",
    "sweep/grid.yaml": "space: {model.width: 'choice(1,2,3,4,5,6)'}\nworkers: 0",
    "sweep/wide.yaml": "space: {model.width: 'int(interval(1,12))', model.drop: 'interval(0.0,0.5)'}\n"
    "workers: 0",
}


class Model:
    def __init__(self, schema: str, *, width: int = 1, drop: float = 0.0) -> None:
        pass


class Task:
    monitor = "val/ndcg@10"


@dataclasses.dataclass(frozen=True)
class Trainer:
    monitor: str | None = None


@dataclasses.dataclass(frozen=True)
class Options:
    model: Factory
    task: Factory
    trainer: Trainer = dataclasses.field(default_factory=Trainer)
    seed: int = 0
    run_dir: str | None = None
    resume: str | None = None
    pause: float = 0.0
    sweep: SweepOptions | None = None


def work(options: Options, composed: dict) -> Path:
    """Three validations, the last of which is the model's width; every start leaves a line in runs.log."""
    folder = Path(options.resume or options.run_dir)
    width, drop = (options.model.arguments.get(name, 0) for name in ("width", "drop"))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(config_text(composed))
    with Path(RUNS).open("a") as file:
        file.write(f"{folder} {os.getpid()} {'again' if options.resume else 'new'}\n")
    if width == FAILS or (width == FAILS_WITH_OTHER_SEEDS and options.seed):
        raise InputError("the unlucky table must have the columns b; missing: `b`; found: a")
    if width == KILLED:
        os.kill(os.getpid(), signal.SIGKILL)
    report = trial_report(folder)
    for epoch in (1, 2, 3):
        time.sleep(options.pause / 3)
        if report:
            report(epoch, {"val/ndcg@10": width * epoch / 3})
    # Of many seeds, a larger one is worse luck for large widths.
    figures = {"ndcg@10": float(width - drop - options.seed * (width > 4))}
    metrics = {"validation": figures, "test": figures, "monitor": "val/ndcg@10", "seed": options.seed}
    write_json(folder / "metrics.json", metrics)
    return folder


def entry():
    """The command, over the configuration files of the folder it is given in."""
    configs = Path("configs").absolute()
    return command("train", Options, continues="resume", repeats=True, configs=configs)(work)


if __name__ == "__main__":
    with trusting(["tests"]):
        entry()()
