"""Bulk work, whoever brings it: lines, the calls that they ask for, and the lines of their results."""
