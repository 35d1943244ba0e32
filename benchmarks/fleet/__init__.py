"""What the detectors see of ten kinds of anomalies in a generated fleet, all at the same rate of
false alarms.
"""
