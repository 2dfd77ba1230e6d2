"""`perennial evaluate`: how good the risk would have been on the events of a file.

Reads a CSV file, and nothing of a vendor's own; writes only to a scratch database that is gone
afterwards. The events pass the real intake and the real sweep in the order of their arrival, on a
clock that follows them; then each period is ranked by models that knew what came before it.
"""
