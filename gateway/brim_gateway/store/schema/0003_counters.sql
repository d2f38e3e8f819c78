-- From now on `journal.state` holds only what the reading of its row does not say (store.carried). Rows of before keep
-- the whole state and are read as they are; an older program could not read the new ones, hence the number.

-- The newest counter of a LoRaWAN session where nothing else of its device has changed: it changes with every uplink, and
-- `devices.row` is ten times as long. The higher of the two counts.
CREATE TABLE uplink_counters (
    dev      INTEGER PRIMARY KEY,    -- the EUI-64 as a signed 64-bit integer
    session  INTEGER NOT NULL,       -- Session.number
    f_cnt_up INTEGER NOT NULL
);
