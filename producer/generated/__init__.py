"""A fleet of hosts whose anomalies are known, and the sample that is kept of it."""
