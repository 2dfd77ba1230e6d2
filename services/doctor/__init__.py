"""`perennial doctor`: looks at everything this deployment stands on, and says what to do.

It reads and asks; it changes nothing, sends no message and joins no group. Each check is one
function that returns findings; `examination.py` runs them, and what one of them raises is a finding
too.
"""
