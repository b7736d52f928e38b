"""Measurements of speed and of fairness, each with its bar; never imported by the package."""
