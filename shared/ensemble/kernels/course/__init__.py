"""The course of hours: how far its shape is from all that the metric has shown before."""
