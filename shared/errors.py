"""The error tree; ``retriable`` tells whether a failed call may be retried.

LapwingError
├── ConfigError            a wrong setting: which, and what is allowed                    exit 2
│   └── SchemaRefused          the registry does not accept the schema in the subject
├── DataError              a file that cannot be read: which file, which line             exit 2
├── TransportError         broker or registry did not answer (``retriable`` by its code)
│   ├── TransactionAborted     the transaction must be aborted and rebuilt
│   ├── TransactionInDoubt     unknown whether it was committed: the producer is replaced
│   ├── ProducerFenced         a newer producer owns this transactional.id
│   ├── NotAuthenticated       wrong certificate, password or token, or one that has expired
│   └── NotAuthorized          the principal lacks a right (`lapwing topics acls` lists them)
├── GuardError             continuing would give silently wrong results: the service stops
│   ├── TopicMismatch          a topic is missing or has another partition count
│   ├── TopicRecreated         the input was deleted and recreated under the same name
│   ├── PositionGone           the group has results of a partition, but no position in it
│   ├── HistoryGone            records that the state needs are no longer in the topic
│   ├── PartitionerMismatch    a key is in another partition than input.partitioner computes
│   ├── SchemaNotAllowed       a writer schema is not in input.schema_fingerprints
│   └── NewerVersion           a newer version of this code wrote a position or a snapshot
├── NotComparable          a verdict cannot be computed again: other state version or history
├── ArtifactMissing        no model has been published yet
├── ArtifactRefused        a model failed a check; the last good model is kept
└── SnapshotRefused        a snapshot failed a check; an older one or a replay replaces it

An invalid *record* is a value (``shared.events.Reason``), not an error; it becomes a dead letter.
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
    """The registry refuses a schema; ``level`` is the compatibility level of ``subject``."""

    def __init__(self, message: str, subject: str, level: str) -> None:
        super().__init__(message)
        self.subject = subject
        self.level = level


class DataError(LapwingError):
    """An input file cannot be used; the message names the file and the line."""

    exit_code = 2


class TransportError(LapwingError):
    """A broker or registry call failed; ``retriable`` tells whether it may be retried."""

    def __init__(self, message: str, *, retriable: bool = True) -> None:
        super().__init__(message)
        self.retriable = retriable


class TransactionAborted(TransportError):
    """The open transaction cannot be committed: abort it, drop the state, rebuild."""


class TransactionInDoubt(TransportError):
    """A commit, abort or send_offsets ended without an answer: replace the producer."""


class ProducerFenced(TransportError):
    """A newer producer with the same transactional.id has taken over; this process must end."""

    def __init__(self, message: str) -> None:
        super().__init__(message, retriable=False)


class NotAuthenticated(TransportError):
    """Broker or registry does not accept the certificate, password or token."""

    def __init__(self, message: str, *, retriable: bool = False) -> None:
        super().__init__(message, retriable=retriable)


class NotAuthorized(TransportError):
    """The principal of this process lacks a right."""

    def __init__(self, message: str) -> None:
        super().__init__(message, retriable=False)


class GuardError(LapwingError):
    """Continuing would give silently wrong results; the service stops with the reason."""


class TopicMismatch(GuardError):
    """A topic is missing or not as it must be; the message says what to run."""


class TopicRecreated(GuardError):
    """The input topic was recreated: positions and snapshots are about deleted records."""


class PositionGone(GuardError):
    """The group's position is missing: starting at the beginning would score records again."""


class HistoryGone(GuardError):
    """Input records that the state depends on were deleted by retention."""


class PartitionerMismatch(GuardError):
    """A record is not in its key's partition, so that its entity may have two histories."""


class SchemaNotAllowed(GuardError):
    """A record was written with a schema that the settings do not allow."""


class NewerVersion(GuardError):
    """A position or a snapshot was written by a newer version of this code."""


class NotComparable(LapwingError):
    """A verdict was computed by another state version, or under another history."""


class ArtifactMissing(LapwingError):
    """No model has been published yet; the service waits and reports that."""

    retriable = True


class ArtifactRefused(LapwingError):
    """A model artefact failed a check; the message says which file and which check."""


class SnapshotRefused(LapwingError):
    """A snapshot failed a check and is skipped."""
