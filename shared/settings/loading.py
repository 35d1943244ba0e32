"""All settings as one value, and where they come from.

Invariant: ``load_settings`` is the one place where the environment is read, and only entry points
           call it; all else takes a frozen ``Settings``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from shared.errors import ConfigError
from shared.events import Detector, present_detector
from shared.settings.alerting import IncidentSettings, refuse_unknown_labels
from shared.settings.analysis import (
    DetectionSettings,
    FeatureSettings,
    InputSettings,
    ModelSettings,
    QualitySettings,
    TrainSettings,
)
from shared.settings.exporting import OpenSearchSettings
from shared.settings.names import ALIASES, ENV_PREFIX, RENAMED, SECRETS, did_you_mean, variable_of
from shared.settings.notifying import NotifySettings
from shared.settings.routing import RouteSettings
from shared.settings.transport import (
    DashboardSettings,
    OutputSettings,
    PredictSettings,
    ProduceSettings,
    RegistrySettings,
    TelemetrySettings,
    TopicSettings,
)


class Settings(BaseSettings):
    """All settings of all services; environment names are ``LAPWING_<SECTION>__<NAME>``."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=ENV_PREFIX, env_nested_delimiter="__"
    )

    detector: Annotated[Detector, BeforeValidator(present_detector)] = Field(
        Detector.ENSEMBLE,
        description="detector: all views (ensemble), a trained model, or one view alone",
    )
    slot: str = Field(
        "",
        pattern=r"^[A-Za-z0-9_-]*$",
        description=(
            "stable and unique name of this predictor; empty = host name and process id, and no "
            "static membership"
        ),
    )
    outage_deadline_s: float = Field(
        300,
        gt=0,
        description=(
            "a service exits after this long without broker or registry (a later run of a "
            "training schedule fails); so does a predictor whose loop hangs"
        ),
    )
    engine: Literal["auto", "native", "python"] = Field(
        "auto",
        description=(
            "Kafka client: native reads and sends records in compiled code, Linux only; python is "
            "confluent-kafka's own; auto = native where it can be used"
        ),
    )
    models_dir: Path = Field(
        Path("models"), description="folder of models, shared by training and predictors"
    )
    state_dir: Path = Field(
        Path("state"), description="folder of snapshots; predictors may share it"
    )
    kafka: dict[str, str] = Field(
        default_factory=dict, description="any librdkafka setting; '_' becomes '.'"
    )
    registry: RegistrySettings = RegistrySettings()
    topics: TopicSettings = TopicSettings()
    input: InputSettings = InputSettings()
    output: OutputSettings = OutputSettings()
    features: FeatureSettings = FeatureSettings()
    detection: DetectionSettings = DetectionSettings()
    quality: QualitySettings = QualitySettings()
    models: ModelSettings = ModelSettings()
    train: TrainSettings = TrainSettings()
    predict: PredictSettings = PredictSettings()
    produce: ProduceSettings = ProduceSettings()
    incidents: IncidentSettings = IncidentSettings()
    notify: NotifySettings = NotifySettings()
    route: RouteSettings = RouteSettings()
    opensearch: OpenSearchSettings = OpenSearchSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    dashboard: DashboardSettings = DashboardSettings()

    @field_validator("kafka", mode="after")
    @classmethod
    def _dotted(cls, value: dict[str, str]) -> dict[str, str]:
        dotted = {name.lower().replace("_", "."): str(setting) for name, setting in value.items()}
        return {"bootstrap.servers": "localhost:9092"} | dotted

    @model_validator(mode="after")
    def _known_labels(self) -> Settings:
        known = self.incidents.label_names
        for name, target in self.notify.targets.items():
            refuse_unknown_labels(f"notify.targets.{name}.labels", target.labels, known)
        for number, silence in enumerate(self.notify.silences):
            refuse_unknown_labels(f"notify.silences.{number}.labels", silence.labels, known)
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take what is passed in and nothing else; ``load_settings`` adds environment and file."""
        return (init_settings,)

    @property
    def trained_detector(self) -> Detector:
        """What training fits."""
        return self.detector if self.detector.is_trained else Detector(self.train.member)

    @property
    def needs_registry(self) -> bool:
        """Whether the input or the results are in Avro."""
        return self.input.format == "avro" or not self.output.is_json

    @property
    def bootstrap(self) -> str:
        """Addresses of the brokers."""
        return self.kafka["bootstrap.servers"]


class _Environment(EnvSettingsSource):
    """pydantic's environment source, fed with a mapping instead of the process."""

    def __init__(self, settings_cls: type[BaseSettings], environ: Mapping[str, str]) -> None:
        self.given = {name.lower(): value for name, value in environ.items()}
        super().__init__(settings_cls)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return self.given

    def decode_complex_value(self, field_name: str, field: Any, value: Any) -> Any:
        if value.lstrip()[:1] not in ("[", "{"):
            return value
        try:
            return json.loads(value)
        except (ValueError, RecursionError) as error:
            names = [name for name, text in self.given.items() if text is value]
            raise ConfigError(
                f"{', '.join(names).upper() or field_name}: it begins like JSON but is not valid"
                f" JSON: {error}"
            ) from error


