/**
 * Follow an enhancement.
 * @param {import("../types").StreamOptions<import("../types").EnhancementStreamMessage>} options
 * @returns {import("../types").EnhancementStream}
 */
export declare function useEnhancementStream(options: import("../types").StreamOptions<import("../types").EnhancementStreamMessage>): import("../types").EnhancementStream;
