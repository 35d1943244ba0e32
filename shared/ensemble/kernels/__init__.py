"""Loops of the detector: what is remembered, what comes out, and the fold over rows."""
