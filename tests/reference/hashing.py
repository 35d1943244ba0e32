"""MurmurHash in plain integers, as its authors' sources have it."""

from __future__ import annotations

MASK64, MASK32 = (1 << 64) - 1, (1 << 32) - 1
C1, C2 = 0x87C37B91114253D5, 0x4CF5AD432745937F


def _rotate(word: int, bits: int) -> int:
    return (word << bits | word >> (64 - bits)) & MASK64


def _mix1(word: int) -> int:
    return _rotate(word * C1 & MASK64, 31) * C2 & MASK64


def _mix2(word: int) -> int:
    return _rotate(word * C2 & MASK64, 33) * C1 & MASK64


def _finish(word: int) -> int:
    word = (word ^ word >> 33) * 0xFF51AFD7ED558CCD & MASK64
    word = (word ^ word >> 33) * 0xC4CEB9FE1A85EC53 & MASK64
    return word ^ word >> 33


def murmur3_128(data: bytes, seed: int = 0) -> bytes:
    """The 16 bytes of MurmurHash3_x64_128."""
    h1 = h2 = seed
    full = len(data) // 16 * 16
    for at in range(0, full, 16):
        h1 ^= _mix1(int.from_bytes(data[at : at + 8], "little"))
        h1 = ((_rotate(h1, 27) + h2) * 5 + 0x52DCE729) & MASK64
        h2 ^= _mix2(int.from_bytes(data[at + 8 : at + 16], "little"))
        h2 = ((_rotate(h2, 31) + h1) * 5 + 0x38495AB5) & MASK64
    h2 ^= _mix2(int.from_bytes(data[full + 8 :], "little"))
    h1 ^= _mix1(int.from_bytes(data[full : full + 8], "little"))
    h1 ^= len(data)
    h2 ^= len(data)
    h1 = (h1 + h2) & MASK64
    h2 = (h2 + h1) & MASK64
    h1, h2 = _finish(h1), _finish(h2)
    h1 = (h1 + h2) & MASK64
    h2 = (h2 + h1) & MASK64
    return h1.to_bytes(8, "little") + h2.to_bytes(8, "little")


def murmur2(data: bytes) -> int:
    """Kafka's Utils.murmur2 as a Java int."""
    h = 0x9747B28C ^ len(data)
    full = len(data) // 4 * 4
    for at in range(0, full, 4):
        k = int.from_bytes(data[at : at + 4], "little") * 0x5BD1E995 & MASK32
        k = (k ^ k >> 24) * 0x5BD1E995 & MASK32
        h = (h * 0x5BD1E995 & MASK32) ^ k
    if full < len(data):
        h = (h ^ int.from_bytes(data[full:], "little")) * 0x5BD1E995 & MASK32
    h = (h ^ h >> 13) * 0x5BD1E995 & MASK32
    h ^= h >> 15
    return h - (1 << 32) if h >= 1 << 31 else h


def event_id(
    topic: str, partition: int, offset: int, detector_id: str, kind: str, entity: str, metric: str
) -> str:
    parts = (topic, str(partition), str(offset), detector_id, kind, entity, metric)
    return murmur3_128("\0".join(parts).encode()).hex()