def load_settings(
    flags: Mapping[str, Any] | None = None,
    file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, str] | None = None,
) -> Settings:
    """Join flags, overrides, environment, file and defaults into one Settings.

    flags     : nested mapping, e.g. {"slot": "1", "predict": {"group": "b"}}; wins over all else
    file      : TOML; None = the file that LAPWING_CONFIG names, if any
    environ   : variables; None = the process's
    overrides : dotted name -> text as in the environment, over which it wins
    raises    : ConfigError that names every wrong setting and what is allowed
    """
    variables = _with_secrets(os.environ if environ is None else environ)
    variables |= {variable_of(name): text for name, text in (overrides or {}).items()}
    if file is None and variables.get("LAPWING_CONFIG"):
        file = Path(variables["LAPWING_CONFIG"])
    if file is not None and not file.is_file():
        raise ConfigError(f"settings file {file} does not exist")
    for name, setting in ALIASES.items():
        if variables.get(name):
            variables.setdefault(setting, variables[name])
    _refuse_unknown(variables)

    class Loaded(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            *_: Any,
            **__: Any,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return (
                init_settings,
                _Environment(settings_cls, variables),
                TomlConfigSettingsSource(settings_cls, file),
            )

    try:
        return Loaded(**(flags or {}))
    except ValidationError as error:
        raise ConfigError("\n".join(_sentence(e) for e in error.errors())) from error
    except ValueError as error:
        raise ConfigError(f"{file or 'environment'}: {error}") from error


def _with_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """Replace each ``..._FILE`` of a secret by the setting, with the file's first line.

    raises : ConfigError, which never holds what a file contains
    """
    found = dict(environ)
    for setting in SECRETS:
        name = variable_of(setting)
        path = found.pop(f"{name}_FILE", "")
        if not path:
            continue
        if found.get(name):
            raise ConfigError(f"{name} and {name}_FILE are both set: set one of them")
        try:
            lines = Path(path).read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is not UTF-8"
            raise ConfigError(f"{name}_FILE: {path} cannot be read: {why}") from error
        if len(lines) != 1 or not lines[0]:
            raise ConfigError(f"{name}_FILE: {path} has {len(lines)} lines; a secret is one line")
        found[name] = lines[0]
    return found


_NOT_SETTINGS = {
    "LAPWING_CONFIG",
    "LAPWING_NAB_DIR",
    "LAPWING_TRACES_DIR",
    "LAPWING_FAILPOINT",
}


def _refuse_unknown(environ: Mapping[str, str]) -> None:
    for name in environ:
        if name.startswith(ENV_PREFIX) and name not in _NOT_SETTINGS:
            top = name.removeprefix(ENV_PREFIX).split("__")[0].lower()
            if top not in Settings.model_fields:
                setting = name.removeprefix(ENV_PREFIX).lower().replace("__", ".", 1)
                raise ConfigError(
                    f"{name}: no such setting{did_you_mean(setting, Settings)}; the first part is"
                    f" one of {', '.join(sorted(Settings.model_fields))}"
                )


def _sentence(error: Any) -> str:
    path = [str(part) for part in error["loc"]]
    if not path:  # about several settings; its input would be all of them, with secrets
        return str(error["msg"]).removeprefix("Value error, ")
    name = ".".join(path)
    variable = ENV_PREFIX + "__".join(path).upper()
    if error["type"] == "extra_forbidden":
        if present := RENAMED.get(name.lower()):
            return f"{name} ({variable}): it is called {present} ({variable_of(present)}) now"
        return f"{name} ({variable}): no such setting{did_you_mean(name, Settings)}"
    sentence = f"{name} ({variable}): {error['msg'].removeprefix('Value error, ')}"
    is_secret = path[:1] in (["registry"], ["notify"], ["kafka"]) or path == ["dashboard", "token"]
    return sentence if is_secret else f"{sentence}; got {error['input']!r}"
