"""From a tuple to a number or ⊥: thresholds, their calibration, fallbacks and what to watch in service."""
