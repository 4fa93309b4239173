-- What a ban was made for, whether it is carried out, and what it had blocked when it ended;
-- and whom operators let pass whatever a ban says.

ALTER TABLE ban ADD COLUMN cause TEXT NOT NULL DEFAULT 'failures';  -- or 'bans', 'neighbours', 'operator'
ALTER TABLE ban ADD COLUMN mode TEXT NOT NULL DEFAULT 'enforce';    -- or 'observe': in name only
ALTER TABLE ban ADD COLUMN container TEXT NOT NULL DEFAULT '';      -- whose line was the last
ALTER TABLE ban ADD COLUMN forced INTEGER NOT NULL DEFAULT 0 CHECK (forced IN (0, 1));
ALTER TABLE ban ADD COLUMN packets INTEGER;                         -- null: nobody counted
ALTER TABLE ban ADD COLUMN bytes INTEGER CHECK ((packets IS NULL) = (bytes IS NULL));

-- So far only bans by hand were made for no failure.
UPDATE ban SET cause = 'operator' WHERE failures = 0;
UPDATE ban SET container = coalesce(
    (SELECT container FROM failure WHERE failure.ban = ban.id ORDER BY at DESC, id DESC LIMIT 1),
    ''
);

-- A subject's bans are asked for by time, whatever the jail.
DROP INDEX ban_subject;
CREATE INDEX ban_subject ON ban (subject, at);

CREATE TABLE allowance (
    who     TEXT PRIMARY KEY,  -- an address, a network, or the name of a host
    at      REAL NOT NULL,
    until   REAL,              -- null: for good
    comment TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Where containers on macvlan networks were last: bans stand there before the Engine has answered.
CREATE TABLE guarded (
    device  TEXT NOT NULL,
    address TEXT NOT NULL,
    PRIMARY KEY (device, address)
) STRICT, WITHOUT ROWID;

DROP VIEW banned;

-- For the operator with sqlite3: SELECT * FROM banned;
CREATE VIEW banned AS
SELECT
    id,
    jail,
    subject,
    scope,
    blocktype,
    mode,
    datetime(at, 'unixepoch', 'localtime') AS since,
    coalesce(datetime(until, 'unixepoch', 'localtime'), 'for good') AS until,
    cause,
    failures,
    count,
    container,
    CASE WHEN forced THEN 'yes' ELSE 'no' END AS forced,
    reason
FROM ban
WHERE ended_at IS NULL
    AND (until IS NULL OR until > CAST(strftime('%s', 'now') AS REAL));

CREATE VIEW allowed AS
SELECT
    who,
    datetime(at, 'unixepoch', 'localtime') AS since,
    coalesce(datetime(until, 'unixepoch', 'localtime'), 'for good') AS until,
    comment
FROM allowance
WHERE until IS NULL OR until > CAST(strftime('%s', 'now') AS REAL);
