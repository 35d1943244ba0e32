"""The members of the ensemble, their calibration and policy, compiled by numba."""
