"""Places and newest values of entities; names and version of what trained models see of a row."""
