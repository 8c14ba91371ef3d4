// Interface 2, live: a video's steps.

import { videos } from "../api/services.js";
import { useTaskStream } from "./useTaskStream.js";

const KIND = {
  load: videos.get,
  /** @param {import("../types").VideoResponse} video */
  reached: ({ status, step }) => ({ step: status === "failed" ? -1 : step }),
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
