"""Prediction consumers: score each event and write scores, anomalies and dead letters."""
