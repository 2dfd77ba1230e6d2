"""The monthly review: one page that holds everything it shows, to be sent, printed and kept.

Reads scoring's API, in this process, and the notifier's tables; writes nothing.
"""
