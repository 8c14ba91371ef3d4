// Interface 1, live: an enhancement's progress, image and script.

import { enhancements } from "../api/services.js";
import { useTaskStream } from "./useTaskStream.js";

const KIND = {
  load: enhancements.get,
  /** @param {import("../types").EnhancementTaskResponse} task */
  reached: ({ status, progress }) => ({ progress: status === "failed" ? -1 : progress }),
};

/**
 * Follow an enhancement.
 * @param {import("../types").StreamOptions<import("../types").EnhancementStreamMessage>} options
 * @returns {import("../types").EnhancementStream}
 */
export function useEnhancementStream(options) {
  const stream = useTaskStream(KIND, options);
  const progress = Math.max(0, ...stream.messages.map((message) => message.progress));
  return { ...stream, progress };
}
