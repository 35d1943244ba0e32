"""Kernels that score a row by a trained model."""
