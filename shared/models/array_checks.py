"""Checks of arrays that may come from an untrusted file, before a kernel follows them.

Invariant: a check raises ValueError that names the array and takes no memory of its size.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def need_array(owner: object, name: str, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> None:
    """Refuse an attribute that is not a contiguous array of this dtype and shape."""
    array = getattr(owner, name)
    if array.dtype != dtype or array.shape != shape or not array.flags.c_contiguous:
        raise ValueError(
            f"{name} is {array.dtype} {array.shape}, not contiguous {np.dtype(dtype)} {shape}"
        )


def kernel_rows(X: Floats, features: int) -> Floats:
    """Return rows contiguous and writable, as the kernels' signatures require.

    raises : ValueError when X has another number of columns
    """
    if X.ndim != 2 or X.shape[1] != features:
        raise ValueError(f"X has shape {X.shape}, the model takes (n, {features})")
    return np.require(X, np.float64, ["C", "W"])
