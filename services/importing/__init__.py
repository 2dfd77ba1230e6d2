"""The client behind `perennial import`: a CSV file of events or accounts, sent through ingest.

Reads the file (plain or .gz), speaks HTTP to ingest as any product app does, and writes one small
file per unfinished import below PERENNIAL_DATA_DIR/imports. It promises:

* every row ends as accepted or as rejected with its reason, or the import says that it stopped;
* rows of one account are sent in the file's order;
* the same file again changes nothing: an event without an id of its own is named after the file's
  content and its row, so equal rows stay separate events;
* an import that stopped goes on where everything before was answered.
"""
