-- What the quarters of a bin's height hold (brim.core.geometry); 0: volume goes with height.
ALTER TABLE bins ADD COLUMN shape INTEGER NOT NULL DEFAULT 0;
