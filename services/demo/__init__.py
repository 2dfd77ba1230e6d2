"""`perennial demo`: a simulated vendor whose accounts use its product, sent through the HTTP API.

Everything here is synthetic: accounts, people, prices and use are invented by a generator with a
fixed seed (see `simulator`). It shows how Perennial works, and proves nothing about churn.
"""
