-- What a video is shown with, for people who query the database; progress is NULL while the provider does not say.

CREATE OR REPLACE VIEW videos AS
SELECT id,
       user_id,
       (input ->> 'enhancement_id')::bigint AS enhancement_id,
       coalesce(output ->> 'prompt', input ->> 'prompt') AS prompt,
       (input ->> 'duration')::integer AS duration,
       status,
       progress AS step,
       CASE WHEN output ? 'percent' THEN (output ->> 'percent')::integer ELSE 0 END AS progress,
       message,
       '/uploads/' || (output ->> 'video_path') AS video_url,
       '/uploads/' || (output ->> 'thumbnail_path') AS thumbnail_url,
       output ->> 'video_model' AS video_model,
       error_code,
       error_message,
       extract(epoch FROM coalesce(completed_at, updated_at) - started_at)::float8 AS processing_time,
       created_at,
       updated_at,
       completed_at,
       input ->> 'language' AS language,
       '/uploads/' || (output ->> 'poster_path') AS poster_url,
       (output ->> 'width')::integer AS width,
       (output ->> 'height')::integer AS height
FROM tasks
WHERE kind = 'video';
