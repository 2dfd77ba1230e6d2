"""The notifier: decides who is bothered about a flag, and when, and asks how it ended.

Reads the topics `flags` and `accounts` and scoring's read API; writes `outcomes` and `rejected`
through its outbox, and Slack and e-mail messages; serves the console. Owns the schema `notifier`.
Promises: one open intervention per account, type and reason; a person hears of a flag at least
once, normally exactly once; what is not sent is stored and counted with its reason.
"""
