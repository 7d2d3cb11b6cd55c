"""Feed: a request -> state -> candidates -> policy -> impressions."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import time
import uuid
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from recsys.bandits.acting.choice import Candidates, Policy
from recsys.bandits.acting.policies import make_policy
from recsys.bandits.estimates import Floats
from recsys.schema.errors import InputError
from recsys.schema.rungs import SEGMENT
from recsys.schema.tables import USER_ID
from recsys.serving.beliefs import (
    NUM_FEATURES,
    Beliefs,
    Known,
    beliefs,
    features_of,
    head_weights,
    looked_at,
    taste_weights,
)
from recsys.serving.catalogue import NewItemList
from recsys.serving.journal import Journal
from recsys.serving.learning import ItemRewards, PopularState
from recsys.serving.messages import Recommendation, RecommendedItem, RecommendRequest
from recsys.serving.options import Arm, ServeOptions
from recsys.serving.readers import Reader, query_of, read_reader
from recsys.serving.records import Id, Request, ShownItem, hash_of
from recsys.serving.rules import SECOND
from recsys.serving.served import BundleBox, Query, Scored, ServedBundle
from recsys.serving.store.interface import StoreAway
from recsys.serving.working import POPULAR, item_key, popular_key

logger = logging.getLogger(__name__)

_BUNDLE, _POPULAR, _NEW, _TASTE = "bundle", "popular", "new", "taste"
# Looks by which a taste is believed, for the direction to search in.
_TASTE_RIDGE = 20.0
# Of the new items that join the candidates, so many are the newest; the others have the best scores.
_NEWEST = 2
_items = msgspec.msgpack.Decoder(ItemRewards)


@dataclasses.dataclass(frozen=True, eq=False)
class Believed:
    """Candidates with their features [N, D] and coordinates [N, C], and what is believed of them."""

    scored: Scored
    features_ND: Floats
    coordinates_NC: Floats
    beliefs: Beliefs


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
        reader = read_reader(self._journal.store, user_id, asked.session)
        query = query_of(asked, reader, now, self._options, reads_skips=served.reads_skips)
        clock.lap("state")
        arm, policy = self._arm(user_id if user_id is not None else asked.session)
        weights_C = self._taste_weights(served, policy, reader, now)
        scored, rung, failed = self._scored(served, query, asked, now, weights_C)
        clock.lap("bundle")
        believed = self._believed(served, scored, reader, now)
        clock.lap("beliefs")
        request = Request(
            request_id=uuid.uuid4().hex,
            time=now,
            user_id=user_id,
            user=asked.user,
            context=asked.context,
            session=asked.session,
            bundle=served.fingerprint,
            policy=_BUNDLE,
            parameters={},
            seed=0,
            judges_others=False,
            items=[],
            candidates=[],
            candidate_scores=[],
            num_candidates=len(scored.item_ids),
            candidates_hash=_digest(scored.item_ids),
            rung=rung,
            degraded=reader.is_away or failed,
            history_length=len(query.history),
            brought_history=asked.history is not None,
            reads_skips=served.reads_skips,
            space=served.space,
        )
        looked_K = looked_at(reader.positions, asked.k, now, self._options.rules)
        records = [self._chosen(msgspec.structs.replace(request, arm=arm), believed, policy, looked_K)]
        if self._shadow is not None:
            unseen = msgspec.structs.replace(request, shadow=True)
            records.append(self._chosen(unseen, believed, self._shadow, looked_K))
        clock.lap("policy")
        age = self._journal.age(now) / SECOND
        answer = _answer(records[0], age=age, milliseconds=clock.laps if asked.timing else None)
        answer.behaviour_weight = scored.behaviour_weight
        return answer, records

    def _scored(
        self,
        served: ServedBundle,
        query: Query,
        asked: RecommendRequest,
        now: int,
        weights_C: Floats | None,
    ) -> tuple[Scored, str, bool]:
        """Candidates from the rung that the ladder names, the rung, and whether the bundle failed."""
        wanted = max(asked.k, self._options.policy_candidates)
        try:
            scored = served.scored(query, wanted=wanted, num_candidates=self._options.num_candidates)
            source = self._options.ladder.get(scored.rung or "", _BUNDLE)
            if source != _BUNDLE and query.candidates is None and served.can_retrieve:
                by_rule, rung = self._popular(query, wanted, by_segment=source == SEGMENT)
                kept = served.showable(by_rule.item_ids, query.where)
                if any(kept):
                    return _before(by_rule, kept, scored, wanted), rung, False
            if query.candidates is None:
                more = self._near_taste(served, query, weights_C)
                more |= self._new(served, query, now)
                scored = _joined(served, query, scored, more)
        except InputError:
            raise
        except Exception:
            logger.exception("the bundle did not answer; what is popular does")
            return *self._popular(query, wanted, by_segment=True), True
        return scored, _BUNDLE, False

    def _near_taste(self, served: ServedBundle, query: Query, weights_C: Floats | None) -> dict[Id, str]:
        """Items of the whole catalogue that a reader's taste, as far as it is known, points to."""
        if weights_C is None or not self._options.explore_taste:
            return {}
        return dict.fromkeys(served.along(query, weights_C, self._options.explore_taste), _TASTE)

    def _new(self, served: ServedBundle, query: Query, now: int) -> dict[Id, str]:
        """Among new items the newest, and those of the best scores."""
        taken = {str(one) for one in (*served.past(query), *query.exclude)}
        new = [one for one in self._new_items.newest(now) if str(one) not in taken]
        if not new or not self._options.explore_new or query.where is not None:
            return {}
        scores = served.nearness(query, new)
        best = sorted(range(len(new)), key=lambda place: -scores[place])
        newest = range(min(_NEWEST, len(new)))
        places = list(dict.fromkeys([*newest, *best]))[: self._options.explore_new]
        return dict.fromkeys([new[place] for place in places], _NEW)

    def _taste_weights(self, served: ServedBundle, policy: Policy, reader: Reader, now: int) -> Floats | None:
        """Where a reader's taste points to; None where it is not known, or the policy does not learn."""
        taste = reader.taste
        if not policy.learns or taste is None or taste.space != served.space or not served.can_retrieve:
            return None
        rules = self._options.rules
        theta_D = head_weights(reader.head, NUM_FEATURES, now, rules)
        return taste_weights(taste, theta_D, now, rules, ridge=_TASTE_RIDGE)

    def _popular(self, query: Query, wanted: int, *, by_segment: bool) -> tuple[Scored, str]:
        """Lists what is popular with the reader's segment, then with everybody, and names the rung."""
        segment = self._options.rules.segment(query.user, query.context) if by_segment else ""
        names = [SEGMENT, _POPULAR] if segment else [_POPULAR]
        try:
            contents = self._journal.store.get([popular_key(segment), POPULAR][-len(names) :])
        except StoreAway:
            contents = [None]
        gone = {str(one) for one in (*query.exclude, *self._box.current.past(query))}
        scored = Scored([], [], [])
        for name, content in zip(names, contents, strict=False):
            state = PopularState() if content is None else msgspec.msgpack.decode(content, type=PopularState)
            left = [entry for text, entry in state.rewards.items() if text not in gone]
            best = sorted(left, key=lambda entry: (-entry[1], str(entry[0])))
            best = best[: wanted - len(scored.item_ids)]
            gone |= {str(one) for one, _ in best}
            scored.item_ids.extend(one for one, _ in best)
            scored.scores.extend(reward for _, reward in best)
            scored.sources.extend([name] * len(best))
        return scored, SEGMENT if SEGMENT in scored.sources else _POPULAR

    def _believed(self, served: ServedBundle, scored: Scored, reader: Reader, now: int) -> Believed | None:
        """Returns what is believed of candidates; None where there are none."""
        if not scored.item_ids:
            return None
        scores_N = np.array(scored.scores, dtype=np.float64)
        ages = [self._new_items.age_hours(one, now) for one in scored.item_ids]
        features_ND = features_of(scores_N, ages)
        coordinates_NC = served.coordinates_of(scored.item_ids)
        taste = reader.taste if reader.taste is not None and reader.taste.space == served.space else None
        known = Known(self._states(scored.item_ids), reader.head, taste, reader.positions)
        rules = self._options.rules
        believed = beliefs(scores_N, features_ND, coordinates_NC, known, now=now, rules=rules)
        return Believed(scored, features_ND, coordinates_NC, believed)

    def _states(self, item_ids: Sequence[Id]) -> list[ItemRewards | None]:
        """States of items; nothing while the state is away."""
        try:
            contents = self._journal.store.get([item_key(one) for one in item_ids])
        except StoreAway:
            return [None] * len(item_ids)
        return [None if one is None else _items.decode(one) for one in contents]

    def _arm(self, reader: Id | None) -> tuple[str | None, Policy]:
        """The arm of a reader, always the same one, and its policy; somebody unknown draws one."""
        if not self._options.arms:
            return None, self._policy
        digest = hash_of(reader if reader is not None else uuid.uuid4().hex)
        left = int(digest[:8], 16) / 2**32
        names = list(self._options.arms)
        for name in names:
            left -= self._options.arms[name].share
            if left < 0:
                return name, self._policies[name]
        return names[-1], self._policies[names[-1]]  # shares may add up to a little less than 1

    def _chosen(
        self, request: Request, believed: Believed | None, policy: Policy, looked_K: Floats
    ) -> Request:
        """The request with the list that a policy chooses, and all that is needed to judge it."""
        named = f"{self._options.seed}/{request.request_id}/{request.shadow}"
        seed = int.from_bytes(hashlib.blake2b(named.encode(), digest_size=8).digest())
        changes = {
            "policy": policy.name,
            "parameters": policy.parameters,
            "seed": seed,
            "judges_others": policy.judges_others,
        }
        if believed is None:
            return msgspec.structs.replace(request, **changes)
        candidates, scored = believed.beliefs.candidates, believed.scored
        choice = policy.choose(candidates, len(looked_K), np.random.default_rng(seed))
        changes["regret"] = _regret(candidates, choice.positions_K, looked_K)
        coordinates_N = believed.coordinates_NC.astype("<f4")
        items = [
            ShownItem(
                item_id=scored.item_ids[place],
                score=scored.scores[place],
                propensity=propensity,
                propensity_given_above=given_above,
                source=scored.sources[place],
                features=believed.features_ND[place].tolist(),
                expected=float(candidates.utilities[place]),
                looked=looked,
                taste=float(believed.beliefs.taste_N[place]),
                own=float(believed.beliefs.own_N[place]),
                coordinates=coordinates_N[place].tobytes(),
            )
            for place, propensity, given_above, looked in zip(
                choice.positions_K.tolist(),
                choice.propensities_K.tolist(),
                choice.given_above_K.tolist(),
                looked_K.tolist(),
                strict=False,  # there may be fewer candidates than positions
            )
        ]
        size = len(scored.item_ids)
        logged = size if size <= self._options.log_candidates else 0
        utilities_N = candidates.utilities if policy.parameters.get("learning") else candidates.scores_N
        return msgspec.structs.replace(
            request,
            **changes,
            items=items,
            candidates=scored.item_ids[:logged],
            candidate_scores=utilities_N[:logged].tolist(),
        )


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


