"""The whole job on one machine, shown while it runs."""
