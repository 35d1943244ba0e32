"""Shared by all services: vocabulary, computations, adapters of external systems, operations."""
