"""Scoring: reads `usage-events`, its overflow and `directory-changes`, keeps rolling indicators per
account, and states which accounts are likely to leave.

It writes the schema `scoring` and, through its outbox, the topics `accounts`, `flags`, `rejected`.
An event counts once, whatever is delivered twice; every risk comes with its reasons.
"""
