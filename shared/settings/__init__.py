"""Every setting, its default and what is allowed; flags > environment > file > default."""

from shared.settings.alerting import IncidentSettings
from shared.settings.analysis import (
    DEFAULT_MODEL_BYTES,
    DetectionSettings,
    FeatureSettings,
    InputSettings,
    MetricRule,
    ModelSettings,
    QualitySettings,
    TrainSettings,
)
from shared.settings.exporting import OpenSearchSettings
from shared.settings.loading import Settings, load_settings
from shared.settings.names import ENV_PREFIX, RENAMED, variable_of
from shared.settings.notifying import (
    TEMPLATE_FIELDS,
    HoursSettings,
    NotifySettings,
    SilenceSettings,
    TargetSettings,
)
from shared.settings.routing import RouteSettings
from shared.settings.section import Section
from shared.settings.transport import (
    DashboardSettings,
    OutputSettings,
    PredictSettings,
    ProduceSettings,
    RegistrySettings,
    TelemetrySettings,
    TopicSettings,
)

__all__ = [
    "DEFAULT_MODEL_BYTES",
    "ENV_PREFIX",
    "RENAMED",
    "TEMPLATE_FIELDS",
    "DashboardSettings",
    "DetectionSettings",
    "FeatureSettings",
    "HoursSettings",
    "IncidentSettings",
    "InputSettings",
    "MetricRule",
    "ModelSettings",
    "NotifySettings",
    "OpenSearchSettings",
    "OutputSettings",
    "PredictSettings",
    "ProduceSettings",
    "QualitySettings",
    "RegistrySettings",
    "RouteSettings",
    "Section",
    "Settings",
    "SilenceSettings",
    "TargetSettings",
    "TelemetrySettings",
    "TopicSettings",
    "TrainSettings",
    "load_settings",
    "variable_of",
]
