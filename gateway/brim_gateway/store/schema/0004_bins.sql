-- What the quarters of a bin's height hold (brim.core.geometry); 0: volume goes with height.
ALTER TABLE bins ADD COLUMN shape INTEGER NOT NULL DEFAULT 0;

-- What devices that were removed have cost the concentrators' duty cycle: it counts for an hour, restart or not.
CREATE TABLE airtime_of_removed (
    gateway    TEXT    NOT NULL,
    band       TEXT    NOT NULL,
    end_us     INTEGER NOT NULL,
    airtime_us INTEGER NOT NULL
);
