/**
 * Follow a video.
 * @param {import("../types").StreamOptions<import("../types").VideoStreamMessage>} options
 * @returns {import("../types").VideoStream}
 */
export declare function useVideoStream({ onProgress, ...options }: import("../types").StreamOptions<import("../types").VideoStreamMessage>): import("../types").VideoStream;
