"""Trained models as plain arrays: their format, checks, signatures and scores."""
