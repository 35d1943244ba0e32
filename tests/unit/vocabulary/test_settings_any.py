"""Any environment or file gives settings, or an error that names what is wrong."""

import string
from types import UnionType
from typing import get_args

from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel

from shared.errors import ConfigError
from shared.settings import Settings, load_settings
from shared.settings.names import ENV_PREFIX

WORDS = (
    "",
    " ",
    "0",
    "-1",
    "1",
    "1e999",
    "nan",
    "inf",
    "true",
    "none",
    "null",
    "[]",
    "{}",
    '{"a": {}}',
    "[1, 2",
    "a,b",
    ",",
)
values = (
    st.sampled_from(WORDS) | st.text(max_size=30) | st.integers().map(str) | st.floats().map(str)
)


def names() -> list[str]:
    """Return every setting's variable, and those of the sections themselves."""
    found = []
    for name, field in Settings.model_fields.items():
        found.append(f"{ENV_PREFIX}{name.upper()}")
        kind = field.annotation
        if (
            isinstance(kind, type)
            and not isinstance(kind, UnionType)
            and not get_args(kind)
            and issubclass(kind, BaseModel)
        ):
            found += [f"{ENV_PREFIX}{name.upper()}__{inner.upper()}" for inner in kind.model_fields]
    return found


NAMES = names()


def loaded(**given) -> Settings | str:
    """Return the settings, or the error message."""
    try:
        return load_settings(**given)
    except ConfigError as error:
        return str(error)


@given(st.sampled_from(NAMES), values)
@example(f"{ENV_PREFIX}PREDICT__COMMIT_INTERVAL_MS", "9" * 5000)
@example(f"{ENV_PREFIX}DETECTION__METRICS", "[" * 5000)
def test_one_variable_of_any_value_is_taken_or_named(name: str, value: str) -> None:
    found = loaded(environ={name: value})
    section = name.removeprefix(ENV_PREFIX).split("__")[0].lower()
    assert isinstance(found, Settings) or name in found or section in found


others = st.text(string.ascii_uppercase + "_", max_size=20).map(ENV_PREFIX.__add__)


@given(st.dictionaries(st.sampled_from(NAMES) | others, values))
def test_many_variables_never_end_in_anything_but_settings_or_an_error(
    environ: dict[str, str],
) -> None:
    assert loaded(environ={**environ, "LAPWING_CONFIG": ""})


LINES = (
    "[predict]",
    "[input]",
    "[[input]]",
    "slot = 1",
    'slot = "a"',
    "commit_interval_ms = 50",
    "min_time = 2020-01-01",
    "x = [",
)


@given(st.lists(st.sampled_from(LINES) | st.text(max_size=20), max_size=6), st.binary(max_size=10))
def test_a_file_of_any_content_is_read_or_named(
    tmp_path_factory, text: list[str], tail: bytes
) -> None:
    file = tmp_path_factory.mktemp("settings") / "lapwing.toml"
    file.write_bytes("\n".join(text).encode("utf-8", "replace") + b"\n" + tail)
    assert loaded(file=file, environ={})
