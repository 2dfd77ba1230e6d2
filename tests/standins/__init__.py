"""Small real servers in the place of what we do not own."""
