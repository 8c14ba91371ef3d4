-- Accounts, tasks, their paid steps and their events.

CREATE TABLE users (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email         text NOT NULL CHECK (length(email) BETWEEN 3 AND 320),
    password_hash text NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX users_email ON users (lower(email));

CREATE TABLE subscriptions (
    user_id       bigint PRIMARY KEY REFERENCES users ON DELETE CASCADE,
    plan          text NOT NULL,
    status        text NOT NULL CHECK (status IN ('active', 'cancelled', 'past_due')),
    period_end    timestamptz NOT NULL,
    monthly_quota integer CHECK (monthly_quota >= 0),  -- NULL: no limit
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now()
);

-- Tasks accepted in a calendar month (UTC). Outlives the tasks, so that deleting one does not refund it.
CREATE TABLE task_usage (
    user_id bigint NOT NULL REFERENCES users ON DELETE CASCADE,
    month   date NOT NULL,
    tasks   integer NOT NULL,
    PRIMARY KEY (user_id, month)
);

CREATE TABLE tasks (
    id                  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id             bigint NOT NULL REFERENCES users,
    kind                text NOT NULL,
    input               jsonb NOT NULL,
    output              jsonb NOT NULL DEFAULT '{}',
    idempotency_key     text,
    order_hash          bytea,                      -- of the order that came with the key
    status              text NOT NULL DEFAULT 'pending'
                        CHECK (status IN ('pending', 'processing', 'completed', 'failed', 'cancelled')),
    progress            smallint NOT NULL DEFAULT 0,
    message             text NOT NULL DEFAULT '',
    last_seq            integer NOT NULL DEFAULT 0,
    run_at              timestamptz NOT NULL DEFAULT now(),
    attempts            smallint NOT NULL DEFAULT 0,
    max_attempts        smallint NOT NULL,
    fence               bigint NOT NULL DEFAULT 0,  -- grows by one at every claim, never falls
    worker              text,
    lease_until         timestamptz,
    deadline_at         timestamptz,
    cancel_requested_at timestamptz,
    error_code          text,
    error_message       text,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    started_at          timestamptz,                -- of the first claim
    completed_at        timestamptz,
    CHECK ((status = 'processing') = (lease_until IS NOT NULL)),
    CHECK ((status IN ('completed', 'failed', 'cancelled')) = (completed_at IS NOT NULL)),
    CHECK ((status = 'failed') = (error_code IS NOT NULL)),
    CHECK (attempts BETWEEN 0 AND max_attempts)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

CREATE INDEX tasks_ready ON tasks (user_id, run_at, id) WHERE status = 'pending';
-- lease_until is not indexed: so heartbeats stay heap-only updates
CREATE INDEX tasks_running ON tasks (user_id) WHERE status = 'processing';
CREATE INDEX tasks_of_user ON tasks (user_id, id);
CREATE INDEX tasks_of_key ON tasks (user_id, (input ->> 'key'));  -- whose is a stored file?
CREATE INDEX tasks_ended ON tasks (completed_at) WHERE completed_at IS NOT NULL;
CREATE UNIQUE INDEX tasks_idempotency ON tasks (user_id, idempotency_key) WHERE idempotency_key IS NOT NULL;

-- One row a paid step: the gate before its calls, and the checkpoint of its result.
CREATE TABLE task_steps (
    task_id     bigint NOT NULL REFERENCES tasks ON DELETE CASCADE,
    step        text NOT NULL,
    state       text NOT NULL CHECK (state IN ('started', 'submitted', 'refused', 'ambiguous', 'done')),
    fence       bigint NOT NULL,
    model       text NOT NULL,
    calls       smallint NOT NULL DEFAULT 1,
    ambiguous   smallint NOT NULL DEFAULT 0,        -- calls whose outcome nobody can know
    provider_id text,
    result      jsonb,
    usage       jsonb,                              -- what the provider said it counted
    started_at  timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    PRIMARY KEY (task_id, step),
    CHECK ((state = 'done') = (result IS NOT NULL))
);

-- The ledger: every call of a provider. A lease calls a step once at most.
CREATE TABLE task_calls (
    task_id     bigint NOT NULL REFERENCES tasks ON DELETE CASCADE,
    step        text NOT NULL,
    fence       bigint NOT NULL,
    model       text NOT NULL,
    billed      boolean NOT NULL,
    outcome     text NOT NULL DEFAULT 'started'
                CHECK (outcome IN ('started', 'done', 'refused', 'ambiguous')),
    usage       jsonb,
    started_at  timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    PRIMARY KEY (task_id, step, fence)
);

-- What the streams replay. json, not jsonb: a replayed event is the same text as the live one.
CREATE TABLE task_events (
    task_id    bigint NOT NULL REFERENCES tasks ON DELETE CASCADE,
    seq        integer NOT NULL CHECK (seq > 0),
    data       json NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (task_id, seq)
);

-- For people who query the database.
CREATE VIEW enhancement_tasks AS
SELECT id,
       user_id,
       '/uploads/' || (input ->> 'original') AS original_image_path,
       input ->> 'user_description' AS user_description,
       (input ->> 'duration')::integer AS duration,
       input ->> 'language' AS language,
       '/uploads/' || (output ->> 'enhanced_path') AS enhanced_image_url,
       output ->> 'script' AS script,
       output ->> 'product_analysis' AS product_analysis,
       status,
       progress,
       message,
       error_code,
       error_message,
       coalesce((output ->> 'tokens_used')::integer, 0) AS tokens_used,
       extract(epoch FROM coalesce(completed_at, updated_at) - started_at)::float8 AS processing_time,
       output ->> 'image_model' AS image_model,
       output ->> 'script_model' AS script_model,
       created_at,
       updated_at,
       completed_at
FROM tasks
WHERE kind = 'enhancement';

CREATE VIEW videos AS
SELECT id,
       user_id,
       (input ->> 'enhancement_id')::bigint AS enhancement_id,
       input ->> 'prompt' AS prompt,
       (input ->> 'duration')::integer AS duration,
       status,
       progress AS step,
       coalesce((output ->> 'percent')::integer, 0) AS progress,
       message,
       '/uploads/' || (output ->> 'video_path') AS video_url,
       '/uploads/' || (output ->> 'thumbnail_path') AS thumbnail_url,
       output ->> 'video_model' AS video_model,
       error_code,
       error_message,
       extract(epoch FROM coalesce(completed_at, updated_at) - started_at)::float8 AS processing_time,
       created_at,
       updated_at,
       completed_at
FROM tasks
WHERE kind = 'video';
