"""Closed forms of the beta-binomial: what a group of answers will look like when the pass rate is only known as
Beta(alpha, beta).
"""

import numpy as np
from scipy.special import betaln


def mixed_group_probability(alpha: np.ndarray, beta: np.ndarray, group_size: int) -> np.ndarray:
    """Probability that a group of `group_size` answers holds both right and wrong ones, for a pass rate ~ Beta(alpha,
    beta).

    1 - B(a+G, b)/B(a, b) - B(a, b+G)/B(a, b), the beta-binomial's mass off its two ends. The log of each ratio is the
    sum over k < G of log((a+k)/(a+b+k)), taken with log1p, and the larger end with expm1: no cancellation where one end
    holds nearly all the mass. `alpha`, `beta` > 0, any one shape. Returns float64 in [0, 1].
    """
    a, b = np.asarray(alpha, np.float64), np.asarray(beta, np.float64)
    if group_size < 1:
        raise ValueError(f"group_size is {group_size}; expected at least 1")
    if not ((a > 0).all() and (b > 0).all()):
        raise ValueError("a Beta posterior has a parameter that is not above 0")
    log_all_right, log_all_wrong = np.zeros_like(a), np.zeros_like(a)
    for k in range(group_size):
        log_all_right -= np.log1p(b / (a + k))
        log_all_wrong -= np.log1p(a / (b + k))
    larger, smaller = np.maximum(log_all_right, log_all_wrong), np.minimum(log_all_right, log_all_wrong)
    return np.clip(-np.expm1(larger) - np.exp(smaller), 0.0, 1.0)


def log_evidence(right: np.ndarray, wrong: np.ndarray, alpha: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Log-probability, in nats, of one sequence of `right` and `wrong` answers for a pass rate ~ Beta(alpha, beta).

    log B(a + right, b + wrong) - log B(a, b): the beta-binomial without its binomial coefficient, which does not depend
    on the belief. Fractional counts stand for graded answers. Arrays broadcast against each other.
    """
    found: np.ndarray = betaln(alpha + right, beta + wrong) - betaln(alpha, beta)
    return found
