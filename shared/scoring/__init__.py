"""From columns to verdicts: fold, score, calibrate, decide, explain; and the state needed."""
