"""The training consumer: reads the input topic, fits a detector, publishes it as arrays, and says
how well it did.
"""
