"""What would have been alarmed: the detector over recorded data, its figures and its report."""
