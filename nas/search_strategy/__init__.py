"""The search: which networks are tried next, how far each is trained, and what is recorded of them.

It may import all packages from `networks` to `latency`. `study` is the only module with Optuna, `surrogate` the only
one with scikit-learn, `calibration` the only one with scipy. Start reading with `engine.search`, then `sampler`.
"""
