"""How long networks take: measured on a machine, or predicted from what was measured.

It imports `models`, `execution` and what those import. Start reading with `measure`.
"""
