"""Candidates of a replay: each dead letter with the bytes, key and partition to send.

Invariant: a record goes back to the partition it came from, whatever partitioner its producer uses;
input.partitioner decides only for a new key or an unknown source.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

import numpy as np

from lapwing.dlq.letters import Filters, Letter
from lapwing.dlq.record import Verdict, decoder_of, to_avro, verdicts_of
from shared.decode.avro.framing import frame_of
from shared.decode.avro.misplaced import is_schema_header
from shared.decode.avro.plan import record_of
from shared.decode.avro.schema import SchemaInvalid, parse_schema
from shared.encode.records import encode_records
from shared.errors import ConfigError, DataError, TransportError
from shared.events import Reason
from shared.kafka import Admin
from shared.kernels.hashing import murmur2_partitions
from shared.registry import Registry
from shared.settings import Settings


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """Options of ``lapwing dlq replay``.

    partition, offset : one dead letter; None = those that match ``filters``
    value_file        : corrected bytes in Confluent's wire format
    json_file         : corrected record as JSON
    schema_id         : Avro writer schema of json_file; None = the dead letter's own, or the
                        input's newest
    key               : replaces the dead letter's key
    limit             : most dead letters to send
    """

    partition: int | None = None
    offset: int | None = None
    filters: Filters = field(default_factory=Filters)
    value_file: Path | None = None
    json_file: Path | None = None
    schema_id: int | None = None
    key: str | None = None
    force: bool = False
    again: bool = False
    dry_run: bool = False
    limit: int = 10_000
    as_json: bool = False

    def check(self) -> None:
        """Check that the options fit together; raises ConfigError."""
        is_single = self.partition is not None
        if is_single and self.offset is None:
            raise ConfigError(
                "PARTITION OFFSET: give both, as in dlq[PARTITION]@OFFSET of `lapwing dlq list`"
            )
        if is_single == bool(self.filters):
            raise ConfigError("give either PARTITION OFFSET, or --reason, --key or --since")
        if self.value_file is not None and self.json_file is not None:
            raise ConfigError("--value-file and --json-file exclude each other")
        named = {
            "--value-file": self.value_file,
            "--json-file": self.json_file,
            "--new-key": self.key,
        }
        given = [name for name, value in named.items() if value is not None]
        if given and not is_single:
            raise ConfigError(f"{given[0]} corrects one record: give PARTITION OFFSET")
        if self.schema_id is not None and self.json_file is None:
            raise ConfigError("--schema-id is the writer schema of --json-file, which is not given")


@dataclass(slots=True)
class Candidate:
    """A dead letter and the record to send for it.

    target   : partition of its source, or of its new key; None = any, because both are unknown
    refusal  : why it is not sent; empty = it is sent
    headers  : to be sent with it
    sent     : whether the broker has acknowledged it
    position : its partition and offset, once read back
    """

    letter: Letter
    value: bytes
    key: bytes
    corrected: bool
    verdict: Verdict
    target: int | None
    refusal: str = ""
    headers: Sequence[tuple[str, bytes]] = ()
    sent: bool = False
    position: tuple[int, int] | None = None


class InputSchemas(Registry):
    """A registry client that also returns the newest schema of a subject."""

    def newest(self, subject: str) -> tuple[int, str]:
        """Return id and text; raises TransportError, also if the subject does not exist."""
        found = self._call(
            f"newest schema of {subject}", lambda client: client.get_latest_version(subject)
        )
        if found.schema_id is None or found.schema is None or found.schema.schema_str is None:
            raise TransportError(
                f"{self.address}: newest schema of {subject}: the answer is incomplete",
                retriable=False,
            )
        return found.schema_id, found.schema.schema_str


def input_partitions(settings: Settings) -> int:
    """Return the input's number of partitions; raises TransportError, TopicMismatch."""
    admin = Admin(settings)
    try:
        return admin.partitions(settings.topics.input)
    finally:
        admin.close()


