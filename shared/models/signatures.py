"""Ed25519 signatures of a model's manifest.

Invariant: pure functions of bytes. A signature covers the manifest's stored bytes, which contain
the digest of the arrays, and is checked before either is parsed. The library is imported only where
a key is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.settings import DEFAULT_MODEL_BYTES

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

SIGNATURE_BYTES = 64
MAX_KEY_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Trust:
    """Which models are loaded.

    max_bytes : largest size of the arrays
    keys      : one of them must have signed the manifest; none = no signature is required
    """

    max_bytes: int = DEFAULT_MODEL_BYTES
    keys: tuple[Ed25519PublicKey, ...] = ()


def read_private(pem: bytes) -> Ed25519PrivateKey:
    """Read a private key.

    raises : ValueError saying what it is instead
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("it is not a private key in PEM") from error
    except TypeError as error:
        raise ValueError("it is encrypted; a key without a passphrase is required") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError("it is a private key, but not an Ed25519 key")
    return key


def read_public(pem: bytes) -> Ed25519PublicKey:
    """Read a public key.

    raises : ValueError saying what it is instead
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("it is not a public key in PEM") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("it is a public key, but not an Ed25519 key")
    return key


def is_signed(data: bytes, signature: bytes, keys: Sequence[Ed25519PublicKey]) -> bool:
    """Return whether one of the keys has signed the data."""
    from cryptography.exceptions import InvalidSignature

    for key in keys:
        try:
            key.verify(signature, data)
        except InvalidSignature:
            continue
        return True
    return False