def _before(by_rule: Scored, kept: Sequence[bool], scored: Scored, wanted: int) -> Scored:
    """Puts what is popular, as far as it may be shown, before the bundle's own candidates.

    Scores of popular items go on from the bundle's best upwards, in their order.
    """
    first = [place for place, fits in enumerate(kept) if fits]
    taken = {str(by_rule.item_ids[place]) for place in first}
    rest = [place for place, one in enumerate(scored.item_ids) if str(one) not in taken]
    best = max(scored.scores, default=0.0)
    return dataclasses.replace(
        scored,
        item_ids=[*(by_rule.item_ids[n] for n in first), *(scored.item_ids[n] for n in rest)][:wanted],
        scores=[
            *(best + (len(first) - number) / len(first) for number in range(len(first))),
            *(scored.scores[n] for n in rest),
        ][:wanted],
        sources=[*(by_rule.sources[n] for n in first), *(scored.sources[n] for n in rest)][:wanted],
    )


def _joined(served: ServedBundle, query: Query, scored: Scored, more: dict[Id, str]) -> Scored:
    """The candidates and those of `more` that are not among them, with their sources."""
    taken = {str(one) for one in scored.item_ids}
    left = [one for one in more if str(one) not in taken]
    if not left:
        return scored
    return Scored(
        [*scored.item_ids, *left],
        [*scored.scores, *served.scores_of(query, left)],
        [*scored.sources, *(more[one] for one in left)],
        behaviour_weight=scored.behaviour_weight,
        rung=scored.rung,
    )


def _regret(candidates: Candidates, chosen_K: NDArray[np.int64], looked_K: Floats) -> float:
    """By how much the best list by the believed means would earn more than the chosen one, in rewards."""
    if candidates.means_N is None:
        return 0.0
    size = len(chosen_K)
    best_K = np.sort(candidates.means_N)[::-1][:size]
    # The best stand where most is looked at, which by what was learned need not be the first places.
    most_looked_K = np.sort(looked_K[:size])[::-1]
    return float(most_looked_K @ best_K - looked_K[:size] @ candidates.means_N[chosen_K])


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
