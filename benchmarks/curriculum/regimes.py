"""The regimes that samplers are compared in.

The constants were set with uniform sampling alone, before any other sampler was run, and not moved since; "unmemorised"
was added afterwards, when memory turned out to decide between samplers. Ease of the tiers and fractions of trivial and
impossible problems: 38% of the groups of eight are mixed at first, as in sets with a wide range of difficulty. `rate`:
about half of the problems that can be solved pass 90% when the budget is spent, as RLCS's own report has it after 200
steps (arXiv 2507.01006, section 5.3).
"""

from dataclasses import replace

from synthetic_learner import Regime

TAILS = Regime(
    "heavy tails: 20% of the problems trivial, 25% impossible, tiers from easy to out of reach",
    tier_ease=(2.0, 0.5, -1.0, -2.5, -4.0),
    spread=1.0,
    trivial=0.20,
    impossible=0.25,
    rate=0.7,
)
MODERATE = replace(
    TAILS,
    about="most problems moderate from the start; 5% trivial, 5% impossible",
    tier_ease=(1.0, 0.5, 0.0, -0.5, -1.0),
    spread=0.7,
    trivial=0.05,
    impossible=0.05,
    rate=0.5,
)

REGIMES: dict[str, Regime] = {
    "tails": TAILS,
    "moderate": MODERATE,
    "unmemorised": replace(TAILS, about="heavy tails, repeats of a problem teach as much as the first time", memorise=0.0),
    "fast": replace(TAILS, about="heavy tails, a learner four times as fast, a quarter of the budget", rate=2.8, steps=50),
    "bimodal": replace(TAILS, about="heavy tails, half of every tier 2.5 logits easier and half harder", split=2.5, rate=0.8),
    "adam": replace(TAILS, about="heavy tails, a step goes with the square root of its groups", normalise=0.5, rate=0.5),
    "mean": replace(TAILS, about="heavy tails, a step is as large however few its groups", normalise=1.0, rate=0.3),
}
