-- The configuration, its revisions and the event log.
--
-- A resource is a row: what relations, uniqueness and order need are columns, the rest of its
-- configuration is one encoded message (gantry.v1), which evolves by the rules of protobuf.
-- Times are microseconds since 1970, UTC.

-- Where the configuration stands: one row.
CREATE TABLE head (
    id     INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    epoch  INTEGER NOT NULL CHECK (epoch > 0),
    number INTEGER NOT NULL CHECK (number >= 0)
) STRICT;

INSERT INTO head (id, epoch, number) VALUES (1, 1, 0);

CREATE TABLE clusters (
    id            TEXT    NOT NULL PRIMARY KEY,
    display_name  TEXT    NOT NULL,
    -- The revision number that last changed this row, and the one that last changed anything in
    -- the cluster.
    number        INTEGER NOT NULL,
    config_number INTEGER NOT NULL,
    create_time   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE virtual_services (
    cluster      TEXT    NOT NULL REFERENCES clusters (id),
    id           TEXT    NOT NULL,
    uid          TEXT    NOT NULL UNIQUE,
    display_name TEXT    NOT NULL,
    config       BLOB    NOT NULL,
    number       INTEGER NOT NULL,
    create_time  INTEGER NOT NULL,
    update_time  INTEGER NOT NULL,
    PRIMARY KEY (cluster, id)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX virtual_services_display_name
    ON virtual_services (cluster, display_name) WHERE display_name <> '';

CREATE TABLE real_servers (
    cluster         TEXT    NOT NULL,
    virtual_service TEXT    NOT NULL,
    id              TEXT    NOT NULL,
    display_name    TEXT    NOT NULL,
    config          BLOB    NOT NULL,
    number          INTEGER NOT NULL,
    PRIMARY KEY (cluster, virtual_service, id),
    FOREIGN KEY (cluster, virtual_service)
        REFERENCES virtual_services (cluster, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX real_servers_display_name
    ON real_servers (cluster, virtual_service, display_name) WHERE display_name <> '';

CREATE TABLE appliances (
    cluster   TEXT NOT NULL REFERENCES clusters (id),
    id        TEXT NOT NULL,
    -- Absent while its invitation is open.
    join_time INTEGER,
    -- SHA-256 of the public key whose certificate is good; an older one is not.
    key_hash  BLOB,
    PRIMARY KEY (cluster, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE invitations (
    -- SHA-256 of the token's secret: the secret itself is nowhere.
    secret_hash BLOB    NOT NULL PRIMARY KEY,
    cluster     TEXT    NOT NULL,
    appliance   TEXT    NOT NULL,
    expire_time INTEGER NOT NULL,
    spent_time  INTEGER,
    FOREIGN KEY (cluster, appliance) REFERENCES appliances (cluster, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- Every revision there ever was, and what it changed.
CREATE TABLE revisions (
    epoch   INTEGER NOT NULL,
    number  INTEGER NOT NULL,
    time    INTEGER NOT NULL,
    actor   TEXT    NOT NULL,
    comment TEXT    NOT NULL,
    PRIMARY KEY (epoch, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE revision_changes (
    epoch  INTEGER NOT NULL,
    number INTEGER NOT NULL,
    name   TEXT    NOT NULL,
    -- The encoded message before and after; absent: it did not exist.
    before BLOB,
    after  BLOB,
    PRIMARY KEY (epoch, number, name),
    FOREIGN KEY (epoch, number) REFERENCES revisions (epoch, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
    id       INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    time     INTEGER NOT NULL,
    severity INTEGER NOT NULL,
    type     TEXT    NOT NULL,
    subject  TEXT    NOT NULL,
    actor    TEXT    NOT NULL,
    message  TEXT    NOT NULL,
    comment  TEXT    NOT NULL,
    -- The revision that the change made; absent when the configuration did not change.
    epoch    INTEGER,
    number   INTEGER
) STRICT;

CREATE INDEX events_subject ON events (subject, id);

-- Creations by request id, so that a repeated request is answered and not carried out again.
CREATE TABLE requests (
    id          TEXT    NOT NULL PRIMARY KEY,
    fingerprint BLOB    NOT NULL,
    name        TEXT    NOT NULL,
    time        INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX requests_time ON requests (time);
