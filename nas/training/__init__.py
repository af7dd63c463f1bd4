"""Datasets, short trainings of candidates, full trainings, and accuracy.

It imports `models`, `execution` and what those import, torch and torchvision. Start reading with `step`, then `proxy`.
"""
