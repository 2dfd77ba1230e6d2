"""The pure core of scoring: usage events in, indicators, risk, bands and flags out.

No I/O, no clock, no log: what is needed comes in as arguments (`now` too), what is decided goes
out as values with their reasons.
"""
