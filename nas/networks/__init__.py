"""What a network is and costs, in whole numbers: blocks, architectures, spaces, profiles, diagrams.

It imports nothing of nas but `serialization`, and only the standard library (`diagram` has resvg for PNG). Every
candidate of a search is counted here, without torch. Start reading with `graph`, then `architecture`.
"""
