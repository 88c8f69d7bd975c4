"""Statistics of comparisons: what a difference is worth.

`proportions` (exact and score methods for right/wrong), `quantities` (means, quantiles and ratios of noisy numbers) and
`sequential` (looking several times at growing data without raising the rate of false alarms).

Throughout, `error_rate` is the one-sided chance of each end: an interval holds its parameter with 1 - 2 * error_rate.
"""
