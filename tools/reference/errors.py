"""How far a tensor is from what is expected."""

import torch


def largest(found, expected):
    """The largest difference, relative to the largest magnitude."""
    return relative(found, expected, float("inf"))


def of_norm(found, expected):
    """The difference's norm, relative to the norm."""
    return relative(found, expected, 2)


def relative(found, expected, order):
    if found.shape != expected.shape:
        raise ValueError(f"shape {tuple(found.shape)}, expected {tuple(expected.shape)}")
    norm = lambda t: torch.linalg.vector_norm(t, order).item()
    error, scale = norm(found.to(expected.dtype) - expected), norm(expected)
    # Zeros (the gradient of what no student used) must be zeros here too.
    error = error / scale if scale > 0 else (0.0 if error == 0 else float("inf"))
    return error if error == error else float("inf")
