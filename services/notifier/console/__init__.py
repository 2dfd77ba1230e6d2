"""The console: the pages where CSMs work. Server-rendered; all works without JavaScript.

Reads the notifier's tables and scoring's read API; writes acknowledgements and closings.
"""
