"""Season: what the same time of day has shown on the days before."""
