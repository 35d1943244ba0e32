"""The course of hours: how far the shape of the newest hours is from everything that the metric has shown before."""
