"""Options of the day-by-day loop, and its steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from recsys.schema.errors import InputError

FIRST, CONTINUED, RETRAINED = "first", "continued", "retrained"


@dataclasses.dataclass(frozen=True)
class DailyOptions:
    """Which steps the loop goes through.

    Args:
        first: ISO instant at which the first model's test step begins; it knows nothing of what comes then.
        num_steps: steps after the first model's own, each of which is learnt and then followed by a test.
        step_days: length of a step, in days.
        validation_days: last days before each test step, by which the best epoch is picked; they are learnt
            from a step later.
        continued: keys that differ in runs that go on, as on the command line; the retrained ones and the
            first one have those of the rest of the configuration.
        retrain: false leaves the retrained models out, which take the most time.
        metric: of each query (`ndcg@10`) or row (`log_loss`), by which the three are compared.
    """

    first: str
    num_steps: int
    step_days: float = 7.0
    validation_days: float = 1.0
    continued: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    retrain: bool = True
    metric: str = "ndcg@10"

    def __post_init__(self) -> None:
        if self.num_steps < 1:
            raise InputError(f"`daily.num_steps` must be at least 1, got {self.num_steps}")
        for key in ("step_days", "validation_days"):
            if not getattr(self, key) > 0:
                raise InputError(f"`daily.{key}` must be above 0, got {getattr(self, key)}")
        try:
            datetime.fromisoformat(self.first)
        except ValueError as error:
            raise InputError(f"`daily.first` must be an ISO instant, got `{self.first}`") from error

    @property
    def steps(self) -> list[Step]:
        """All steps, that of the first model included."""
        first = datetime.fromisoformat(self.first)
        first = first if first.tzinfo else first.replace(tzinfo=UTC)
        length, validation = timedelta(days=self.step_days), timedelta(days=self.validation_days)
        begins = [first + number * length for number in range(self.num_steps + 1)]
        return [
            Step(
                number,
                train_from=begins[number - 1] - validation if number else None,
                validation=begin - validation,
                test=begin,
                until=begin + length,
            )
            for number, begin in enumerate(begins)
        ]


@dataclasses.dataclass(frozen=True)
class Step:
    """Instants of a step: what is learnt, by what it is validated, and what it is tested on."""

    number: int
    train_from: datetime | None
    validation: datetime
    test: datetime
    until: datetime

    def overrides(self) -> list[str]:
        """Of every run of this step: the data as of its end, divided by time."""
        boundaries = f"'{self.validation.isoformat()}','{self.test.isoformat()}'"
        return [
            "++data.split=global_time",
            f"++data.split_boundaries=[{boundaries}]",
            f"++data.until='{self.until.isoformat()}'",
        ]

    def folder(self, arm: str) -> str:
        """Name of the folder of one of its runs."""
        return f"{self.number:03d}-{arm}"
