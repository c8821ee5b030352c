-- Who may log in to the System Overview page.

CREATE TABLE users (
    id            TEXT    NOT NULL PRIMARY KEY,
    role          TEXT    NOT NULL CHECK (role IN ('viewer', 'operator', 'administrator')),
    -- Argon2id in the PHC string format, with its parameters and salt.
    password_hash TEXT    NOT NULL,
    create_time   INTEGER NOT NULL,
    -- Sessions from before it are over.
    password_time INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
