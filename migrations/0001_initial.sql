-- Failures, bans, and how far each container's log has been consumed.
--
-- Times are seconds since the epoch; a cursor's `ns` is nanoseconds. `subject`
-- is a network in its canonical form: 203.0.113.7/32, 2001:db8::/64.

PRAGMA application_id = 0x646A6C31;  -- "djl1": how dockerjail knows its own file

CREATE TABLE ban (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,  -- a number is never given twice
    jail      TEXT    NOT NULL,
    subject   TEXT    NOT NULL,
    scope     TEXT    NOT NULL,  -- 'everything', 'nothing', or '80/tcp, 443/tcp'
    why       TEXT    NOT NULL,  -- how the scope was found
    at        REAL    NOT NULL,
    until     REAL,              -- null: for good
    failures  INTEGER NOT NULL,
    count     INTEGER NOT NULL,
    reason    TEXT    NOT NULL,
    ended_at  REAL,              -- null while nobody ended it; `until` ends it all the same
    ended_why TEXT,
    CHECK ((ended_at IS NULL) = (ended_why IS NULL))
) STRICT;

CREATE INDEX ban_subject ON ban (subject, jail);
CREATE INDEX ban_jail ON ban (jail);
CREATE INDEX ban_not_ended ON ban (until) WHERE ended_at IS NULL;
CREATE INDEX ban_end ON ban (coalesce(ended_at, until));

CREATE TABLE failure (
    id        INTEGER PRIMARY KEY,
    jail      TEXT    NOT NULL,
    subject   TEXT    NOT NULL,
    at        REAL    NOT NULL,
    container TEXT    NOT NULL,
    text      TEXT    NOT NULL,
    fields    TEXT,                        -- a JSON object; null when there are none
    spent     INTEGER NOT NULL DEFAULT 0,  -- 1: led to an offence, counts no more
    ban       INTEGER REFERENCES ban (id) DEFERRABLE INITIALLY DEFERRED,
    CHECK (spent IN (0, 1)),
    CHECK (spent = 1 OR ban IS NULL)
) STRICT;

CREATE INDEX failure_subject ON failure (subject, jail, spent);
CREATE INDEX failure_jail ON failure (jail);
CREATE INDEX failure_at ON failure (at) WHERE ban IS NULL;
CREATE INDEX failure_ban ON failure (ban) WHERE ban IS NOT NULL;

CREATE TABLE cursor (
    container TEXT    NOT NULL,
    stream    INTEGER NOT NULL CHECK (stream IN (1, 2)),
    ns        INTEGER NOT NULL,
    seen      INTEGER NOT NULL,
    PRIMARY KEY (container, stream)
) STRICT, WITHOUT ROWID;

-- How many there ever were: purging history does not lower them.
CREATE TABLE total (
    jail     TEXT    PRIMARY KEY,
    failures INTEGER NOT NULL DEFAULT 0,
    bans     INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE TRIGGER count_failure AFTER INSERT ON failure BEGIN
    INSERT INTO total (jail, failures) VALUES (new.jail, 1)
        ON CONFLICT (jail) DO UPDATE SET failures = failures + 1;
END;

-- Replacing a known ban is an update, which this does not see.
CREATE TRIGGER count_ban AFTER INSERT ON ban BEGIN
    INSERT INTO total (jail, bans) VALUES (new.jail, 1)
        ON CONFLICT (jail) DO UPDATE SET bans = bans + 1;
END;

-- For the operator with sqlite3: SELECT * FROM banned;
CREATE VIEW banned AS
SELECT
    id,
    jail,
    subject,
    scope,
    datetime(at, 'unixepoch', 'localtime') AS since,
    coalesce(datetime(until, 'unixepoch', 'localtime'), 'for good') AS until,
    failures,
    count,
    reason
FROM ban
WHERE ended_at IS NULL
    AND (until IS NULL OR until > CAST(strftime('%s', 'now') AS REAL));

CREATE VIEW failed AS
SELECT
    datetime(at, 'unixepoch', 'localtime') AS time,
    jail,
    subject,
    substr(container, 1, 12) AS container,
    text,
    CASE WHEN spent THEN 'yes' ELSE 'no' END AS spent,
    ban
FROM failure;
