// Interface 1, live: an enhancement's progress, image and script.

import { getEnhancement } from "../api/services.js";
import { useTaskStream } from "./useTaskStream.js";

const KIND = {
  load: getEnhancement,
  /** @param {import("../types").EnhancementTaskResponse} task */
  snapshot: (task) => ({
    progress: task.status === "failed" ? -1 : task.progress,
    status: task.status,
    message: task.message,
    timestamp: Date.parse(task.updated_at) / 1000,
    enhanced_image_url: task.enhanced_image_url,
    script: task.script,
    product_analysis: task.product_analysis,
    error: task.error_message ?? undefined,
    error_code: task.error_code ?? undefined,
    eta_seconds: task.eta_seconds,
    queue_position: task.queue_position,
  }),
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
