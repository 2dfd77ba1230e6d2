"""Flags: facts about one account that somebody should know, each with its reason why.

Reads an `IndicatorTable`, `Facts` and the `Rules`; writes nothing. `conditions` judges all accounts
at once, `decide` turns the judgement of one account and what is remembered of it into changes.
Promises: a flag is raised once per episode; stale data raises no usage flag, but clears.
"""
