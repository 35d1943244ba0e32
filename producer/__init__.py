"""The producer replays series of CSV files or a generated fleet into the input topic."""
