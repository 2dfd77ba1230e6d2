"""The topics of Perennial and their settings. A job creates them; the services only check."""

from datetime import timedelta

from shared import messages
from shared.log import Topic

TOPICS: tuple[Topic, ...] = (
    # Growing the number of partitions later is harmless (state is per account), shrinking is not.
    Topic(name=messages.USAGE_EVENTS, partitions=12, retention=timedelta(days=7)),
    # What accounts send beyond their share, so that the others' events do not wait behind it.
    Topic(name=messages.USAGE_EVENTS_OVERFLOW, partitions=12, retention=timedelta(days=7)),
    # Of a user and no account, by user; with its account an event goes on to usage-events.
    Topic(name=messages.UNPLACED_EVENTS, partitions=12, retention=timedelta(days=7)),
    Topic(name=messages.DIRECTORY_CHANGES, partitions=6, retention=timedelta(days=30)),
    Topic(name=messages.ACCOUNTS, partitions=6, retention=None, compacted=True),
    Topic(name=messages.FLAGS, partitions=6, retention=timedelta(days=14)),
    Topic(name=messages.OUTCOMES, partitions=6, retention=timedelta(days=14)),
    Topic(name=messages.REJECTED, partitions=3, retention=timedelta(days=14)),
    Topic(name=messages.SOURCES, partitions=1, retention=None, compacted=True),
)
