"""nas: neural architecture search over lightweight convolutional blocks, under budgets that are kept."""

__version__ = "0.2.0"
