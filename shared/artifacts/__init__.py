"""Published models on a shared volume: immutable folders, and ``CURRENT``, which names one of them.

Invariant: a folder appears under its name only when it is complete, and its files never change,
except that a signature may be replaced by another one of the same manifest. A model is checked
before it is used: the manifest's digest and signature, the size of the arrays, their digest, and
then each array. ``shared.models.artifact_format`` explains why a malicious file can neither crash
the reader nor fill its memory. Only regular files are read, without blocking and without mapping.

Layout: <models>/CURRENT                  the 64 hex digits of the current artefact
        <models>/<sha256>/manifest.json   description of the model; its SHA-256 is the folder's name
                          manifest.sig    Ed25519 signature of manifest.json, 64 bytes; only with
                                          models.sign_key
                          model.npz       the arrays; the manifest has their size and SHA-256
                          estimator.joblib   for people; never read here
                          report/            for people; added later
"""

from shared.artifacts.published import (
    ARRAYS,
    CURRENT,
    MANIFEST,
    SIGNATURE,
    attach,
    check_writable,
    current,
    load,
    manifest,
    prune,
    publish,
    published_s,
    signing_key,
    trust,
)

__all__ = [
    "ARRAYS",
    "CURRENT",
    "MANIFEST",
    "SIGNATURE",
    "attach",
    "check_writable",
    "current",
    "load",
    "manifest",
    "prune",
    "publish",
    "published_s",
    "signing_key",
    "trust",
]
