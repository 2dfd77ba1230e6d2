"""The log: whether it answers, its topics, and how far the services are in it."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services import lag, outboxes
from services.doctor.findings import Area, Finding, failed, ok, warning
from services.lag import PartitionLag, Trouble
from shared.clock import Clock
from shared.log import Log, LogUnavailable, TopicMissing
from shared.log.topics import TOPICS

_LATE: Final = timedelta(minutes=10)
_STUCK: Final = timedelta(minutes=5)


async def look(log: Log, *, name: str) -> list[Finding]:
    """`name`: what the log is here, for people."""
    try:
        wrong = await log.check_topics(TOPICS)
    except LogUnavailable as error:
        return [
            failed(
                Area.LOG,
                f"{name}: {error}",
                "start the brokers, or correct KAFKA_BOOTSTRAP_SERVERS and the KAFKA_ variables of"
                " TLS and SASL; meanwhile ingest answers 503 and nothing is lost",
            )
        ]
    if not wrong:
        return [ok(Area.LOG, f"{name} answers; {len(TOPICS)} topics are as they must be")]
    return [failed(Area.LOG, sentence, _mend(sentence)) for sentence in wrong]


async def look_at_reading(log: Log, engine: AsyncEngine, clock: Clock) -> list[Finding]:
    """Positions of the services against what the log holds."""
    try:
        found = await lag.survey(log, engine, now=clock())
    except (LogUnavailable, TopicMissing) as error:
        return [failed(Area.INTAKE, f"nobody can tell how far intake is: {error}", "see above")]
    findings = []
    for service in lag.READERS:
        own = [one for one in found if one.service == service]
        findings += _of_service(service, own)
    return findings


def _of_service(service: str, partitions: Sequence[PartitionLag]) -> list[Finding]:
    troubles: defaultdict[Trouble, list[PartitionLag]] = defaultdict(list)
    for one in partitions:
        if one.trouble is not None:
            troubles[one.trouble].append(one)
    findings = []
    if beyond := troubles[Trouble.BEYOND_END]:
        findings.append(
            failed(
                Area.INTAKE,
                f"{service} stands beyond the end of {_names(beyond)}: the log was made anew, or"
                " restored to an earlier moment, and what comes is skipped until it is there again",
                "restore the database of the same moment, or set the positions back:"
                " deploy/runbooks/LogGap.md",
            )
        )
    if cut := troubles[Trouble.CUT_OFF]:
        missing = sum(one.missing for one in cut)
        findings.append(
            failed(
                Area.INTAKE,
                f"{missing:,} records of {_names(cut)} were deleted before {service} took them in",
                "send them again from their source (repeated events count once); raise the"
                " retention: deploy/runbooks/LogGap.md",
            )
        )
    if orphans := troubles[Trouble.NO_READER]:
        waiting = sum(one.records for one in orphans)
        state = failed if waiting else warning
        findings.append(
            state(
                Area.INTAKE,
                f"no process of {service} reads {_names(orphans)}; {waiting:,} records wait",
                f"start {service}; if it runs, look at its log for rebalances",
            )
        )
    waited = {one.partition: one.seconds or 0 for one in partitions}
    late = [one for one in partitions if waited[one.partition] > _LATE.total_seconds()]
    if late:
        oldest = max(waited.values())
        findings.append(
            warning(
                Area.INTAKE,
                f"{service} is behind on {_names(late)}: the oldest record waits for"
                f" {oldest / 60:,.0f} min",
                "deploy/runbooks/LagGrowing.md: another replica, or what it waits for",
            )
        )
    if findings:
        return findings
    waiting = sum(one.records for one in partitions)
    return [ok(Area.INTAKE, f"{service} reads {len(partitions)} partitions; {waiting:,} wait")]


async def look_at_outboxes(connection: AsyncConnection, clock: Clock) -> list[Finding]:
    findings = []
    for one in await outboxes.read(connection):
        age = one.age_seconds(clock())
        if age > _STUCK.total_seconds():
            holder = one.relay or "nobody holds the relay's lock"
            findings.append(
                failed(
                    Area.INTAKE,
                    f"{one.total:,} messages of {one.service} wait in its outbox since"
                    f" {age / 60:,.0f} min ({holder})",
                    f"is the log there, and {one.service} running? perennial outbox",
                )
            )
    return findings or [ok(Area.INTAKE, "nothing is stuck in the outboxes")]


def _names(partitions: Sequence[PartitionLag]) -> str:
    """The topics, with how many of their partitions."""
    counts: defaultdict[str, int] = defaultdict(int)
    for one in partitions:
        counts[one.partition.topic] += 1
    return ", ".join(f"{topic} ({count})" for topic, count in sorted(counts.items()))


def _mend(sentence: str) -> str:
    if "does not exist" in sentence:
        return "perennial migrate"
    if "partitions" in sentence:
        return "kafka-topics.sh --alter --topic ... --partitions ...: more is harmless at any time"
    return "kafka-configs.sh --alter --entity-type topics --entity-name ... --add-config ..."
