"""Linear probes whose optimum is proved: the convex objective of scikit-learn's LogisticRegression, for many C at once.

Read in this order: `logistic_path` (what a user calls), `objective` (the loss of one example, and a pass over all),
`certificate` (how far from the optimum, with the mathematics), `newton` (one step), `solver` (from step to step).
"""

from funcgrad.probes.logistic_path import Probes, logistic
from funcgrad.probes.newton import Tuning

__all__ = ["Probes", "Tuning", "logistic"]
