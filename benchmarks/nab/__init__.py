"""The Numenta Anomaly Benchmark v1.1: series, scorers and result files.

Invariant: nothing depends on the name of a detector, file or category, and rows of the probation
           are never evaluated.
"""