def candidates_of(
    settings: Settings,
    options: ReplayOptions,
    letters: Sequence[Letter],
    registry: InputSchemas,
    count: int,
) -> list[Candidate]:
    """Return what would be sent for each dead letter, corrected and decoded.

    count  : number of partitions of the input
    raises : ConfigError, DataError, TransportError
    """
    corrected = _corrected(settings, options, letters[0], registry)
    values = [letter.value for letter in letters] if corrected is None else [corrected]
    keys = [letter.key for letter in letters] if options.key is None else [options.key.encode()]
    headers = [headers_of(letter, framed=options.json_file is not None) for letter in letters]
    verdicts = verdicts_of(values, decoder_of(settings.input, registry), headers)
    return [
        Candidate(
            one,
            value,
            key,
            corrected is not None,
            verdict,
            _target(settings, options, one, key, count),
            headers=pairs,
        )
        for one, value, key, verdict, pairs in zip(
            letters, values, keys, verdicts, headers, strict=True
        )
    ]


def headers_of(letter: Letter, *, framed: bool) -> list[tuple[str, bytes]]:
    """Return the headers to send with a record.

    framed : the record has a schema id in front of its value, so that those in headers are left out
    """
    headers = letter.original_headers()
    return [pair for pair in headers if not (framed and is_schema_header(pair[0]))]


def _target(
    settings: Settings, options: ReplayOptions, letter: Letter, key: bytes, count: int
) -> int | None:
    """Return the partition of the entity's other records, if it can be determined."""
    source = letter.details["source_partition"]
    here = options.key is None and letter.details["source_topic"] == settings.topics.input
    if here and source is not None and 0 <= source < count:
        return int(source)
    return partition_of_key(key, settings.input.partitioner, count) if key else None


def partition_of_key(key: bytes, partitioner: str, partitions: int) -> int:
    """Return the partition of a key by input.partitioner; unchecked means murmur2."""
    if partitioner == "crc32":
        return crc32(key) % partitions
    found = np.zeros(1, np.int64)
    murmur2_partitions(np.frombuffer(key, np.uint8), np.array([0, len(key)]), partitions, found)
    return int(found[0])


def _corrected(
    settings: Settings, options: ReplayOptions, letter: Letter, registry: InputSchemas
) -> bytes | None:
    if options.value_file is not None:
        try:
            return options.value_file.read_bytes()
        except OSError as error:
            raise DataError(
                f"--value-file {options.value_file}: it cannot be read: {error.strerror}"
            ) from error
    if options.json_file is None:
        return None
    place = f"--json-file {options.json_file}"
    try:
        record = json.loads(options.json_file.read_text("utf-8-sig"))
    except OSError as error:
        raise DataError(f"{place}: it cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: it is not JSON: {error}") from error
    if settings.input.format == "json":
        if options.schema_id is not None:
            raise ConfigError("--schema-id: records of input.format=json have no schema")
        return json.dumps(record).encode()
    schema_id, text = _writer_schema(settings, options, letter, registry)
    try:
        written = parse_schema(text)
        avro = record_of(written) or written
        return encode_records(text, schema_id, [to_avro(avro, record, avro.name)])[0]
    except SchemaInvalid as error:
        raise DataError(f"{place}: schema id {schema_id} is not Avro: {error}") from error
    except (ValueError, OverflowError) as error:
        raise DataError(f"{place}: schema id {schema_id}: {error}") from error


def _writer_schema(
    settings: Settings, options: ReplayOptions, letter: Letter, registry: InputSchemas
) -> tuple[int, str]:
    """Return the requested schema, else the record's own, else the input's newest."""
    if options.schema_id is not None:
        text = registry.schema(options.schema_id)
        if text is None:
            raise ConfigError(
                f"--schema-id {options.schema_id}: {registry.address} does not know it"
            )
        return options.schema_id, text
    frame = frame_of(letter.value, letter.original_headers(), settings.input.schema_ids)
    own = None if frame is None else frame.key
    if isinstance(own, int) and letter.reason != Reason.SCHEMA_UNFIT.code:
        text = registry.schema(own)
        if text is not None:
            return own, text
    return registry.newest(f"{settings.topics.input}-value")
