"""Feed: a request -> state -> candidates -> policy -> impressions."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import time
import uuid
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from recsys.bandits.acting.choice import Choice, Policy
from recsys.bandits.acting.policies import make_policy
from recsys.schema.errors import InputError
from recsys.schema.tables import TIMESTAMP, USER_ID
from recsys.serving.beliefs import beliefs, features_of
from recsys.serving.catalogue import NewItemList
from recsys.serving.journal import Journal
from recsys.serving.messages import Recommendation, RecommendedItem, RecommendRequest
from recsys.serving.options import Arm, ServeOptions
from recsys.serving.records import Id, Request, ShownItem, hash_of
from recsys.serving.rules import HOUR, NEGATIVE, SECOND
from recsys.serving.served import BundleBox, Query, Scored, ServedBundle, iso_text
from recsys.serving.state import (
    HEAD,
    POPULAR,
    ItemState,
    LinearHead,
    PopularState,
    UserState,
    item_key,
    liked,
    user_key,
)
from recsys.serving.store.interface import StoreAway

logger = logging.getLogger(__name__)

_BUNDLE, _POPULAR, _NEW = "bundle", "popular", "new"


class Feed:
    """Answers requests for lists.

    Args:
        box: the bundle that serves.
        journal: log and state.
        new_items: of the catalogue.
        options: of the server.
    """

    def __init__(
        self, box: BundleBox, journal: Journal, new_items: NewItemList, options: ServeOptions
    ) -> None:
        self._box = box
        self._journal = journal
        self._new_items = new_items
        self._options = options
        self._policies = {name: _policy(arm) for name, arm in options.arms.items()}
        self._policy = make_policy(options.policy, options.policy_parameters)
        self._shadow = None if options.shadow is None else _policy(options.shadow)

    def recommend(self, asked: RecommendRequest, *, now: int) -> tuple[Recommendation, list[Request]]:
        """The answer to a request, and what is to be logged of it.

        Args:
            asked: the request.
            now: microseconds since 1970 (UTC).
        """
        clock = Stopwatch()
        served, user_id = self._box.current, asked.user.get(USER_ID)
        state, degraded = self._user_state(user_id)
        query = self._query(asked, state, now)
        clock.lap("state")
        scored, rung = self._scored(served, query, asked, now)
        clock.lap("bundle")
        request = Request(
            request_id=uuid.uuid4().hex,
            time=now,
            user_id=user_id,
            user=asked.user,
            context=asked.context,
            bundle=served.fingerprint,
            policy=_BUNDLE,
            parameters={},
            seed=0,
            judges_others=False,
            items=[],
            candidates=[],
            candidate_scores=[],
            num_candidates=len(scored.item_ids),
            candidates_hash="",
            rung=rung,
            degraded=degraded or rung != _BUNDLE,
            history_length=len(query.history),
        )
        arm, policy = self._arm(user_id)
        shown = self._chosen(request, scored, policy, k=asked.k, arm=arm)
        records = [shown]
        if self._shadow is not None:
            records.append(self._chosen(request, scored, self._shadow, k=asked.k, shadow=True))
        clock.lap("policy")
        return _answer(
            shown,
            age=self._journal.age(now) / SECOND,
            milliseconds=clock.laps if asked.timing else None,
        ), records

    def _user_state(self, user_id: Id | None) -> tuple[UserState | None, bool]:
        """Reads the state of a user, None without one, and whether the store is away."""
        if user_id is None:
            return None, False
        try:
            [content] = self._journal.store.get([user_key(user_id)])
        except StoreAway:
            return None, True
        return None if content is None else msgspec.msgpack.decode(content, type=UserState), False

    def _query(self, asked: RecommendRequest, state: UserState | None, now: int) -> Query:
        rules, reads_skips = self._options.rules, self._box.current.reads_skips
        events = [] if state is None else state.events
        since = now - int(self._options.exclude_skipped_hours * HOUR)
        gone = [
            event.item_id
            for event in events
            if event.kind in NEGATIVE and not event.inferred and event.time > since
        ]
        read = [event for event in events if reads_skips or liked(event, rules)]
        history: list[Id] = [event.item_id for event in read]
        times: list[int] | None = [event.time for event in read]
        are_liked = [liked(event, rules) for event in read]
        if asked.history is not None:
            history, times, are_liked = list(asked.history), None, [True] * len(asked.history)
        context = asked.context if TIMESTAMP in asked.context else {**asked.context, TIMESTAMP: iso_text(now)}
        exclude = [*asked.exclude, *gone]
        return Query(asked.user, context, history, times, are_liked, exclude, asked.where, asked.candidates)

    def _scored(
        self, served: ServedBundle, query: Query, asked: RecommendRequest, now: int
    ) -> tuple[Scored, str]:
        """Candidates from the highest rung of the ladder that answers."""
        wanted = max(asked.k, self._options.policy_candidates)
        try:
            scored = served.scored(query, wanted=wanted, num_candidates=self._options.num_candidates)
        except InputError:
            raise
        except Exception:
            logger.exception("the bundle did not answer; what is popular does")
            return self._popular(query, wanted), _POPULAR
        if query.where is None and query.candidates is None:
            past = query.history if served.bundle.excludes_history else []
            taken = {str(one) for one in (*scored.item_ids, *past, *query.exclude)}
            new = [one for one in self._new_items.newest(now) if str(one) not in taken]
            new = new[: self._options.explore_new]
            # The last of the candidates' scores: what is believed of a new item says how far up it may go.
            lowest = min(scored.scores, default=0.0)
            scored = Scored(
                [*scored.item_ids, *new],
                [*scored.scores, *([lowest] * len(new))],
                [*scored.sources, *([_NEW] * len(new))],
            )
        return scored, _BUNDLE

    def _popular(self, query: Query, wanted: int) -> Scored:
        try:
            [content] = self._journal.store.get([POPULAR])
        except StoreAway:
            content = None
        state = PopularState() if content is None else msgspec.msgpack.decode(content, type=PopularState)
        past = query.history if self._box.current.bundle.excludes_history else []
        gone = {str(one) for one in (*query.exclude, *past)}
        left = [entry for name, entry in state.rewards.items() if name not in gone]
        best = sorted(left, key=lambda entry: (-entry[1], str(entry[0])))[:wanted]
        return Scored([one for one, _ in best], [reward for _, reward in best], [_POPULAR] * len(best))

    def _arm(self, user_id: Id | None) -> tuple[str | None, Policy]:
        """The arm of a user, always the same one, and its policy; somebody unknown draws one."""
        if not self._options.arms:
            return None, self._policy
        digest = hash_of(user_id if user_id is not None else uuid.uuid4().hex)
        left = int(digest[:8], 16) / 2**32
        names = list(self._options.arms)
        for name in names:
            left -= self._options.arms[name].share
            if left < 0:
                return name, self._policies[name]
        return names[-1], self._policies[names[-1]]  # shares may add up to a little less than 1

    def _chosen(
        self,
        request: Request,
        scored: Scored,
        policy: Policy,
        *,
        k: int,
        arm: str | None = None,
        shadow: bool = False,
    ) -> Request:
        """The request with the list that a policy chooses, and all that is needed to judge it."""
        seed = int.from_bytes(
            hashlib.blake2b(
                f"{self._options.seed}/{request.request_id}/{shadow}".encode(), digest_size=8
            ).digest()
        )
        scores_N = np.array(scored.scores, dtype=np.float64)
        ages = [self._new_items.age_hours(one, request.time) for one in scored.item_ids]
        features_ND = features_of(scores_N, ages)
        candidates, expected_N = beliefs(
            scores_N, features_ND, **self._known(scored.item_ids), now=request.time, rules=self._options.rules
        )
        size = len(scored.item_ids)
        nothing = np.zeros(0)
        choice = (
            policy.choose(candidates, k, np.random.default_rng(seed))
            if size
            else Choice(np.zeros(0, dtype=np.int64), nothing, nothing)
        )
        items = [
            ShownItem(
                scored.item_ids[place],
                scored.scores[place],
                float(choice.propensities_K[position]),
                float(choice.given_above_K[position]),
                scored.sources[place],
                features_ND[place].tolist(),
                float(expected_N[place]),
            )
            for position, place in enumerate(choice.positions_K.tolist())
        ]
        logged = size if size <= self._options.log_candidates else 0
        utilities_N = candidates.utilities if policy.parameters.get("learning") else scores_N
        return msgspec.structs.replace(
            request,
            policy=policy.name,
            parameters=policy.parameters,
            seed=seed,
            judges_others=policy.judges_others,
            items=items,
            candidates=scored.item_ids[:logged],
            candidate_scores=utilities_N[:logged].tolist(),
            candidates_hash=_digest(scored.item_ids),
            arm=arm,
            shadow=shadow,
        )

    def _known(self, item_ids: Sequence[Id]) -> dict[str, Any]:
        """States of items and of the linear head; nothing while the state is away."""
        try:
            head, *items = self._journal.store.get([HEAD, *(item_key(one) for one in item_ids)])
        except StoreAway:
            head, items = None, [None] * len(item_ids)
        return {
            "items": [None if one is None else msgspec.msgpack.decode(one, type=ItemState) for one in items],
            "head": None if head is None else msgspec.msgpack.decode(head, type=LinearHead),
        }


@dataclasses.dataclass
class Stopwatch:
    """Milliseconds of the parts of a request."""

    laps: dict[str, float] = dataclasses.field(default_factory=dict)
    _last: float = dataclasses.field(default_factory=time.perf_counter)

    def lap(self, part: str) -> None:
        """Ends a part."""
        now = time.perf_counter()
        self.laps[part] = round(1000 * (now - self._last), 3)
        self._last = now


def _policy(arm: Arm) -> Policy:
    return make_policy(arm.policy, arm.policy_parameters)


def _digest(item_ids: Sequence[Id]) -> str:
    return hashlib.blake2b("\n".join(map(str, item_ids)).encode(), digest_size=16).hexdigest()


def _answer(request: Request, *, age: float, milliseconds: dict[str, float] | None) -> Recommendation:
    items = [
        RecommendedItem(
            item.item_id, position, item.score, item.propensity, item.propensity_given_above, item.source
        )
        for position, item in enumerate(request.items, start=1)
    ]
    return Recommendation(
        request_id=request.request_id,
        items=items,
        policy=request.policy,
        bundle=request.bundle,
        degraded=request.degraded,
        state_age_seconds=round(max(age, 0.0), 6),
        rung=request.rung,
        milliseconds=milliseconds,
    )
