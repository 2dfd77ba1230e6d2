"""Ingest: HTTP in, the log out; no database.

Reads the compacted `sources` topic (keys). Writes `usage-events` and `directory-changes`. Promises:
what it answers as accepted is durable in the log; what it does not accept is told, item by item,
with a reason; what it holds in memory is bounded.
"""
