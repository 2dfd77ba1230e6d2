"""Pure decisions: no I/O, no clock, no log. Each returns its reason."""
