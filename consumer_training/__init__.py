"""The training consumer: fits a detector to the input topic, publishes and evaluates it."""
