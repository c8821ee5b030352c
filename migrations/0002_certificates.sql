-- TLS certificates that virtual services show their clients.
--
-- They are no part of the configuration's revisions: a key must not stand in a history that is read
-- back and compared. Nothing but this table holds a key.
CREATE TABLE certificates (
    id          TEXT    NOT NULL PRIMARY KEY,
    -- PEM, the leaf first.
    chain       TEXT    NOT NULL,
    private_key TEXT    NOT NULL,
    -- SHA-256 of both, to know the same again.
    digest      BLOB    NOT NULL,
    create_time INTEGER NOT NULL,
    update_time INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
