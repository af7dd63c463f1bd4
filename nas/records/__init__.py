"""What was asked of nas, what came of it, and the folder that holds both, as frozen values.

It imports `networks` and `serialization`, and only the standard library. Start reading with `plan`, then `run_folder`.
"""
