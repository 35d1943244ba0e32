"""Labelled metrics of real machines: hits, false alarms and delays, by one protocol."""
