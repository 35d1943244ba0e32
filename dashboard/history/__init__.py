"""The history of results in one SQLite file: written from the topics, read by the API."""
