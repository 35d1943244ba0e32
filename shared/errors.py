"""The error tree; whether a failed call may be tried again is said once, by ``retriable`` on the
root.

LapwingError
├── ConfigError            a setting that is wrong: which, and what is allowed            exit 2
│   └── SchemaRefused          the registry takes no such schema into the subject
├── DataError              a file that cannot be read: which file, which line             exit 2
├── TransportError         broker or registry did not answer (``retriable`` by its code)
│   ├── TransactionAborted     the transaction must be aborted and rebuilt
│   ├── TransactionInDoubt     nobody knows whether it was committed: the producer is thrown away
│   └── ProducerFenced         a newer producer owns this transactional.id
├── GuardError             going on would give silently wrong results, so the service stops
│   ├── TopicMismatch          a topic is missing or has another partition count
│   ├── TopicRecreated         the input was deleted and made anew under the same name
│   ├── PositionGone           the group has results about a partition, but no position in it
│   ├── HistoryGone            records that the state needs are no longer in the topic
│   ├── PartitionerMismatch    a key lies in a partition where input.partitioner says it cannot be
│   ├── SchemaNotAllowed       a writer schema is not in input.schema_fingerprints
│   └── NewerVersion           a newer version of this code has left a position or a snapshot
├── ArtifactMissing        no model has been published yet
├── ArtifactRefused        a model failed a check; the last good one goes on
└── SnapshotRefused        a snapshot failed a check; an older one or a replay takes its place

A bad *record* is not in this tree: it is a value (``shared.events.Reason``) and goes to the dead
letters.
"""

from __future__ import annotations


class LapwingError(Exception):
    """Root of everything Lapwing raises on purpose."""

    retriable = False
    exit_code = 1


class ConfigError(LapwingError):
    """A setting is unknown, impossible or contradicts another one."""

    exit_code = 2


class SchemaRefused(ConfigError):
    """The registry refuses a schema; ``subject`` holds others, and ``level`` is what they ask of a
    new one.
    """

    def __init__(self, message: str, subject: str, level: str) -> None:
        super().__init__(message)
        self.subject = subject
        self.level = level


class DataError(LapwingError):
    """An input file cannot be used; the message names the file and the line."""

    exit_code = 2


class TransportError(LapwingError):
    """A broker or registry call failed; ``retriable`` says whether it may be tried again."""

    def __init__(self, message: str, *, retriable: bool = True) -> None:
        super().__init__(message)
        self.retriable = retriable


class TransactionAborted(TransportError):
    """The open transaction cannot be committed: abort it, drop the state, rebuild."""


class TransactionInDoubt(TransportError):
    """A commit, abort or send_offsets ended without an answer: the producer must be thrown away."""


class ProducerFenced(TransportError):
    """A newer producer with the same transactional.id has taken over; this process must end."""

    def __init__(self, message: str) -> None:
        super().__init__(message, retriable=False)


class GuardError(LapwingError):
    """Going on would be silently wrong; the service stops and says why."""


class TopicMismatch(GuardError):
    """A topic is missing or does not look as it must; the message says what to run."""


class TopicRecreated(GuardError):
    """The input topic was deleted and made anew: positions and snapshots are about records that are
    no longer there.
    """


class PositionGone(GuardError):
    """The group's position was removed: to begin at the start of the log would score records a
    second time.
    """


class HistoryGone(GuardError):
    """Input records that the state depends on were deleted by retention."""


class PartitionerMismatch(GuardError):
    """A record lies in another partition than its key belongs to, so its entity may have two
    histories.
    """


class SchemaNotAllowed(GuardError):
    """A record was written with a schema that the settings do not allow."""


class NewerVersion(GuardError):
    """A position or a snapshot was written by a newer version of this code."""


class ArtifactMissing(LapwingError):
    """No model has been published: wait, visibly."""

    retriable = True


class ArtifactRefused(LapwingError):
    """A model artefact failed a check; the message says which file and which check."""


class SnapshotRefused(LapwingError):
    """A snapshot failed a check; it is passed over."""
