// Interface 2, live: a video's steps.

import { getVideo } from "../api/services.js";
import { useTaskStream } from "./useTaskStream.js";

const KIND = {
  load: getVideo,
  /** @param {import("../types").VideoResponse} video */
  snapshot: (video) => ({
    step: video.status === "failed" ? -1 : video.step,
    progress: video.progress,
    status: video.status,
    message: video.message,
    timestamp: Date.parse(video.updated_at) / 1000,
    video_url: video.video_url,
    thumbnail_url: video.thumbnail_url,
    error: video.error_message ?? undefined,
    error_code: video.error_code ?? undefined,
    eta_seconds: video.eta_seconds,
    queue_position: video.queue_position,
  }),
};

/**
 * Follow a video.
 * @param {import("../types").StreamOptions<import("../types").VideoStreamMessage>} options
 * @returns {import("../types").VideoStream}
 */
export function useVideoStream({ onProgress, ...options }) {
  const stream = useTaskStream(KIND, {
    ...options,
    onProgress: (_, message, event) => onProgress?.(event.step, message, event),
  });
  const { messages, isConnected, lastMessage } = stream;
  const step = Math.max(0, ...messages.map((message) => message.step ?? 0));
  return { messages, isConnected, lastMessage, step, progress: lastMessage?.progress ?? 0 };
}
