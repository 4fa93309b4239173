-- Whether a ban drops packets without a word or answers them. Bans so far dropped.

ALTER TABLE ban ADD COLUMN blocktype TEXT NOT NULL DEFAULT 'drop';  -- 'drop' or 'reject'

DROP VIEW banned;

-- For the operator with sqlite3: SELECT * FROM banned;
CREATE VIEW banned AS
SELECT
    id,
    jail,
    subject,
    scope,
    blocktype,
    datetime(at, 'unixepoch', 'localtime') AS since,
    coalesce(datetime(until, 'unixepoch', 'localtime'), 'for good') AS until,
    failures,
    count,
    reason
FROM ban
WHERE ended_at IS NULL
    AND (until IS NULL OR until > CAST(strftime('%s', 'now') AS REAL));
