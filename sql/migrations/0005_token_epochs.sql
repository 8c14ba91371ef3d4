-- Tokens carry the epoch of their user; raising it ends all that were given out before.

ALTER TABLE users ADD COLUMN token_epoch integer NOT NULL DEFAULT 0;
