"""A trained network as files that run without nas, each verified in a process of its own.

It imports everything down to `training`. Start reading with `artefacts`, then `verification`.
"""
