-- What filters look for gets a column. New rows have it there and nowhere else.
ALTER TABLE jobs ADD COLUMN summary TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN start_time INTEGER;
ALTER TABLE jobs ADD COLUMN end_time INTEGER;

UPDATE jobs SET
    -- The first part of spec, behind a byte for the form: its length, seven bits to a byte and the lowest first, then the text. It was at most 1,024 bytes long.
    summary = (
        SELECT CAST(CASE WHEN low < 128 THEN substr(spec, 3, low) ELSE substr(spec, 4, low - 128 + 128 * high) END AS TEXT)
        FROM (
            SELECT 16 * instr(digits, substr(head, 1, 1)) + instr(digits, substr(head, 2, 1)) - 17 AS low,
                16 * instr(digits, substr(head, 3, 1)) + instr(digits, substr(head, 4, 1)) - 17 AS high
            FROM (SELECT hex(substr(spec, 2, 2)) AS head, '0123456789ABCDEF' AS digits)
        )
    ),
    -- When the first lease was granted; events are kept as long as their job.
    start_time = (
        SELECT time FROM events INDEXED BY events_of_job WHERE job = jobs.id AND kind = 2 ORDER BY revision LIMIT 1
    ),
    -- A job that has ended never changes again.
    end_time = CASE WHEN state > 3 THEN update_time END;
