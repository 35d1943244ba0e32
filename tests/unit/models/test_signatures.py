"""Signed models: made by whom, believed by whom, and what is said of the others."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from consumer_prediction.models import ModelVolume
from lapwing.doctor.files import check_model
from shared import artifacts
from shared.artifacts import published
from shared.errors import ArtifactRefused, ConfigError
from shared.events import Detector
from shared.models.model import Model
from shared.models.signatures import Trust
from shared.operations.counters import MODEL_RELOADS, Counters
from shared.settings import ModelSettings, load_settings
from tests.support.models import trained
from tests.support.programs import run_code

ROOT = Path(__file__).parents[3]
OURS, OTHERS, NEXT = (
    Ed25519PrivateKey.from_private_bytes(bytes([number] * 32)) for number in (1, 2, 3)
)


def publish(folder: Path, key: Ed25519PrivateKey | None, seed: int = 0) -> Model:
    result = trained(Detector.ISOLATION_FOREST)
    return artifacts.publish(folder, result.model, {"seed": seed}, result.canary, key=key)


def trust(*keys: Ed25519PrivateKey) -> Trust:
    return Trust(keys=tuple(key.public_key() for key in keys))


def private_pem(
    folder: Path, name: str, key: Ed25519PrivateKey, password: bytes | None = None
) -> str:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    (folder / name).write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    return str(folder / name)


def public_pem(folder: Path, name: str, key: Ed25519PrivateKey) -> str:
    (folder / name).write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return str(folder / name)


# -- signatures ------------------------------------------------------------------------------------


def test_signed_model_is_believed_by_who_has_the_key_and_by_who_asks_for_none(
    tmp_path: Path,
) -> None:
    model = publish(tmp_path, OURS)
    assert (tmp_path / model.sha256 / "manifest.sig").stat().st_size == 64
    for believed in (trust(OURS), trust(OTHERS, OURS), Trust()):
        assert artifacts.load(tmp_path, model.sha256, believed).sha256 == model.sha256
        assert artifacts.manifest(tmp_path, model.sha256, believed)["seed"] == 0


def test_signing_changes_no_name(tmp_path: Path) -> None:
    assert publish(tmp_path / "a", OURS).sha256 == publish(tmp_path / "b", None).sha256


def test_unsigned_model_is_refused(tmp_path: Path) -> None:
    model = publish(tmp_path, None)
    with pytest.raises(
        ArtifactRefused,
        match=rf"{model.sha256}: manifest.sig: it does not exist, but models.trusted_keys requires",
    ):
        artifacts.load(tmp_path, model.sha256, trust(OURS))
    with pytest.raises(ArtifactRefused, match=r"manifest.sig: it does not exist"):
        artifacts.manifest(tmp_path, model.sha256, trust(OURS))


@pytest.mark.parametrize("wrong", ["key", "manifest", "bit", "cut", "long", "empty"])
def test_wrong_signature_is_refused(tmp_path: Path, wrong: str) -> None:
    model = publish(tmp_path, OURS)
    manifest, path = (
        tmp_path / model.sha256 / "manifest.json",
        tmp_path / model.sha256 / "manifest.sig",
    )
    right = path.read_bytes()
    path.write_bytes(
        {
            "key": OTHERS.sign(manifest.read_bytes()),
            "manifest": OURS.sign(manifest.read_bytes() + b" "),
            "bit": bytes([right[0] ^ 1]) + right[1:],
            "cut": right[:63],
            "long": right + b"\n",
            "empty": b"",
        }[wrong]
    )
    text = (
        "it is larger than 64 bytes"
        if wrong == "long"
        else "it is not a signature of manifest.json by a key of models.trusted_keys"
    )
    with pytest.raises(ArtifactRefused, match=rf"{model.sha256}: manifest.sig: {text}"):
        artifacts.load(tmp_path, model.sha256, trust(OURS, NEXT))
    artifacts.load(tmp_path, model.sha256)


def test_changed_manifest_is_refused_before_it_is_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = publish(tmp_path, OURS)
    path = tmp_path / model.sha256 / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b'"seed": 0', b'"seed": 1'))
    monkeypatch.setattr(published, "decode_manifest", None)
    with pytest.raises(ArtifactRefused, match=r"not a signature of manifest.json"):
        artifacts.load(tmp_path, model.sha256, trust(OURS))


def test_changed_arrays_are_refused_although_the_manifest_is_signed(tmp_path: Path) -> None:
    model = publish(tmp_path, OURS)
    path = tmp_path / model.sha256 / "model.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtifactRefused, match=r"model.npz: digest"):
        artifacts.load(tmp_path, model.sha256, trust(OURS))


def test_key_is_rotated(tmp_path: Path) -> None:
    """Both keys are trusted, then the new one signs, then the old one goes."""
    old = publish(tmp_path, OURS)
    artifacts.load(tmp_path, old.sha256, trust(OURS, NEXT))
    new = publish(tmp_path, NEXT, seed=1)
    for model in (old, new):
        artifacts.load(tmp_path, model.sha256, trust(OURS, NEXT))
    artifacts.load(tmp_path, new.sha256, trust(NEXT))
    with pytest.raises(ArtifactRefused, match=r"manifest.sig"):
        artifacts.load(tmp_path, old.sha256, trust(NEXT))


@pytest.mark.parametrize("first", [None, OURS])
def test_publishing_the_same_model_signs_it_anew_and_touches_nothing_else(
    tmp_path: Path, first: Ed25519PrivateKey | None
) -> None:
    model = publish(tmp_path, first)
    artifacts.attach(tmp_path, model.sha256, "report", {"report.json": b"{}"})
    before = (tmp_path / model.sha256 / "model.npz").stat()
    assert publish(tmp_path, NEXT).sha256 == model.sha256
    artifacts.load(tmp_path, model.sha256, trust(NEXT))
    assert (tmp_path / model.sha256 / "model.npz").stat().st_ino == before.st_ino
    assert (tmp_path / model.sha256 / "report" / "report.json").exists()
    signed = (tmp_path / model.sha256 / "manifest.sig").stat()
    publish(tmp_path, NEXT)
    assert (tmp_path / model.sha256 / "manifest.sig").stat().st_ino == signed.st_ino
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([model.sha256, "CURRENT"])


# -- keys ------------------------------------------------------------------------------------------


def test_settings_name_keys(tmp_path: Path) -> None:
    one, two = public_pem(tmp_path, "one.pem", OURS), public_pem(tmp_path, "two.pem", OTHERS)
    secret = private_pem(tmp_path, "secret.pem", OURS)
    environ = {
        "LAPWING_MODELS__TRUSTED_KEYS": f"{one}, {two}",
        "LAPWING_MODELS__SIGN_KEY": secret,
        "LAPWING_MODELS_DIR": "/m",
    }
    settings = load_settings(environ=environ | {"LAPWING_MODELS__MAX_BYTES": "70000"})
    assert settings.models_dir == Path("/m")
    read = artifacts.trust(settings.models)
    assert read == Trust(70_000, (OURS.public_key(), OTHERS.public_key()))
    key = artifacts.signing_key(settings.models)
    assert key is not None
    assert key.public_key() == OURS.public_key()
    assert artifacts.trust(ModelSettings()) == Trust()
    assert artifacts.signing_key(ModelSettings()) is None


def test_wrong_key_files_name_setting_and_file(tmp_path: Path) -> None:
    rsa = generate_private_key(65537, 2048)
    (tmp_path / "rsa.pem").write_bytes(
        rsa.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    (tmp_path / "rsa.pub").write_bytes(
        rsa.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    (tmp_path / "text.pem").write_text("hello")
    (tmp_path / "huge.pem").write_bytes(b" " * 70_000)
    private_pem(tmp_path, "ours.pem", OURS)
    private_pem(tmp_path, "locked.pem", OURS, b"word")
    public_pem(tmp_path, "ours.pub", OURS)
    for name, text in {
        "absent.pem": "does not exist",
        "": "it is not a regular file",
        "text.pem": "it is not a private key in PEM",
        "ours.pub": "it is not a private key in PEM",
        "rsa.pem": "not an Ed25519 key",
        "locked.pem": "it is encrypted",
        "huge.pem": "larger than 65536 bytes",
    }.items():
        with pytest.raises(ConfigError, match=rf"models.sign_key: {tmp_path / name}.*{text}"):
            artifacts.signing_key(ModelSettings(sign_key=str(tmp_path / name)))
    for name, text in {
        "absent.pem": "does not exist",
        "text.pem": "it is not a public key in PEM",
        "ours.pem": "it is not a public key in PEM",
        "rsa.pub": "not an Ed25519 key",
    }.items():
        with pytest.raises(ConfigError, match=rf"models.trusted_keys: {tmp_path / name}.*{text}"):
            artifacts.trust(
                ModelSettings(trusted_keys=(str(tmp_path / "ours.pub"), str(tmp_path / name)))
            )


def test_training_does_not_publish_what_nobody_would_load(tmp_path: Path) -> None:
    trusted = public_pem(tmp_path, "ours.pub", OURS)
    with pytest.raises(
        ConfigError, match=r"models.sign_key is empty, but models.trusted_keys is not"
    ):
        artifacts.signing_key(ModelSettings(trusted_keys=(trusted,)))
    other = private_pem(tmp_path, "other.pem", OTHERS)
    with pytest.raises(
        ConfigError,
        match=rf"models.sign_key: {other}: its public key is not in models.trusted_keys",
    ):
        artifacts.signing_key(ModelSettings(sign_key=other, trusted_keys=(trusted,)))


def test_library_is_not_loaded_without_a_key() -> None:
    code = (
        "import sys, consumer_prediction.models;"
        " print('cryptography.hazmat.primitives.asymmetric.ed25519' in sys.modules)"
    )
    ran = run_code(code)
    assert ran.stdout == "False\n"


def test_doctor_says_what_a_predictor_would(tmp_path: Path) -> None:
    publish(tmp_path / "models", OURS)
    trusted, other = (
        public_pem(tmp_path, "ours.pub", OURS),
        public_pem(tmp_path, "others.pub", OTHERS),
    )
    for keys, result, text in (
        (trusted, "ok", "loads: isolation_forest"),
        (other, "failed", "manifest.sig: it is not a signature of manifest.json"),
        (str(tmp_path / "absent.pub"), "failed", "models.trusted_keys: "),
    ):
        flags = {
            "models_dir": tmp_path / "models",
            "detector": "isolation_forest",
            "models": {"trusted_keys": keys},
        }
        found = check_model(load_settings(flags, environ={}))
        assert (found.result, text in found.message) == (result, True), found.message


# -- predictors ------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def volume(tmp_path: Path, clock: Clock, counters: Counters) -> ModelVolume:
    settings = ModelSettings(trusted_keys=(public_pem(tmp_path, "ours.pub", OURS),))
    return ModelVolume(tmp_path / "models", 1.0, clock, counters, settings)


def test_last_signed_model_goes_on_when_an_unsigned_one_is_current(tmp_path: Path) -> None:
    clock, counters = Clock(), Counters()
    models = volume(tmp_path, clock, counters)
    good = publish(tmp_path / "models", OURS)
    first = models.newest()
    assert first is not None
    publish(tmp_path / "models", OTHERS, seed=1)
    for _ in range(3):
        clock.now_s += 2
        assert models.newest() is first
    assert counters.value(MODEL_RELOADS, "refused") == 1
    with pytest.raises(ArtifactRefused, match=r"manifest.sig"):
        models.load(artifacts.current(tmp_path / "models") or "")
    publish(tmp_path / "models", OURS, seed=1)
    clock.now_s += 2
    newest = models.newest()
    assert newest is not None
    assert newest.sha256 not in ("", good.sha256)


def test_refused_candidate_is_left_alone_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, calls = Clock(), list[float]()
    models = volume(tmp_path, clock, Counters())
    publish(tmp_path / "models", None)

    def slow(folder: Path, sha256: str, trust: Trust) -> Model:
        calls.append(clock.now_s)
        clock.now_s += 0.25
        return artifacts.load(folder, sha256, trust)

    monkeypatch.setattr("consumer_prediction.models.load_model", slow)
    while clock.now_s < 100:
        assert models.newest() is None
        clock.now_s += 1
    assert 15 <= len(calls) <= 20
    publish(tmp_path / "models", OURS, seed=1)
    clock.now_s += 1
    assert models.newest() is not None  # another name is looked at at once


def test_candidates_that_are_refused_displace_no_good_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = volume(tmp_path, Clock(), Counters())
    good = [models.load(publish(tmp_path / "models", OURS, seed).sha256) for seed in range(4)]
    with pytest.raises(ArtifactRefused):
        models.load(publish(tmp_path / "models", OTHERS, 9).sha256)
    monkeypatch.setattr("consumer_prediction.models.load_model", None)
    assert all(models.load(model.sha256) is model for model in good)
