"""The Numenta Anomaly Benchmark v1.1: series, judges and result files; no judge knows which detector
                                    it judges.

Law: nothing depends on the name of a file or a category, and rows of the probation are never
     judged.
"""
