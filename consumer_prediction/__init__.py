"""Prediction consumers: score every event in real time and write scores, anomalies and dead
letters.
"""
