"""A generated fleet of hosts with labelled anomalies, and the sample in ``data/sample``."""
