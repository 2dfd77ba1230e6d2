"""The commands of `perennial`, one module per group. Each imports what it needs as it runs:
an image carries the extra of one service.
"""
