"""Ingest: HTTP in, the log out; no database.

Reads the compacted `sources` topic (keys, and how each source's events are read). Writes
`usage-events` and its overflow, `unplaced-events` (of a user and no account), `directory-changes`
and `rejected`. Promises: what it answers as accepted is durable in the log; what it does not accept
is told, item by item where the format can, and kept in quarantine within bounds; what it holds in
memory is bounded.
"""
