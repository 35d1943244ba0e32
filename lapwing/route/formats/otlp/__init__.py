"""OTLP metrics, as protobuf and as JSON."""
