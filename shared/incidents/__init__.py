"""Incidents: what an engineer on call is told, folded from the anomalies topic."""
