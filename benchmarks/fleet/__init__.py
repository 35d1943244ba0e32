"""Recall for ten kinds of anomalies in a generated fleet, at the same rate of false alarms."""
