-- The lists of a user's tasks: by kind and status, newest first. It serves what tasks_of_user did, too.
-- By -id, not id: else the planner may walk the primary key in search of a state that is rare.

CREATE INDEX tasks_listed ON tasks (user_id, kind, status, (-id));
DROP INDEX tasks_of_user;
