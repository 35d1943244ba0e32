"""A real Kafka, a real schema registry and Lapwing's services for the tests in this folder."""

from tests.support.services.fixtures import *  # noqa: F403 - each is a fixture, named in __all__
from tests.support.services.stack import replayed  # noqa: F401
