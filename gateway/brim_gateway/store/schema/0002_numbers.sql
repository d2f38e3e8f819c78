-- Uniqueness: one bit for each number that a device has used, 64 to a row. An index over all readings costs a page of
-- writes for each of them; the newest block of each device lies together with those of all others.
CREATE TABLE newest_numbers (        -- the newest block of a device: bit (seq % 64) of `held` is seq
    dev   INTEGER PRIMARY KEY,
    epoch INTEGER NOT NULL,
    block INTEGER NOT NULL,          -- seq / 64
    held  INTEGER NOT NULL
);
CREATE TABLE older_numbers (         -- every other block
    dev   INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    block INTEGER NOT NULL,
    held  INTEGER NOT NULL,
    PRIMARY KEY (dev, epoch, block)
) WITHOUT ROWID;
INSERT INTO older_numbers
    SELECT dev, epoch, seq >> 6, sum(1 << (seq & 63)) FROM journal GROUP BY dev, epoch, seq >> 6;

-- The journal without what its readings say themselves; `id` is given by the writer and never used again.
CREATE TABLE kept (
    id          INTEGER PRIMARY KEY,
    received_us INTEGER NOT NULL,
    reading     BLOB    NOT NULL,   -- model.Reading as JSON
    state       BLOB,               -- model.BinState as JSON, where this reading advanced it
    events      BLOB                -- list of model.Event as JSON, where this reading began some
);
INSERT INTO kept SELECT id, received_us, reading, state, events FROM journal ORDER BY id;
DROP TABLE journal;
ALTER TABLE kept RENAME TO journal;

CREATE TABLE counters (              -- numbers of the whole database
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;
-- `bin_states` is brought up to the journal now and then, and at the opening from the rows after this one.
INSERT INTO counters SELECT 'states_to', coalesce(max(id), 0) FROM journal;

ALTER TABLE outputs ADD COLUMN client_id TEXT NOT NULL DEFAULT '';      -- at the broker; one for the database's life
ALTER TABLE outputs ADD COLUMN removed_us INTEGER;                      -- since when no configuration names it
ALTER TABLE outputs ADD COLUMN dropped INTEGER NOT NULL DEFAULT 0;      -- readings that the size limit took before it

CREATE TABLE dead_letters (          -- what a backend refused for good; bounded by the writer
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    output     TEXT NOT NULL,
    journal_id INTEGER NOT NULL,
    part       INTEGER NOT NULL,     -- which of the messages that this reading makes
    topic      TEXT NOT NULL,
    reason     TEXT NOT NULL,
    at_us      INTEGER NOT NULL
);
CREATE INDEX dead_letters_output ON dead_letters (output, id);

CREATE TABLE commands (              -- orders for bins that have not gone out yet
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    dev        TEXT NOT NULL,
    f_port     INTEGER NOT NULL,
    payload    BLOB NOT NULL,
    created_us INTEGER NOT NULL,
    expires_us INTEGER NOT NULL
);
