"""KafkaLog: the log as a topic of one partition, with any broker that speaks Kafka's protocol.

One partition keeps one order; a feedback log of one product fits into it many times over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recsys.serving.extras import optional_module
from recsys.serving.store.interface import StoreAway

_SECONDS = 10.0
_FETCH_MILLISECONDS = 10
_LINGER_SECONDS = 0.05


class KafkaLog:
    """Records in a topic; see `recsys.serving.log.interface.FeedbackLog`.

    Position n is offset n - 1. Appending waits until all in-sync replicas have it.

    Args:
        servers: as in `localhost:9092`.
        topic: made when it is missing.
    """

    def __init__(self, servers: str, *, topic: str = "recsys-feedback") -> None:
        self._kafka = optional_module("confluent_kafka", extra="kafka", wanted="`log=kafka`")
        admin = optional_module("confluent_kafka.admin", extra="kafka", wanted="`log=kafka`")
        self._topic = topic
        quiet = {"bootstrap.servers": servers, "log_level": 0}
        self._producer = self._kafka.Producer(
            {**quiet, "acks": "all", "enable.idempotence": True, "linger.ms": 0, "message.timeout.ms": 10_000}
        )
        self._consumer = self._kafka.Consumer(
            {
                **quiet,
                "group.id": "recsys",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": _FETCH_MILLISECONDS,
            }
        )
        client = admin.AdminClient(quiet)
        for made in client.create_topics([admin.NewTopic(topic, 1, 1)]).values():
            try:
                made.result(timeout=_SECONDS)
            except self._kafka.KafkaException as error:
                if error.args[0].code() != self._kafka.KafkaError.TOPIC_ALREADY_EXISTS:
                    raise StoreAway(f"Kafka cannot be reached: {error}") from error
        self._next: int | None = None

    def append(self, records: Sequence[bytes]) -> list[int]:
        """Sends records and waits for the broker's acknowledgements."""
        positions: list[int] = []
        errors: list[Any] = []

        def acknowledged(error: Any, message: Any) -> None:
            if error is None:
                positions.append(message.offset() + 1)
            else:
                errors.append(error)

        for content in records:
            self._producer.produce(self._topic, content, partition=0, on_delivery=acknowledged)
        self._producer.flush(2 * _SECONDS)
        if errors or len(positions) < len(records):
            raise StoreAway(f"Kafka did not acknowledge: {errors[0] if errors else 'no answer in time'}")
        return sorted(positions)

    def read(self, after: int, *, limit: int = 1000) -> list[tuple[int, bytes]]:
        """Records after a position."""
        high = self._high()
        if self._next != after:
            self._consumer.assign([self._kafka.TopicPartition(self._topic, 0, after)])
        self._next = after
        records: list[tuple[int, bytes]] = []
        while len(records) < limit:
            is_due = self._next < high
            # One by one, for a message beyond the limit could not be put back.
            message = self._consumer.poll(_SECONDS if is_due else _LINGER_SECONDS)
            if message is None and not is_due:
                break
            if message is None or message.error() is not None:
                raise StoreAway(f"Kafka does not answer: {message and message.error()}")
            self._next = message.offset() + 1
            records.append((self._next, message.value()))
        return records

    def _high(self) -> int:
        """Position up to which there are records for sure.

        NOTE: tansu 0.6 says the first offset of the last batch, so whoever reads lingers for more.
        """
        partition = self._kafka.TopicPartition(self._topic, 0)
        try:
            return int(self._consumer.get_watermark_offsets(partition, timeout=_SECONDS)[1])
        except self._kafka.KafkaException as error:
            raise StoreAway(f"Kafka cannot be reached: {error}") from error

    def end(self) -> int:
        """Position of the last record that was appended."""
        last = max(self._high() - 1, 0)
        while batch := self.read(last):
            last = batch[-1][0]
        return last

    def forget(self, user_hash: str) -> int:
        """Deletes nothing: a topic cannot; readers leave out who is to be forgotten."""
        return 0

    def trim(self, before: int) -> int:
        """Deletes nothing: the topic's own `retention.ms` does."""
        return 0

    def size_bytes(self) -> int:
        """0: the broker does not say."""
        return 0

    def close(self) -> None:
        """Closes the connections."""
        self._producer.flush(_SECONDS)
        self._consumer.close()
