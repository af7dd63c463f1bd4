"""Where work runs: in this process, on Ray, by a command, on another machine; and under which conditions it ran.

It imports `records` and what `records` imports. `cluster` is the only module with Ray. Start reading with `jobs`.
"""
