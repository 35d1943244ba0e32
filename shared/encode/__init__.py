"""From verdicts to bytes: scores, anomalies, activations and dead letters as Avro."""
