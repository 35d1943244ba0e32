"""A real Kafka, a real schema registry, PostgreSQL and Kafka Connect for the tests here."""

from tests.support.services.fixtures import *  # noqa: F403 - each is a fixture, named in __all__
