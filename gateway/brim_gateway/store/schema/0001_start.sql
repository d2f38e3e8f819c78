-- The journal: append-only. `id` is the order in which readings were committed, and what cursors count.
-- dev is the EUI-64 as a signed 64-bit integer, so that uniqueness costs an integer index and not a text one.
CREATE TABLE journal (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    dev         INTEGER NOT NULL,
    epoch       INTEGER NOT NULL,
    seq         INTEGER NOT NULL,
    time_us     INTEGER NOT NULL,
    received_us INTEGER NOT NULL,
    reading     BLOB    NOT NULL,   -- model.Reading as JSON
    state       BLOB,               -- model.BinState as JSON, where this reading advanced it
    events      BLOB                -- list of model.Event as JSON, where this reading began some
);
CREATE UNIQUE INDEX journal_uid ON journal (dev, epoch, seq);

CREATE TABLE bins (
    bin           TEXT PRIMARY KEY,
    dev           TEXT NOT NULL UNIQUE,
    link          TEXT NOT NULL,
    decoder       TEXT NOT NULL,
    empty_mm      INTEGER NOT NULL,
    full_mm       INTEGER NOT NULL,
    lat           REAL,
    lon           REAL,
    password_hash TEXT
) WITHOUT ROWID;

CREATE TABLE devices (              -- LoRaWAN: keys, sessions and counters, network.device.DeviceRow as JSON
    dev TEXT PRIMARY KEY,
    row BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE bin_states (
    bin   TEXT PRIMARY KEY,
    state BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE outputs (
    name       TEXT PRIMARY KEY,
    cursor     INTEGER NOT NULL,    -- the highest journal.id that this output has handed over, with all before it
    created_us INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE quarantine (           -- what an authenticated device sent and no decoder reads; bounded by the writer
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    dev         TEXT NOT NULL,
    source      TEXT NOT NULL,
    received_us INTEGER NOT NULL,
    reason      TEXT NOT NULL,
    payload     BLOB NOT NULL
);
