-- Failures by name that wait for the look-up. Their lines are behind the cursors already.

CREATE TABLE waiting_name (
    id        INTEGER PRIMARY KEY,
    jail      TEXT NOT NULL,
    name      TEXT NOT NULL,
    at        REAL NOT NULL,
    container TEXT NOT NULL,
    text      TEXT NOT NULL,
    fields    TEXT            -- a JSON object; null: none
) STRICT;
