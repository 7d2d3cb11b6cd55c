"""Every key of `recsys serve`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

from recsys.bandits.acting.policies import make_policy
from recsys.schema.errors import InputError
from recsys.schema.rungs import FEW_EVENTS, PERSONAL, POPULAR, PROFILE, SEGMENT
from recsys.serving.rules import Rules


@dataclasses.dataclass(frozen=True)
class Arm:
    """A part of the users, and the policy that chooses for them.

    Args:
        policy: name, see `ServeOptions`.
        policy_parameters: the same.
        share: of the users; those of all arms add up to 1.
    """

    policy: str
    policy_parameters: dict[str, Any] = dataclasses.field(default_factory=dict)
    share: float = 1.0

    def __post_init__(self) -> None:
        make_policy(self.policy, self.policy_parameters)
        if not 0 < self.share <= 1:
            raise InputError(f"`arms.*.share` must lie in (0, 1], got {self.share}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogOptions:
    """Keys that say where a server's feedback log is, and how its events are counted.

    Args:
        log: where the feedback log is: `lmdb` (in the server's folder), `redis` or `kafka`.
        redis_url: of Redis or Valkey.
        kafka_servers, kafka_topic: of the broker.
        rules: by which events are counted.
    """

    log: Literal["lmdb", "redis", "kafka"] = "lmdb"
    redis_url: str = "redis://localhost:6379/0"
    kafka_servers: str = "localhost:9092"
    kafka_topic: str = "recsys-feedback"
    rules: Rules = dataclasses.field(default_factory=Rules)


@dataclasses.dataclass(frozen=True)
class ServeOptions(LogOptions):
    """Every key of `recsys serve`, those of `LogOptions` included.

    Args:
        bundle: folder of the bundle.
        folder: where the feedback log and the state are kept, unless they are elsewhere; made when missing.
        host, port: where to listen.
        workers: processes, one a core.
        store: where the state is: `lmdb` (in `folder`) or `redis`.
        policy: who chooses from the candidates: `greedy`, `epsilon`, `softmax`, `thompson` or `lin_ucb`.
        policy_parameters: of that policy.
        arms: policies by name of arm, in place of `policy`; a user stays in an arm.
        shadow: a policy whose lists are logged and not shown.
        num_candidates: how many the bundle's retrieval hands to its ranking.
        policy_candidates: how many of the best of those the policy chooses from.
        ladder: who answers on a rung of the model's, `personal`, `few_events` or `profile`: the `bundle`
            unless said otherwise, what is popular with the reader's `segment` (`rules.segment_fields`), or
            what is `popular`; the bundle fills the rest of the list.
        explore_new: how many new items join them, the newest and those of the best scores.
        explore_taste: how many items join them that a reader's taste, learned from feedback, points to;
            where the policy learns.
        new_item_hours: how long an item is new.
        exclude_skipped_hours: how long an item that was skipped or disliked is not shown again.
        log_candidates: up to so many candidates are logged with their scores, more by a digest alone.
        max_k: longest list.
        max_waiting: requests that may wait in a process; more are refused (503).
        max_body_megabytes: of a request.
        max_gigabytes: that log and state in `folder` may grow to.
        token: that requests must bring (`Authorization: Bearer TOKEN`); null asks for none.
        seed: of the policies' draws.
    """

    bundle: Path
    folder: Path
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    store: Literal["lmdb", "redis"] = "lmdb"
    policy: str = "softmax"
    policy_parameters: dict[str, Any] = dataclasses.field(default_factory=dict)
    arms: dict[str, Arm] = dataclasses.field(default_factory=dict)
    shadow: Arm | None = None
    num_candidates: int = 500
    policy_candidates: int = 50
    ladder: dict[str, Literal["bundle", "segment", "popular"]] = dataclasses.field(default_factory=dict)
    explore_new: int = 5
    explore_taste: int = 30
    new_item_hours: float = 24.0
    exclude_skipped_hours: float = 24.0
    log_candidates: int = 100
    max_k: int = 1000
    max_waiting: int = 64
    max_body_megabytes: float = 16.0
    max_gigabytes: float = 64.0
    token: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        make_policy(self.policy, self.policy_parameters)
        for name in ("workers", "num_candidates", "policy_candidates", "max_k", "max_waiting"):
            if getattr(self, name) < 1:
                raise InputError(f"`{name}` must be at least 1, got {getattr(self, name)}")
        for rung, source in self.ladder.items():
            if rung not in (PERSONAL, FEW_EVENTS, PROFILE) or source not in ("bundle", SEGMENT, POPULAR):
                raise InputError(
                    f"`ladder` must say `bundle`, `{SEGMENT}` or `{POPULAR}` of the rungs `{PERSONAL}`, "
                    f"`{FEW_EVENTS}` and `{PROFILE}`, got `{rung}: {source}`"
                )
        if SEGMENT in self.ladder.values() and not self.rules.segment_fields:
            raise InputError(
                f"`ladder` says `{SEGMENT}`, and no field tells readers apart; name some by "
                "`rules.segment_fields`, as in rules.segment_fields=[country]"
            )
        total = sum(arm.share for arm in self.arms.values())
        if self.arms and abs(total - 1) > 1e-6:
            raise InputError(f"the shares of `arms` must add up to 1, got {total:g}")
