"""The notifier's JSON API, `/api/v1`: all that the console shows of the notifier, and its steps.

Reads the notifier's tables, files and keys; writes through the same functions as the pages do.
"""
